//! Making the archive.

use super::{DATA, DATABASE, Digesting, Entry, FILES, FORMAT, KEYS, MANIFEST, Manifest, SIGNING_KEY, folder};
use crate::args::BackupArgs;
use crate::config::{StoreConfig, signing_key};
use crate::data_dir;
use crate::identity;
use crate::queue::Queue;
use crate::storage::{FileKey, Storage};
use anyhow::{Context, bail};
use jiff::Timestamp;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tar::{Builder, Header};

/// Carries out `latentd backup`.
pub(crate) async fn backup(args: BackupArgs) -> anyhow::Result<()> {
    let store = StoreConfig::resolve(args.store)?;
    let signing_key = signing_key(args.signing)?;
    folder(&store)?;
    let target = std::path::absolute(&args.file)?;
    if target.exists() {
        bail!("{} is there already: give another name", target.display());
    }
    let database = store.database_file("backup")?;
    if !database.exists() {
        let database = database.display();
        bail!("there is no database {database}: give the --data-dir or --database-url of the server");
    }
    let queue = open(database).await?;
    let storage = Storage::local(folder(&store)?)?;
    identity::check_folder(&queue, &storage).await?;
    let parts = Parts { archive: beside(&target, "part"), database: beside(&target, "database") };
    let summary = write(&parts, &store, signing_key.as_deref(), &queue).await?;
    queue.close().await;
    name(&parts.archive, &target, |archive, target| std::fs::hard_link(archive, target))
        .with_context(|| target.display().to_string())?;
    drop(parts);
    data_dir::sync(target.parent().unwrap_or(Path::new("/")))?;
    eprintln!("{}: {summary}", target.display());
    Ok(())
}

/// Gives the archive its name. `link` fails where a file has come meanwhile, unlike a renaming, which is for disks that
/// have no links, such as those with exFAT.
fn name(archive: &Path, target: &Path, link: impl Fn(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
    match link(archive, target) {
        Err(error)
            if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported)
                && !target.exists() =>
        {
            std::fs::rename(archive, target)
        }
        linked => linked,
    }
}

/// What is beside the archive until it is whole.
struct Parts {
    archive: PathBuf,
    database: PathBuf,
}

impl Drop for Parts {
    fn drop(&mut self) {
        for path in [&self.archive, &self.database] {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn beside(target: &Path, end: &str) -> PathBuf {
    let mut path = target.as_os_str().to_owned();
    path.push(format!(".{}.{end}", std::process::id()));
    path.into()
}

/// Makes a file that nobody else may read.
fn create(path: &Path) -> anyhow::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.with_context(|| path.display().to_string())
}

async fn open(database: &Path) -> anyhow::Result<Queue> {
    Ok(Queue::open(database, Arc::new(Timestamp::now)).await?)
}

/// Writes the archive; returns what is in it, for people.
async fn write(
    parts: &Parts,
    store: &StoreConfig,
    signing_key: Option<&Path>,
    queue: &Queue,
) -> anyhow::Result<String> {
    let created_at = Timestamp::now().to_string();
    drop(create(&parts.database)?);
    queue.copy_to(&parts.database).await?;
    // The copy says which files it owns: there may be others by now.
    let copy = open(&parts.database).await?;
    let (identity, keys) = (copy.identity().await?, copy.owned_files().await?);
    copy.close().await;

    let tar = Builder::new(BufWriter::new(create(&parts.archive)?));
    let mut archive = Archive { tar, entries: Vec::new() };
    archive.add(DATABASE, &parts.database)?;
    for name in KEYS {
        let elsewhere = signing_key.filter(|_| name == SIGNING_KEY);
        let path = elsewhere.map_or_else(|| store.data_dir.join(name), Path::to_owned);
        archive.add(&format!("{DATA}{name}"), &path)?;
    }
    let folder = folder(store)?;
    let (mut files, mut missing) = (0, 0);
    for key in keys.iter().filter_map(|key| FileKey::parse(key)) {
        let path = folder.join(key.as_str());
        if archive.add(&format!("{FILES}{}", key.as_str()), &path)? {
            files += 1;
        } else if queue.owns_file(key.as_str()).await? {
            // Otherwise its time was over meanwhile.
            tracing::warn!(file = key.as_str(), "the database knows a file that is not there");
            missing += 1;
        }
    }
    let bytes = archive.finish(identity.id, created_at)?;
    let lost = if missing == 0 { String::new() } else { format!(", {missing} files are missing") };
    Ok(format!("the database and {files} files, {bytes} bytes{lost}"))
}

/// An archive that grows.
struct Archive {
    tar: Builder<BufWriter<File>>,
    entries: Vec<Entry>,
}

impl Archive {
    /// Adds a file; `false`: there is none.
    fn add(&mut self, name: &str, path: &Path) -> anyhow::Result<bool> {
        let file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            other => other.with_context(|| path.display().to_string())?,
        };
        let size = file.metadata()?.len();
        let mut content = Digesting::new(file.take(size));
        self.append(name, size, &mut content).with_context(|| path.display().to_string())?;
        let entry = content.entry(name);
        if entry.bytes != size {
            bail!("{} became shorter while it was read", path.display());
        }
        self.entries.push(entry);
        Ok(true)
    }

    fn append(&mut self, name: &str, size: u64, content: impl Read) -> std::io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o600);
        header.set_mtime(Timestamp::now().as_second().unsigned_abs());
        self.tar.append_data(&mut header, name, content)
    }

    /// Ends the archive, durably; returns its size.
    fn finish(mut self, database: String, created_at: String) -> anyhow::Result<u64> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let entries = std::mem::take(&mut self.entries);
        let manifest = Manifest { format: FORMAT, version, database, created_at, entries };
        let text = serde_json::to_vec_pretty(&manifest)?;
        self.append(MANIFEST, text.len() as u64, text.as_slice())?;
        let file = self.tar.into_inner()?.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok(file.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_gets_its_name_also_where_there_are_no_links() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let [archive, target] = ["a.part", "a.tar"].map(|name| folder.path().join(name));
        for kind in [ErrorKind::PermissionDenied, ErrorKind::Unsupported] {
            std::fs::write(&archive, "whole")?;
            name(&archive, &target, |_, _| Err(kind.into()))?;
            assert_eq!(std::fs::read(&target)?, b"whole");
            std::fs::write(&archive, "another")?;
            assert!(name(&archive, &target, |_, _| Err(kind.into())).is_err(), "it has come meanwhile");
            std::fs::remove_file(&target)?;
        }
        assert!(name(&archive, &target, |_, _| Err(ErrorKind::StorageFull.into())).is_err());
        Ok(())
    }
}
