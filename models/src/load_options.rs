//! How a model is loaded: device, precision, and what is left out.

use std::path::PathBuf;

/// Where tensors live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// The host's processor.
    Cpu,
    /// One CUDA GPU by ordinal.
    Cuda(usize),
}

/// Precision of weights and activations. Latents, sigmas and noise are always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DType {
    /// 32-bit floats: exact against diffusers.
    F32,
    /// bfloat16 weights and activations, f32 accumulation.
    Bf16,
    /// Bf16, but the transformer's blocks multiply in fp8 (e4m3) with a scale for each row; Hopper only.
    Fp8,
}

impl DType {
    /// As the command line and reports spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Fp8 => "fp8",
        }
    }
}

/// How to load a model.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Where to run.
    pub device: Device,
    /// In which precision.
    pub dtype: DType,
    /// `false` replaces every fused op by plain candle: slow, for bisecting an error.
    pub fused: bool,
    /// Where to keep what is found out about a device by trying: which algorithm of a matrix product is the fastest. A
    /// GPU needs it to generate the same bytes for a seed in every process.
    pub cache: Option<PathBuf>,
    /// How many queues of work a GPU gets.
    pub streams: Streams,
    /// `false` leaves out T5, which every SD3.5 model generates without: it follows long prompts less closely then (diffusers with
    /// `text_encoder_3=None`).
    pub t5: bool,
    /// The noise schedule's shift, for a checkpoint file, which does not say one; `None`: that of the published model.
    pub shift: Option<f64>,
    /// Which weights stay in memory.
    pub memory: MemoryMode,
}

impl LoadOptions {
    /// The fused ops on two streams, and nothing kept.
    pub const fn new(device: Device, dtype: DType) -> Self {
        Self {
            device,
            dtype,
            fused: true,
            cache: None,
            streams: Streams::Two,
            t5: true,
            shift: None,
            memory: MemoryMode::Resident,
        }
    }
}

/// Which weights stay in memory; the others are read from their files for each product that needs them. The images are the
/// same; on a GPU, where steps are not captured while they read files, but for the last bits. Convolutions, norms and biases
/// stay in every mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemoryMode {
    /// All of them.
    Resident,
    /// Those that every step reads: not the text encoders, nor the transformer's adaLN layers, which a request reads once.
    Offload,
    /// No matrices of the text encoders and the transformer. A step takes as long as reading the transformer, or longer.
    Stream,
}

impl MemoryMode {
    /// From the fastest to the one that needs the least memory.
    pub const ALL: [Self; 3] = [Self::Resident, Self::Offload, Self::Stream];

    /// As the command line and reports spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Resident => "resident",
            Self::Offload => "offload",
            Self::Stream => "stream",
        }
    }

    /// The matrices of the text encoders that stay in their files.
    pub(crate) fn of_text(self) -> Streamed {
        if self == Self::Resident { Streamed::Nothing } else { Streamed::Everything }
    }

    /// The same of the transformer and of what is added to it.
    pub(crate) fn of_transformer(self) -> Streamed {
        match self {
            Self::Resident => Streamed::Nothing,
            Self::Offload => Streamed::ReadOnce,
            Self::Stream => Streamed::Everything,
        }
    }
}

/// Matrices of a network that stay in their files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Streamed {
    Nothing,
    /// Those that a request reads once.
    ReadOnce,
    Everything,
}

/// How a GPU gets the work of a captured step. The images are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streams {
    /// One op after the other: for measuring the gain of the second stream.
    One,
    /// The text's work of a block concurrent with the image's, in bf16 and fp8.
    Two,
}
