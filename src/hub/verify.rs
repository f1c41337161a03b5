//! The checksums of a model that is here, computed again.

use super::cache;
use super::digest::Checksum;
use super::error::HubError;
use super::files::{Files, INDEX, Selection};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// What was found out about a model's files.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Paths whose content is what the hub says.
    pub(super) good: Vec<String>,
    /// Paths whose content is not.
    pub(super) damaged: Vec<String>,
    /// Paths that should be there.
    pub(super) missing: Vec<String>,
    /// Paths of which nobody says what they must be.
    pub(super) unknown: Vec<String>,
    /// Bytes that were read.
    pub(super) bytes: u64,
}

impl Report {
    /// Whether something was verified, and nothing else was found.
    pub(super) fn is_good(&self) -> bool {
        !self.good.is_empty() && self.damaged.is_empty() && self.missing.is_empty()
    }
}

/// Looks at every file of a directory, on several threads.
pub(super) fn directory(directory: &Path, repository: &str, files: &Files) -> Result<Report, HubError> {
    let selection = choose(directory, repository, files)?;
    let paths: Vec<String> = selection.paths.into_iter().collect();
    let report = Mutex::new(Report { missing: selection.missing, ..Report::default() });
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
            let full = directory.join(path);
            let bytes = fs::metadata(&full).map_or(0, |metadata| metadata.len());
            let holds = checksum(directory, path).map(|checksum| checksum.holds(&full));
            let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
            report.bytes += bytes;
            let list = match holds {
                Some(Ok(true)) => &mut report.good,
                // What the disk does not give back is as good as wrong.
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
pub(super) fn choose(directory: &Path, repository: &str, files: &Files) -> Result<Selection, HubError> {
    let index = fs::read(directory.join(INDEX)).ok();
    files.choose(repository, index.as_deref(), &cache::paths(directory))
}

/// What a file must be: the name of the content that it links to, or the note that a download into a folder
/// (`hf download --local-dir`) leaves beside it.
fn checksum(directory: &Path, path: &str) -> Option<Checksum> {
    let link = fs::read_link(directory.join(path)).ok();
    if let Some(target) = link {
        return Checksum::of_name(target.file_name()?.to_str()?);
    }
    let note = directory.join(".cache/huggingface/download").join(format!("{path}.metadata"));
    // The commit, the checksum and the time.
    Checksum::of_name(fs::read_to_string(note).ok()?.lines().nth(1)?.trim())
}
