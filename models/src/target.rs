//! The device and precision that tensors are loaded to, and how the layers built from them compute.

use crate::load_options::{Streamed, Streams};
use crate::ops::Ops;
use crate::{Error, Result, gpu};
use candle_core::{DType, Device};

/// Where tensors go and how the layers built from them compute.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) device: Device,
    /// Keeps the device open, if it is a GPU.
    pub(crate) _open: Option<gpu::Handle>,
    pub(crate) dtype: DType,
    pub(crate) ops: Ops,
    /// Which matrices stay in their files.
    pub(crate) streamed: Streamed,
}

impl Target {
    /// With every matrix in memory.
    pub(crate) fn new(options: &crate::LoadOptions) -> Result<Self> {
        let fp8 = options.dtype == crate::DType::Fp8;
        let (device, open) = match options.device {
            crate::Device::Cpu if fp8 => {
                return Err(Error::Fp8("fp8 needs an NVIDIA Hopper GPU (H100, H200)".into()));
            }
            crate::Device::Cpu => (Device::Cpu, None),
            crate::Device::Cuda(ordinal) => {
                let handle = gpu::open(ordinal, fp8, options.cache.as_deref())?;
                (handle.device().clone(), Some(handle))
            }
        };
        let dtype = match options.dtype {
            crate::DType::F32 => DType::F32,
            crate::DType::Bf16 | crate::DType::Fp8 => DType::BF16,
        };
        // Plain candle has no fp8.
        let fp8 = fp8 && options.fused;
        let two_streams =
            options.fused && device.is_cuda() && dtype == DType::BF16 && options.streams == Streams::Two;
        let ops = Ops { fused: options.fused, fp8, two_streams };
        Ok(Self { device, _open: open, dtype, ops, streamed: Streamed::Nothing })
    }

    /// For looking at files without a device.
    pub(crate) fn host() -> Self {
        Self {
            device: Device::Cpu,
            _open: None,
            dtype: DType::F32,
            ops: Ops::PLAIN,
            streamed: Streamed::Nothing,
        }
    }

    /// With these matrices in their files.
    pub(crate) fn streaming(self, streamed: Streamed) -> Self {
        Self { streamed, ..self }
    }
}
