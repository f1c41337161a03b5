//! Which of the matrices that stay in their files is read next, so that it is on its way while the product before it computes.

use super::place::{MatrixUse, Place};
use std::sync::{Arc, Mutex, PoisonError};

/// The matrices that stay in the files of a part, by their use, in the order in which they were loaded: about that in which
/// they are read.
#[derive(Debug, Default)]
pub(super) struct ReadAhead {
    every_step: Mutex<Vec<Arc<Place>>>,
    once: Mutex<Vec<Arc<Place>>>,
}

/// A matrix in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) usage: MatrixUse,
    index: usize,
}

impl ReadAhead {
    /// Adds a matrix behind the others of its use. One of which only rows are read has no place among them.
    pub(super) fn add(&self, usage: MatrixUse, place: &Arc<Place>) -> Option<Position> {
        let mut list = self.list(usage)?.lock().unwrap_or_else(PoisonError::into_inner);
        list.push(place.clone());
        Some(Position { usage, index: list.len() - 1 })
    }

    /// The matrix behind this one.
    pub(super) fn after(&self, Position { usage, index }: Position) -> Option<(Position, Arc<Place>)> {
        let list = self.list(usage)?.lock().unwrap_or_else(PoisonError::into_inner);
        Some((Position { usage, index: index + 1 }, list.get(index + 1)?.clone()))
    }

    /// The first one, if every step reads it.
    pub(super) fn first(&self, usage: MatrixUse) -> Option<Arc<Place>> {
        let list = self.list(usage)?.lock().unwrap_or_else(PoisonError::into_inner);
        list.first().filter(|_| usage == MatrixUse::EveryStep).cloned()
    }

    fn list(&self, usage: MatrixUse) -> Option<&Mutex<Vec<Arc<Place>>>> {
        match usage {
            MatrixUse::EveryStep => Some(&self.every_step),
            MatrixUse::OnceARequest => Some(&self.once),
            MatrixUse::Rows => None,
        }
    }
}
