//! Stable Diffusion 3.5 on candle, equal to diffusers pixel for pixel.
//!
//! The crate knows directories, tensors and numbers. It knows nothing of HTTP, queues,
//! environment variables or the wall clock's date: whoever calls it passes everything in.
//!
//! Start at [`Pipeline`]: load once, generate many times from one thread.

pub mod bench;
mod builtin;
mod card;
mod checkpoint;
mod config;
mod denoise;
mod error;
mod files;
mod finish;
mod finite;
mod generate;
#[cfg(test)]
mod golden;
mod gpu;
mod inspect;
mod layers;
mod manifest;
mod mmdit;
mod noise;
mod picture;
mod pipeline;
mod plan;
mod preview;
mod prompts;
mod random;
mod resize;
mod safety;
mod schedule;
mod shortcuts;
mod source;
mod start;
mod text;
mod vae;
mod weights;

#[cfg(any(test, fuzzing))]
pub use weights::fuzzing;

pub use card::ModelCard;
pub use error::{Error, Result, Stage};
pub use finish::Painted;
pub use generate::{
    Begin, Control, DType, Device, GenerateRequest, Generated, LoadOptions, Observer, Step, Streams, Timings,
};
pub use gpu::{DeviceKernels, cuda_devices, device_kernels};
pub use inspect::{InspectedPart, Inspection, Layout, Missing, inspect};
pub use manifest::{ClassifierManifest, Endpoint, Manifest};
pub use picture::Picture;
pub use pipeline::{Pipeline, Prefetcher};
pub use plan::{Activations, Part, Plan, Work};
pub use safety::{Measure, SafetyOptions, SafetySource, Verdict};
pub use shortcuts::{GuidanceInterval, Shortcuts, Skipped};
pub use source::ModelSource;
