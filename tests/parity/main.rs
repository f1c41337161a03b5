//! Our pipeline against diffusers' own tensors, stage by stage, on tiny random models of every shape.
//!
//! `golden/` holds the models and what diffusers made of them; `export_golden.py` says how. No Python runs here.

mod checkpoint;
mod formats;
mod golden;
#[cfg(feature = "cuda")]
mod gpu;
mod init_image;
mod pipeline;
mod shortcuts;
mod tokens;
