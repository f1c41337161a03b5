//! Computes the checksums of a model's files again.

use crate::cache;
use crate::checksum::Checksum;
use crate::error::HubError;
use crate::files::{Files, INDEX, Selection};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// The state of a model's files.
#[derive(Debug, Default)]
pub struct VerifyReport {
    /// Paths whose content has the checksum that the hub gave.
    pub good: Vec<String>,
    /// Paths whose content has not, or cannot be read.
    pub damaged: Vec<String>,
    /// Paths that are needed and do not exist.
    pub missing: Vec<String>,
    /// Paths whose checksum is not known.
    pub unknown: Vec<String>,
    /// Bytes that were read.
    pub bytes: u64,
}

impl VerifyReport {
    /// Whether at least one file was verified, and none is damaged or missing.
    pub fn is_good(&self) -> bool {
        !self.good.is_empty() && self.damaged.is_empty() && self.missing.is_empty()
    }
}

/// Verifies every file of a directory that the model needs, on several threads. `repository` is for messages.
///
/// # Errors
/// The directory is not a model that can be run.
pub fn verify(directory: &Path, repository: &str, files: &Files) -> Result<VerifyReport, HubError> {
    let selection = select(directory, repository, files)?;
    let paths: Vec<String> = selection.paths.into_iter().collect();
    let report = Mutex::new(VerifyReport { missing: selection.missing, ..VerifyReport::default() });
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
            let full = directory.join(path);
            let bytes = fs::metadata(&full).map_or(0, |metadata| metadata.len());
            let matches = checksum(directory, path).map(|checksum| checksum.matches(&full));
            let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
            report.bytes += bytes;
            let list = match matches {
                Some(Ok(true)) => &mut report.good,
                // A file that cannot be read is of no more use than one with other content.
                Some(Ok(false) | Err(_)) => &mut report.damaged,
                None => &mut report.unknown,
            };
            list.push(path.clone());
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    for list in [&mut report.good, &mut report.damaged, &mut report.unknown] {
        list.sort();
    }
    Ok(report)
}

/// The files of a directory that a model needs.
pub(crate) fn select(directory: &Path, repository: &str, files: &Files) -> Result<Selection, HubError> {
    let index = fs::read(directory.join(INDEX)).ok();
    files.select(repository, index.as_deref(), &cache::paths(directory))
}

/// The checksum of a file's content: the name of the blob that it links to, or what a download into a folder
/// (`hf download --local-dir`) wrote beside it.
pub(crate) fn checksum(directory: &Path, path: &str) -> Option<Checksum> {
    let link = fs::read_link(directory.join(path)).ok();
    if let Some(target) = link {
        return Checksum::from_name(target.file_name()?.to_str()?);
    }
    let metadata = directory.join(".cache/huggingface/download").join(format!("{path}.metadata"));
    // The commit, the checksum and the time.
    Checksum::from_name(fs::read_to_string(metadata).ok()?.lines().nth(1)?.trim())
}
