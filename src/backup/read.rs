//! Reading the archive into a place where nothing is yet.

use super::{DATA, DATABASE, Digesting, Entry, FILES, FORMAT, KEYS, MANIFEST, Manifest, folder};
use crate::args::RestoreArgs;
use crate::config::StoreConfig;
use crate::data_dir;
use crate::identity;
use crate::queue::Queue;
use crate::storage::{FileKey, Storage};
use anyhow::{Context, bail};
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufReader, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tar::Archive;

/// A manifest of more is none.
const MAX_MANIFEST: u64 = 1 << 30;

/// Carries out `latentd restore`.
pub(crate) async fn restore(args: RestoreArgs) -> anyhow::Result<()> {
    let store = StoreConfig::resolve(args.store)?;
    let file = File::open(&args.file).with_context(|| args.file.display().to_string())?;
    for directory in [&store.data_dir, folder(&store)?] {
        check_empty(directory)?;
    }
    let database = store.database_file("restore")?.to_owned();
    if database.exists() {
        bail!("{} is there already: nothing is overwritten", database.display());
    }
    let _locks = (data_dir::hold(&store.data_dir)?, data_dir::hold_database(&database)?);
    let mut restored =
        Restored { folder: folder(&store)?.to_owned(), store, database, made: Vec::new(), is_whole: false };
    let (manifest, files) = restored.unpack(file).with_context(|| args.file.display().to_string())?;
    restored.publish(&manifest).await?;
    restored.is_whole = true;
    let StoreConfig { data_dir, .. } = &restored.store;
    eprintln!("{}: the database and {files} files of {}", data_dir.display(), manifest.created_at);
    Ok(())
}

/// A restore that failed leaves locks and directories; neither is overwritten by the next one.
fn check_empty(directory: &Path) -> anyhow::Result<()> {
    if holds_data(directory)? {
        bail!(
            "{} is not empty: nothing is overwritten; give another --data-dir, or empty it first",
            directory.display()
        );
    }
    Ok(())
}

/// Is there a file below this directory that is not a lock? The files of locks have no content.
fn holds_data(directory: &Path) -> anyhow::Result<bool> {
    if !directory.exists() {
        return Ok(false);
    }
    for entry in std::fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let (path, about) = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?)))?;
        let is_lock = about.len() == 0 && path.extension().is_some_and(|extension| extension == "lock");
        let is_data = if about.is_dir() { holds_data(&path)? } else { !is_lock };
        if is_data {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What was made so far; unless it becomes whole it goes again.
struct Restored {
    store: StoreConfig,
    folder: PathBuf,
    database: PathBuf,
    made: Vec<PathBuf>,
    is_whole: bool,
}

impl Drop for Restored {
    fn drop(&mut self) {
        for path in self.made.iter().filter(|_| !self.is_whole) {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Restored {
    /// Unpacks every entry and checks all of them; the database has its name only later.
    fn unpack(&mut self, file: File) -> anyhow::Result<(Manifest, usize)> {
        let mut archive = Archive::new(BufReader::new(file));
        let mut entries = Vec::new();
        let mut manifest = None;
        for entry in archive.entries().context("this is no backup")? {
            let mut entry = entry.context("this is no backup, or a part of one")?;
            let name = String::from_utf8(entry.path_bytes().into_owned()).context("this is no backup")?;
            if manifest.is_some() || !entry.header().entry_type().is_file() {
                bail!("it holds {name:?}, which no backup does");
            }
            if name == MANIFEST {
                let mut text = String::new();
                entry.by_ref().take(MAX_MANIFEST).read_to_string(&mut text)?;
                manifest = Some(serde_json::from_str::<Manifest>(&text).context("its manifest is damaged")?);
                continue;
            }
            let Some(path) = self.place(&name) else { bail!("it holds {name:?}, which no backup does") };
            let written = self.write(&name, &path, entry).context("this is no backup, or a part of one")?;
            entries.push(written);
        }
        let Some(mut manifest) = manifest else {
            bail!("it is not whole: the manifest at its end is missing")
        };
        if manifest.format != FORMAT {
            bail!("its format is {}, and this version reads {FORMAT}: upgrade latentd", manifest.format);
        }
        entries.sort();
        manifest.entries.sort();
        if entries != manifest.entries || !entries.iter().any(|entry| entry.path == DATABASE) {
            bail!("it is damaged: it does not hold what its manifest says");
        }
        let files = entries.iter().filter(|entry| entry.path.starts_with(FILES)).count();
        Ok((manifest, files))
    }

    /// Where an entry goes; `None`: it is none of a backup's.
    fn place(&self, name: &str) -> Option<PathBuf> {
        if name == DATABASE {
            return Some(self.unfinished());
        }
        if let Some(key) = name.strip_prefix(FILES) {
            return FileKey::parse(key).map(|key| self.folder.join(key.as_str()));
        }
        let name = name.strip_prefix(DATA)?;
        KEYS.contains(&name).then(|| self.store.data_dir.join(name))
    }

    /// The database before it has its name.
    fn unfinished(&self) -> PathBuf {
        let mut path = self.database.as_os_str().to_owned();
        path.push(".restored");
        path.into()
    }

    fn write(&mut self, name: &str, path: &Path, content: impl Read) -> anyhow::Result<Entry> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let mut file = file.with_context(|| path.display().to_string())?;
        self.made.push(path.to_owned());
        let mut content = Digesting::new(content);
        std::io::copy(&mut content, &mut file)?;
        file.sync_all()?;
        Ok(content.entry(name))
    }

    /// Puts database and files together and gives the database its name, which makes it all one server's.
    async fn publish(&mut self, manifest: &Manifest) -> anyhow::Result<()> {
        let path = self.unfinished();
        let queue = Queue::open(&path, Arc::new(Timestamp::now)).await?;
        let identity = queue.identity().await?;
        queue.close().await;
        if identity.id != manifest.database {
            bail!("it is damaged: its manifest is that of another database");
        }
        let storage = Storage::local(&self.folder)?;
        self.made.push(self.folder.join(identity::FILE));
        identity::write(&storage, &identity.id, identity.starts).await?;
        let folders = self.made.iter().filter_map(|path| path.parent());
        let changed: BTreeSet<_> =
            folders.flat_map(|folder| [Some(folder), folder.parent()]).flatten().collect();
        for directory in changed {
            data_dir::sync(directory)?;
        }
        std::fs::rename(&path, &self.database)?;
        Ok(data_dir::sync(self.database.parent().unwrap_or(Path::new("/")))?)
    }
}
