//! Networks that requests bring in files of their own, which are untrusted: ControlNets and IP-Adapters.

use crate::content::{Directory, Stamp};
use crate::files::ModelFiles;
use crate::target::Target;
use crate::weights::Weights;
use crate::{Error, Result};
use sha2::{Digest, Sha256};
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What diffusers and transformers call the config of a network.
const CONFIG: &str = "config.json";

/// Where the weights of a network are, and its config.
#[derive(Clone, Copy)]
pub(crate) struct NetworkFile<'a> {
    /// A folder, or a safetensors file.
    pub(crate) path: &'a Path,
    /// The config of a file; `None`: the one beside it, if there is one.
    pub(crate) config: Option<&'a Path>,
    /// What the weights in a folder are called, without their extension.
    pub(crate) stem: &'static str,
    /// What lists of problems call the network.
    pub(crate) part: &'static str,
}

/// The last network of a kind, which is dropped before another is loaded.
pub(crate) struct Kept<T>(Option<(Vec<Stamp>, Arc<T>)>);

impl NetworkFile<'_> {
    /// Opens the weights of a folder, which may be in several files, or a single file.
    ///
    /// # Errors
    /// There is none, or it is no whole safetensors file.
    pub(crate) fn open(&self, target: &Target) -> Result<Weights> {
        if !self.path.is_dir() {
            return Weights::open_file(self.path, self.part, target);
        }
        let unreadable = |reason| Error::Io { path: self.path.to_owned(), reason };
        let folder = self.path.canonicalize().map_err(unreadable)?;
        let (Some(parent), Some(name)) = (folder.parent(), folder.file_name().and_then(|name| name.to_str()))
        else {
            return Err(Error::Model("it is no folder of a network".into()));
        };
        Weights::open(&ModelFiles::Directory(Directory::new(parent)), name, self.stem, target)
    }

    /// Its config, if it has one.
    pub(crate) fn config(&self) -> Option<PathBuf> {
        if self.path.is_dir() {
            return Some(self.path.join(CONFIG));
        }
        let beside = || Some(self.path.parent()?.join(CONFIG)).filter(|path| path.exists());
        self.config.map(Path::to_owned).or_else(beside)
    }

    /// Of the files that are written whenever the network is: its weights or their index, and its config.
    pub(crate) fn stamps(&self) -> Vec<Stamp> {
        let weights = if self.path.is_dir() {
            let single = format!("{}.safetensors", self.stem);
            vec![self.path.join(format!("{single}.index.json")), self.path.join(single)]
        } else {
            vec![self.path.to_owned()]
        };
        weights.iter().chain(&self.config()).filter_map(|path| Stamp::of(path)).collect()
    }

    /// What is wrong with the network, without its path, which is another on every machine; or an error of something else.
    pub(crate) fn fault(&self, error: Error) -> Result<String> {
        match error {
            Error::Model(why) => Ok(self.relative(&why)),
            Error::Io { reason, .. } if reason.kind() == std::io::ErrorKind::NotFound => {
                Ok("there is no such file".into())
            }
            Error::Io { reason, .. } => Ok(format!("it cannot be read: {reason}")),
            other => Err(other),
        }
    }

    /// A message in which the network is not named by its path.
    fn relative(&self, why: &str) -> String {
        let whole = self.path.canonicalize().unwrap_or_else(|_| self.path.to_owned());
        let mut short = why.to_owned();
        for path in [whole.as_path(), self.path] {
            let text = path.display().to_string();
            short = short.replace(&format!("{text}/"), "");
            // A relative one may be part of a word.
            if path.is_absolute() {
                short = short.replace(&text, "it");
            }
        }
        short
    }
}

impl<T> Kept<T> {
    pub(crate) const NONE: Self = Self(None);

    /// What is kept, if it is of these files; else what is loaded now.
    ///
    /// # Errors
    /// What `load` returns.
    pub(crate) fn get(&mut self, stamps: Vec<Stamp>, load: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        if let Some((kept, loaded)) = &self.0
            && *kept == stamps
        {
            return Ok(loaded.clone());
        }
        self.0 = None;
        let loaded = Arc::new(load()?);
        self.0 = Some((stamps, loaded.clone()));
        Ok(loaded)
    }
}

/// Reads a small file whole.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let bytes = ModelFiles::Directory(Directory::new(folder)).read(&name).map_err(|error| match error {
        Error::Io { reason, .. } if reason.kind() == std::io::ErrorKind::NotFound => {
            Error::Model(format!("it has no {name}"))
        }
        other => other,
    });
    Ok(bytes?.into_owned())
}

/// Refuses a network of so many values that has more than `limit` bytes once it is loaded.
pub(crate) fn check_size(values: u64, target: &Target, limit: u64) -> Result<()> {
    let bytes = values * target.dtype.size_in_bytes() as u64;
    if bytes <= limit {
        return Ok(());
    }
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    Err(Error::Model(format!(
        "its {} MiB are more than the {} MiB that this model takes",
        mib(bytes),
        mib(limit)
    )))
}

/// Ends loading: SHA-256 of config and files in hexadecimal digits, the same on every machine and under every path.
///
/// # Errors
/// The list of all tensors that do not fit.
pub(crate) fn digest(weights: Weights, config: &impl Debug) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(format!("{config:?}"));
    weights.digests()?.iter().for_each(|digest| hash.update(digest));
    fits(weights)?;
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// That every tensor that was asked for is there, in its shape, and no other.
///
/// # Errors
/// The list of all that do not fit.
pub(crate) fn fits(weights: Weights) -> Result<()> {
    let problems = weights.problems();
    if problems.is_empty() {
        return Ok(());
    }
    // Each begins with what the list calls its file.
    let lines = problems.iter().map(|line| line.split_once(": ").map_or(line.as_str(), |(_, line)| line));
    let lines: Vec<_> = std::iter::once("it does not fit this model").chain(lines).collect();
    Err(Error::Model(lines.join("\n  ")))
}
