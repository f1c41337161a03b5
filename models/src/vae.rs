//! The VAE (diffusers `AutoencoderKL`): latents to pixels, and pixels to latents.

mod blocks;
mod decoder;
mod encoder;

pub(crate) use decoder::Decoder;
pub(crate) use encoder::Encoder;
