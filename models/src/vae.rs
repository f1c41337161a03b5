//! The VAE (diffusers `AutoencoderKL`): latents to pixels, and pixels to latents.

mod blocks;
mod decoder;
mod encoder;
mod tiles;

pub(crate) use decoder::Decoder;
pub(crate) use encoder::{Encoder, Posterior};
pub(crate) use tiles::Tiles;
