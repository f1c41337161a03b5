//! Tensors as kernels see them: a device address with sizes and strides in elements.

use super::arguments::Strides;
use super::device::Gpu;
use super::{allocation, pass, poison};
use candle_core::{DType, Device, Layout, Result, Shape, Storage, Tensor, bail};
use std::sync::Arc;

/// A tensor that a kernel reads, or updates in place.
///
/// An address stays good after the tensor is dropped, in stream order: every op runs on the one stream of its candle
/// device, and candle frees memory on that stream too. What a captured step uses on a second stream is noted
/// ([`pass::touch`]).
pub(crate) struct Input<'a> {
    tensor: &'a Tensor,
    pub(crate) layout: &'a Layout,
    pub(crate) dtype: DType,
    op: &'static str,
}

/// `[rows, width]` or `[batch, rows, width]` with last stride 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows {
    pub(crate) pointer: u64,
    pub(crate) batch: u32,
    pub(crate) rows: u32,
    pub(crate) width: u32,
    pub(crate) batch_stride: i64,
    pub(crate) row_stride: i64,
}

impl Rows {
    /// As kernels take them.
    pub(super) fn strides(&self) -> Strides {
        Strides { batch: self.batch_stride, row: self.row_stride }
    }

    /// One batch, if the batches follow each other like rows.
    pub(crate) fn merged(self) -> Self {
        match self.rows.checked_mul(self.batch) {
            Some(rows) if self.batch == 1 || self.batch_stride == i64::from(self.rows) * self.row_stride => {
                Self { batch: 1, rows, batch_stride: 0, ..self }
            }
            _ => self,
        }
    }
}

/// A tensor that a kernel fills.
pub(crate) struct Output {
    tensor: Tensor,
    pub(crate) pointer: u64,
}

/// The GPU of a tensor.
pub(crate) fn gpu(op: &str, x: &Tensor) -> Result<Arc<Gpu>> {
    match x.device() {
        Device::Cuda(device) => Gpu::of(device),
        other => bail!("{op}: expected a CUDA tensor, got one on {other:?}"),
    }
}

impl<'a> Input<'a> {
    pub(crate) fn new(op: &'static str, tensor: &'a Tensor) -> Self {
        pass::touch(tensor);
        Self { tensor, layout: tensor.layout(), dtype: tensor.dtype(), op }
    }

    /// The same, refused unless it has this type.
    pub(crate) fn typed(op: &'static str, tensor: &'a Tensor, dtype: DType) -> Result<Self> {
        if tensor.dtype() != dtype {
            bail!("{op}: expected {dtype:?}, got {:?} {:?}", tensor.dtype(), tensor.dims())
        }
        Ok(Self::new(op, tensor))
    }

    /// The address of the first element.
    pub(crate) fn pointer(&self) -> Result<u64> {
        let (storage, _) = self.tensor.storage_and_layout();
        let Storage::Cuda(storage) = &*storage else {
            bail!("{}: all tensors must be on the same CUDA device", self.op)
        };
        let base = allocation::base(storage)?;
        Ok(base + (self.layout.start_offset() * self.dtype.size_in_bytes()) as u64)
    }

    /// The address, refused unless the elements lie in order without gaps.
    pub(crate) fn contiguous(&self) -> Result<u64> {
        if !self.layout.is_contiguous() {
            let (dims, stride) = (self.layout.dims(), self.layout.stride());
            bail!("{}: expected a contiguous tensor, got {dims:?} strides {stride:?}", self.op)
        }
        self.pointer()
    }

    /// A tensor of rank 2 or 3 as it lies, or a contiguous one of another rank as `[rows, width]`.
    pub(crate) fn rows(&self) -> Result<Rows> {
        let pointer = self.pointer()?;
        let (dims, stride) = (self.layout.dims(), self.layout.stride());
        let (batch, rows, width, batch_stride, row_stride) = match (dims, stride) {
            (&[rows, width], &[row_stride, 1]) => (1, rows, width, 0, row_stride),
            (&[batch, rows, width], &[batch_stride, row_stride, 1]) => {
                (batch, rows, width, batch_stride, row_stride)
            }
            (&[.., width], _) if self.layout.is_contiguous() => {
                (1, self.layout.shape().elem_count() / width.max(1), width, 0, width)
            }
            _ => bail!("{}: expected rows with last stride 1, got {dims:?} strides {stride:?}", self.op),
        };
        Ok(Rows {
            pointer,
            batch: size(self.op, batch)?,
            rows: size(self.op, rows)?,
            width: size(self.op, width)?,
            batch_stride: batch_stride as i64,
            row_stride: row_stride as i64,
        })
    }
}

/// A size as kernels count: 32 bits.
pub(crate) fn size(op: &str, n: usize) -> Result<u32> {
    u32::try_from(n).map_err(|_| candle_core::Error::Msg(format!("{op}: {n} is more than 32 bits can count")))
}

impl Output {
    /// Uninitialised memory: the kernel must write every element.
    pub(crate) fn new(gpu: &Gpu, dtype: DType, shape: impl Into<Shape>) -> Result<Self> {
        let tensor = pass::allocate(gpu, dtype, shape.into())?;
        let pointer =
            allocation::address(&tensor)? + (tensor.layout().start_offset() * dtype.size_in_bytes()) as u64;
        poison::fill(gpu, pointer, tensor.elem_count() * dtype.size_in_bytes())?;
        Ok(Self { tensor, pointer })
    }

    pub(crate) fn tensor(self) -> Tensor {
        self.tensor
    }
}
