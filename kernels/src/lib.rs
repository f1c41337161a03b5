//! Fused operations of a diffusion transformer and its VAE, as candle custom ops.
//!
//! This crate knows sizes, not models: every head count, width and group count is an argument. Each op
//! is a safe function over candle tensors that checks shapes once and fails with the shapes it got;
//! inside, sizes are trusted. Storage is f32 or bf16, sums are f32, and a result is rounded once; where
//! the processor multiplies bf16, so are attention's probabilities.
//! No result depends on the number of threads, and a batch element's bits do not depend on the batch.

mod add_activate;
mod attention;
mod conv2d;
mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
mod gated_add;
mod group_norm;
mod joint_qkv;
mod linear;
mod modulate;
mod norm;
mod options;
mod out_of_memory;
#[cfg(test)]
mod testing;

pub use add_activate::add_activate;
pub use attention::{attention, biased_attention};
pub use conv2d::conv2d;
pub use cpu::isa::Isa;
#[cfg(feature = "cuda")]
pub use cuda::{Rowwise, quantize_rowwise};
#[cfg(feature = "cuda")]
pub use gated_add::gated_add_modulate_rowwise;
pub use gated_add::{gated_add, gated_add_modulate};
pub use group_norm::group_norm;
pub use joint_qkv::joint_qkv;
pub use linear::{PackedWeight, linear, linear_packed};
pub use modulate::layer_norm_modulate;
#[cfg(feature = "cuda")]
pub use modulate::layer_norm_modulate_rowwise;
pub use norm::{layer_norm, rms_norm};
pub use options::{Activation, Conv2dSpec};
pub use out_of_memory::{OutOfMemory, is_out_of_memory};
