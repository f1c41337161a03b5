//! Files that a command makes: whole under their name, or not there at all.

use crate::config::ConfigError;
use anyhow::{Context, bail};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

/// The file that `--output` names, as an absolute path.
///
/// # Errors
/// It is there already, or its folder is not.
pub(crate) fn target(output: &Path) -> anyhow::Result<PathBuf> {
    let target = std::path::absolute(output)?;
    if target.exists() {
        bail!("{} is there already: give another name, or remove it first", target.display());
    }
    match target.parent() {
        Some(folder) if !folder.is_dir() => {
            let (output, folder) = (output.display(), folder.display());
            Err(ConfigError(format!("--output {output}: there is no folder {folder}")).into())
        }
        _ => Ok(target),
    }
}

/// A file under another name until it is whole. What a killed process leaves of it, the next one replaces.
pub(crate) struct NewFile {
    pub(crate) file: File,
    path: PathBuf,
}

impl NewFile {
    /// # Errors
    /// It cannot be made, or another process is making it.
    pub(crate) fn create(target: &Path) -> anyhow::Result<Self> {
        let mut path = target.as_os_str().to_owned();
        path.push(".part");
        let path = PathBuf::from(path);
        let named = || path.display().to_string();
        let open = File::options().create(true).truncate(false).write(true).open(&path);
        let file = open.with_context(named)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                bail!("{} is written by another process: wait, or give another --output", path.display())
            }
            // A file system without locks.
            Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {}
            locked => locked.with_context(named)?,
        }
        file.set_len(0).with_context(named)?;
        Ok(Self { file, path })
    }

    /// For messages.
    pub(crate) fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Gives it its name.
    ///
    /// # Errors
    /// The file system refuses it.
    pub(crate) fn publish(self, target: &Path) -> anyhow::Result<()> {
        std::fs::rename(&self.path, target).with_context(|| target.display().to_string())?;
        let folder = target.parent().unwrap_or(Path::new("/"));
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.with_context(|| folder.display().to_string())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
