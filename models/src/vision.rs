//! Images as networks read them: vision transformers of transformers, and what is done to an image before.

mod image_size;
mod preprocess;
mod processing;
mod tower;

pub(crate) use image_size::{Sides, check_images};
pub(crate) use preprocess::Preprocessor;
pub(crate) use processing::{NetworkKind, Processing, ProcessorConfig};
pub(crate) use tower::{Shape, TensorNames, Tower};
