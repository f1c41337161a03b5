//! Reading a bundle into the cache. First only the headers are read, and what is no bundle is refused before anything is
//! written; then the contents.

use super::manifest::{self, Content, Manifest};
use super::serve_line::serve_line;
use super::{CHUNK, Digesting};
use crate::args::UnbundleArgs;
use crate::config::hub;
use crate::progress::{Progress, Stop};
use anyhow::{Context, bail, ensure};
use indicatif::DecimalBytes;
use latentd_hub::{Import, free_space, missing_bytes};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path};
use tar::{Archive, Entry, EntryType};
use tokio::runtime::Runtime;

/// A manifest of more is none.
const MAX_MANIFEST: u64 = 16 << 20;

/// Bytes of zeros at the end of an archive.
const END: usize = 1024;

/// Carries out `latentd unbundle`.
///
/// # Errors
/// One line that says what is wrong; nothing is left of what was written.
pub(crate) fn unbundle(args: UnbundleArgs, runtime: &Runtime) -> anyhow::Result<()> {
    let hub = hub::of_cache()?;
    let named = || args.file.display().to_string();
    let file = File::open(&args.file).with_context(named)?;
    let found = file.metadata().with_context(named)?;
    ensure!(found.is_file(), "{} is no file: give a bundle that `latentd bundle` made", args.file.display());
    let (manifest, offsets) = index(&file, found.len()).with_context(named)?;
    let sizes: Vec<_> =
        manifest.contents.iter().map(|content| (content.sha256.as_str(), content.bytes)).collect();
    let missing = missing_bytes(&hub.cache, &manifest.repositories, &sizes);
    if let Some(free) = free_space(&hub.cache).filter(|free| *free < missing) {
        bail!(
            "the model takes {} more and there is {} free on the disk of {}: free some, or set HF_HUB_CACHE to another disk",
            DecimalBytes(missing),
            DecimalBytes(free),
            hub.cache.display()
        );
    }
    let stop = Stop::at_signals(runtime.handle())?;
    let import = Import::begin(&hub.cache, &manifest.repositories)?;
    let progress = Progress::new("unbundling", manifest.bytes(), &stop);
    for (content, offset) in manifest.contents.iter().zip(offsets) {
        unpack(&file, content, offset, &import, &progress).with_context(named)?;
    }
    drop(progress);
    runtime.block_on(import.publish())?;
    for repo in &manifest.repositories {
        eprintln!(
            "{} {}: {} files in {}",
            repo.repository,
            repo.revision,
            repo.files.len(),
            hub.cache.display()
        );
    }
    println!("{}", serve_line(&manifest, &hub));
    Ok(())
}

/// Writes one content, unless the cache has it, and verifies it in any case.
fn unpack(
    mut file: &File,
    content: &Content,
    offset: u64,
    import: &Import<'_>,
    progress: &Progress,
) -> anyhow::Result<()> {
    file.seek(SeekFrom::Start(offset))?;
    let mut reader = Digesting::new(file.take(content.bytes), progress);
    if import.has(&content.sha256, content.bytes)? {
        copy(&mut reader, &mut std::io::sink())?;
    } else {
        let mut written = import.create(&content.sha256)?;
        copy(&mut reader, &mut written)?;
        written.sync_all()?;
    }
    let (bytes, sha256) = reader.end();
    if (bytes, &sha256) != (content.bytes, &content.sha256) {
        bail!("{} is damaged, its SHA-256 is {sha256}: copy the bundle again", content.name());
    }
    Ok(())
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> std::io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match from.read(&mut chunk)? {
            0 => return Ok(()),
            count => to.write_all(&chunk[..count])?,
        }
    }
}

/// The manifest, and where in the file each of its contents begins.
fn index(file: &File, length: u64) -> anyhow::Result<(Manifest, Vec<u64>)> {
    const NONE: &str = "this is no bundle of latentd";
    let mut archive = Archive::new(file);
    // Raw: an extension of the next header would be an entry of its own, and is refused.
    let mut entries = archive.entries_with_seek().context(NONE)?.raw(true);
    let mut first = entries.next().context(NONE)?.context(NONE)?;
    ensure!(is_plain(&first) && name(&first) == manifest::NAME && first.size() <= MAX_MANIFEST, NONE);
    let mut text = Vec::new();
    first.read_to_end(&mut text)?;
    ensure!(text.len() as u64 == first.size(), "it is cut off inside its manifest: copy it again");
    let manifest = Manifest::parse(&text)?;
    let whole =
        manifest.length(text.len() as u64).context("its manifest is wrong: its contents are too large")?;
    ensure!(length >= whole, "it is cut off, {length} bytes of {whole}: copy it again");
    let mut offsets = Vec::new();
    for (index, content) in manifest.contents.iter().enumerate() {
        let entry = entries.next().with_context(|| format!("it ends before {}", content.name()))?;
        let entry = entry.context("it is damaged: copy it again")?;
        check(&entry, content, &manifest.contents[..index], &manifest)?;
        offsets.push(entry.raw_file_position());
    }
    match entries.next() {
        None => {}
        Some(Ok(entry)) => bail!("{}", stray(&entry, &manifest.contents, &manifest)),
        Some(Err(_)) => bail!("there is something behind its last file that is no part of a bundle"),
    }
    let mut end = [1; END];
    file.read_exact_at(&mut end, whole - END as u64)?;
    ensure!(end.iter().all(|byte| *byte == 0), "its end is damaged: copy it again");
    ensure!(
        length == whole,
        "there are {} bytes behind its end, which are no part of a bundle",
        length - whole
    );
    Ok((manifest, offsets))
}

/// Whether an entry is the content whose turn it is; `before` have had theirs.
fn check<R: Read>(
    entry: &Entry<'_, R>,
    content: &Content,
    before: &[Content],
    manifest: &Manifest,
) -> anyhow::Result<()> {
    if !is_plain(entry) || name(entry) != content.name() {
        bail!("{}", stray(entry, before, manifest));
    }
    let (name, bytes, listed) = (content.name(), entry.size(), content.bytes);
    ensure!(bytes == listed, "it holds {name} with {bytes} bytes, and its manifest says {listed}");
    Ok(())
}

/// What is wrong with an entry that should not be there.
fn stray<R: Read>(entry: &Entry<'_, R>, before: &[Content], manifest: &Manifest) -> String {
    let name = name(entry);
    let leads_out = |part: Component<'_>| !matches!(part, Component::Normal(_));
    let why = if !is_plain(entry) {
        format!("{}, and a bundle holds regular files alone", kind(entry.header().entry_type()))
    } else if Path::new(&name).components().any(leads_out) {
        "a path that leads out of the cache".to_owned()
    } else if name == manifest::NAME || before.iter().any(|content| content.name() == name) {
        "for the second time".to_owned()
    } else if manifest.lists(&name) {
        "in another order than its manifest".to_owned()
    } else {
        "which its manifest does not list".to_owned()
    };
    format!("it holds {name:?}, {why}")
}

fn is_plain<R: Read>(entry: &Entry<'_, R>) -> bool {
    entry.header().entry_type() == EntryType::Regular
}

fn kind(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Link => "a hard link",
        EntryType::Symlink => "a symbolic link",
        EntryType::Char | EntryType::Block => "a device",
        EntryType::Fifo => "a named pipe",
        EntryType::Directory => "a directory",
        _ => "an extension",
    }
}

fn name<R: Read>(entry: &Entry<'_, R>) -> String {
    String::from_utf8_lossy(&entry.header().path_bytes()).into_owned()
}
