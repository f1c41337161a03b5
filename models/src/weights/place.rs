//! Where a matrix lies in the files of a part, and when it is needed.

use super::resolved::Resolved;
use super::rows::Rows;

/// How often a matrix is read, and how much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MatrixUse {
    EveryStep,
    OnceARequest,
    /// A prompt needs some of its rows.
    Rows,
}

/// Tensors one below the other.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) tensors: Vec<Resolved>,
    /// Of each: rows and columns.
    pub(super) shape: [usize; 2],
}

impl Place {
    pub(super) fn rows(&self) -> Vec<Rows<'_>> {
        self.tensors.iter().flat_map(Resolved::rows).collect()
    }

    /// Rows and columns of all.
    #[cfg(feature = "cuda")]
    pub(super) fn stacked(&self) -> [usize; 2] {
        [self.tensors.len() * self.shape[0], self.shape[1]]
    }

    /// Whether it is multiplied by a scale once it is read.
    #[cfg(feature = "cuda")]
    pub(super) fn is_scaled(&self) -> bool {
        self.tensors.iter().any(|tensor| tensor.scale().is_some())
    }
}
