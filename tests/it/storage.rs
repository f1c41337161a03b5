//! File storage, as a directory and as a bucket of S3: the same promises, and what a bucket does when its service fails.

mod credentials;
mod doctor;
mod faults;
mod identity;
mod kills;
mod outside;
pub(crate) mod program;
mod records;
mod same;
pub(crate) mod service;
mod serving;
mod shared;

use axum::body::Bytes;
use futures_util::TryStreamExt;
use latentd::storage::{FileKey, Span, Storage};
use std::ops::Range;

/// Bytes of which no two pieces are alike.
fn pattern(length: usize) -> Bytes {
    let words = (0u32..).flat_map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes());
    words.take(length).collect()
}

/// A file's size, and the part that was asked for, if it has it.
async fn read(storage: &Storage, key: &FileKey, span: Option<Span>) -> (u64, Option<(Vec<u8>, Range<u64>)>) {
    let file = storage.get(key, span).await.expect("a store").expect("a file");
    let Some((bytes, range)) = file.part else { return (file.size, None) };
    let pieces: Vec<Bytes> = bytes.try_collect().await.expect("every byte");
    (file.size, Some((pieces.concat(), range)))
}

async fn read_all(storage: &Storage, key: &FileKey) -> Vec<u8> {
    read(storage, key, None).await.1.expect("a file").0
}
