//! Has the system read what is needed next, while the product before it computes.

use super::MatrixUse;
use super::rows::Rows;
use std::sync::{Arc, Mutex, PoisonError};

/// The matrices that stay in the files of a part, by their use, in the order in which they were loaded: about that in which
/// they are read.
#[derive(Debug, Default)]
pub(super) struct ReadAhead {
    every_step: Mutex<Vec<Arc<[Extent]>>>,
    once: Mutex<Vec<Arc<[Extent]>>>,
}

/// Bytes that lie side by side in the tensors of a file.
#[derive(Debug)]
pub(super) struct Extent {
    pub(super) file: usize,
    pub(super) at: u64,
    pub(super) bytes: u64,
}

/// A matrix in this order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    usage: MatrixUse,
    index: usize,
}

impl ReadAhead {
    /// Adds a matrix of these rows behind the others of its use.
    pub(super) fn add(&self, usage: MatrixUse, rows: &[Rows]) -> Position {
        let extent = |Rows { of, range }: &Rows| {
            let bytes = |rows: usize| of.dtype.bytes(rows * of.row()).unwrap_or_default() as u64;
            Extent { file: of.file, at: of.begin + bytes(range.start), bytes: bytes(range.len()) }
        };
        let mut list = self.list(usage).lock().unwrap_or_else(PoisonError::into_inner);
        list.push(rows.iter().map(extent).collect());
        Position { usage, index: list.len() - 1 }
    }

    /// The matrix behind this one; of those that every step reads the first behind the last, since the next step begins with it.
    pub(super) fn after(&self, Position { usage, index }: Position) -> Option<Arc<[Extent]>> {
        let list = self.list(usage).lock().unwrap_or_else(PoisonError::into_inner);
        let first = list.first().filter(|_| usage == MatrixUse::EveryStep);
        list.get(index + 1).or(first).cloned()
    }

    fn list(&self, usage: MatrixUse) -> &Mutex<Vec<Arc<[Extent]>>> {
        match usage {
            MatrixUse::EveryStep => &self.every_step,
            MatrixUse::OnceARequest => &self.once,
        }
    }
}
