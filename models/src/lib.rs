//! Stable Diffusion 3.5 on candle, equal to diffusers pixel for pixel.
//!
//! The crate knows directories, tensors and numbers. It knows nothing of HTTP, queues,
//! environment variables or the wall clock's date: the caller passes everything in.
//!
//! Start at [`Pipeline`]: load once, generate many times from one thread.

pub mod bench;
mod builtin;
mod card;
mod checked;
mod checkpoint;
mod config;
mod content;
mod controlnet;
mod convert;
mod decode;
mod denoise;
mod error;
mod files;
mod finite;
mod generate;
#[cfg(test)]
mod golden;
mod gpu;
mod image;
mod initial_latents;
mod inpaint;
mod inspect;
mod ip_adapter;
mod layers;
mod load_options;
mod loop_state;
mod lora;
mod low_rank;
mod manifest;
mod mmdit;
mod network_file;
mod noise;
mod ops;
mod pipeline;
mod plan;
mod planted;
mod preview;
mod probe;
mod prompts;
mod random;
mod resize;
mod safety;
mod schedule;
mod shortcuts;
mod source;
mod target;
mod text;
mod vae;
mod vision;
mod vocabulary;
mod weight_file;
mod weights;

#[cfg(any(test, fuzzing))]
pub use weights::fuzzing;

pub use card::ModelCard;
pub use checkpoint::Component;
pub use controlnet::check_controlnet;
pub use convert::{Conversion, ConvertTo, Converted};
pub use decode::{Decoding, PendingImages};
pub use error::{Error, Result, Stage};
pub use generate::{
    Control, ControlNet, GenerateRequest, Generated, ImageEncoderFiles, InitImage, IpAdapter, Lora, Observer,
    SkipLayerGuidance, Step, Timings,
};
pub use gpu::{DeviceKernels, cuda_devices, device_kernels};
pub use image::Image;
pub use inspect::{InspectedPart, Inspection, Layout, Missing, inspect};
pub use ip_adapter::check_ip_adapter;
pub use load_options::{DType, Device, LoadOptions, MemoryMode, Streams};
pub use lora::{MAX_LORAS, check_lora};
pub use manifest::{ClassifierManifest, Manifest};
pub use ops::CpuIsa;
pub use pipeline::{Pipeline, Prefetcher};
pub use plan::{Activations, Plan, PlannedPart, Work};
#[cfg(feature = "planted-failures")]
pub use planted::Allocation;
pub use safety::{Measure, SafetyOptions, SafetySource, SafetyVerdict};
pub use shortcuts::{GuidanceInterval, Shortcuts, Skipped};
pub use source::ModelSource;
pub use weight_file::{FILE_START, check_start};
