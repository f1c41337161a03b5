//! The sizes of a convolution, and what follows from them.

use crate::options::Conv2dSpec;

/// Output rows of a task.
pub(super) const BAND_ROWS: usize = 4;

/// What [`conv2d`](super::conv2d()) computes.
#[derive(Clone, Copy)]
pub(super) struct Conv2d {
    pub(super) batch: usize,
    pub(super) channels: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) outputs: usize,
    pub(super) k: usize,
    pub(super) spec: Conv2dSpec,
}

impl Conv2d {
    pub(super) fn in_height(&self) -> usize {
        self.height << usize::from(self.spec.upsample)
    }

    pub(super) fn in_width(&self) -> usize {
        self.width << usize::from(self.spec.upsample)
    }

    pub(super) fn out_height(&self) -> usize {
        (self.in_height() + 2 * self.spec.padding - self.k) / self.spec.stride + 1
    }

    pub(super) fn out_width(&self) -> usize {
        (self.in_width() + 2 * self.spec.padding - self.k) / self.spec.stride + 1
    }

    pub(super) fn depth(&self) -> usize {
        self.channels * self.k * self.k
    }
}
