//! Our pipeline against diffusers' own tensors, stage by stage, on tiny random models of every shape.
//!
//! `golden/` contains the models and diffusers' results, written by `export_golden.py`. No Python runs here.

mod checkpoint;
mod controlnet;
mod formats;
mod gguf;
mod golden;
#[cfg(feature = "cuda")]
mod gpu;
mod init_image;
mod ip_adapter;
mod ip_adapter_files;
mod lora;
mod memory_modes;
mod mixed_precision;
mod original_controlnet;
mod pipeline;
mod shortcuts;
mod skip_layers;
mod tokens;
