//! Making a bundle.

use super::choose::{self, ChosenFile, ChosenRepo};
use super::manifest::{self, Content, FORMAT, Manifest};
use super::{CHUNK, Digesting};
use crate::args::{BundleArgs, SafetyArgs};
use crate::checker;
use crate::config::{Checker, ConfigError, ModelLocation, hub, model, safety};
use crate::hub_models;
use crate::new_file::{self, NewFile};
use crate::progress::{Progress, Stop};
use anyhow::{Context, bail};
use indicatif::DecimalBytes;
use latentd_hub::{BundledRepo, bundled_file, free_space};
use latentd_models::ModelSource;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read};
use std::path::{Path, PathBuf};
use tar::{Builder, Header};
use tokio::runtime::Runtime;

/// Carries out `latentd bundle`.
///
/// # Errors
/// A [`ConfigError`] for a command line that cannot be carried out; otherwise one line that says what failed.
pub(crate) fn bundle(args: BundleArgs, runtime: &Runtime) -> anyhow::Result<()> {
    let hub = hub::resolve(&args.hub)?;
    let named = model::single(&args.model, args.text_encoders.as_deref(), &hub.revision)?;
    let safety_args = SafetyArgs {
        safety_checker: args.safety_checker,
        safety_threshold: None,
        force_safety_checker: false,
    };
    let safety = safety::parse(&safety_args)?;
    if named.location == ModelLocation::Local(ModelSource::Builtin) {
        return Err(ConfigError("mini is inside the program: there is nothing to bundle".into()).into());
    }
    let target = new_file::target(&args.output)?;
    let source = runtime.block_on(hub_models::ensure_downloaded(&hub, &named.location))?;
    let published = runtime.block_on(checker::ensure_published(&hub, &safety, &source))?;
    let stop = Stop::at_signals(runtime.handle())?;

    let (repo, served) = choose::model(&named, &source)?;
    let mut chosen = vec![repo];
    if let Some((manifest, directory)) = &published {
        chosen.push(choose::classifier(manifest, directory)?);
    }
    let safety_checker = match &safety.checker {
        Checker::Auto => "auto".to_owned(),
        Checker::Nobody => "none".to_owned(),
        Checker::Published(manifest) => manifest.name.clone(),
        Checker::Directory(directory) => {
            let repo = choose::classifier_of_directory(directory)?;
            let repository = repo.repository.clone();
            if chosen.iter().any(|other| other.repository == repository) {
                bail!("--safety-checker {}: rename it, the model has this name too", directory.display());
            }
            chosen.push(repo);
            repository
        }
    };
    let Measured { repositories, contents, sources } = measure(chosen, &stop)?;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let manifest =
        Manifest { format: FORMAT, version, model: served, safety_checker, repositories, contents };
    write(&manifest, &sources, &target, &stop)
}

/// What a manifest says of files, and where they are.
struct Measured {
    repositories: Vec<BundledRepo>,
    contents: Vec<Content>,
    /// A file with each content, by its SHA-256.
    sources: BTreeMap<String, PathBuf>,
}

/// Computes the checksums that are not known.
fn measure(chosen: Vec<ChosenRepo>, stop: &Stop) -> anyhow::Result<Measured> {
    let mut measured = Measured { repositories: Vec::new(), contents: Vec::new(), sources: BTreeMap::new() };
    for repo in chosen {
        let bytes = repo.files.iter().map(size).sum::<anyhow::Result<u64>>()?;
        let progress = Progress::new("computing checksums", bytes, stop);
        let mut files = Vec::new();
        for chosen in &repo.files {
            let mut file = bundled_file(&chosen.directory, &chosen.path, |bytes| progress.add(bytes))
                .map_err(|error| damaged(error.into(), &repo))?;
            file.path.insert_str(0, chosen.folder);
            if measured.sources.insert(file.sha256.clone(), chosen.source()).is_none() {
                let (sha256, bytes) = (file.sha256.clone(), size(chosen)?);
                measured.contents.push(Content { sha256, bytes });
            }
            files.push(file);
        }
        let ChosenRepo { repository, revision, commit, .. } = repo;
        // One that comes from no hub has what is the same for the same files.
        let own = || {
            let text =
                files.iter().map(|file| format!("{} {}\n", file.sha256, file.path)).collect::<String>();
            hex::encode(Sha256::digest(text))[..40].to_owned()
        };
        let commit = commit.unwrap_or_else(own);
        let repo = BundledRepo { repository, revision, commit, files };
        repo.check().map_err(anyhow::Error::msg)?;
        measured.repositories.push(repo);
    }
    Ok(measured)
}

fn size(file: &ChosenFile) -> anyhow::Result<u64> {
    let path = file.source();
    let found = path.metadata().with_context(|| path.display().to_string())?;
    if !found.is_file() {
        bail!("{} is no file: remove it, or give a directory without it", path.display());
    }
    Ok(found.len())
}

/// Adds what to do about a damaged file of the cache.
fn damaged(error: anyhow::Error, repo: &ChosenRepo) -> anyhow::Error {
    match repo.commit {
        Some(_) => error.context(format!(
            "{0} cannot be bundled; `latentd models pull {0} --verify` fetches damaged files again",
            repo.repository
        )),
        None => error,
    }
}

fn write(
    manifest: &Manifest,
    sources: &BTreeMap<String, PathBuf>,
    target: &Path,
    stop: &Stop,
) -> anyhow::Result<()> {
    let text = serde_json::to_vec_pretty(manifest)?;
    let length = manifest.length(text.len() as u64).context("the files are too large")?;
    if let Some(free) = free_space(target).filter(|free| *free < length) {
        bail!(
            "the bundle takes {} and there is {} free on the disk of {}: free some, or give another --output",
            DecimalBytes(length),
            DecimalBytes(free),
            target.display()
        );
    }
    let part = NewFile::create(target)?;
    let progress = Progress::new("bundling", manifest.bytes(), stop);
    let mut tar = Builder::new(BufWriter::with_capacity(CHUNK, &part.file));
    append(&mut tar, manifest::NAME, text.len() as u64, text.as_slice()).with_context(|| part.name())?;
    for content in &manifest.contents {
        let source = &sources[&content.sha256];
        let file = File::open(source).with_context(|| source.display().to_string())?;
        let mut reader = Digesting::new(file.take(content.bytes), &progress);
        append(&mut tar, &content.name(), content.bytes, &mut reader).with_context(|| part.name())?;
        if reader.end() != (content.bytes, content.sha256.clone()) {
            bail!(
                "{} is damaged, or changed while it was read; `latentd models pull MODEL --verify` fetches damaged files of the cache again",
                source.display()
            );
        }
    }
    let written =
        tar.into_inner().and_then(|out| out.into_inner().map_err(std::io::IntoInnerError::into_error));
    written.and_then(File::sync_all).with_context(|| part.name())?;
    drop(progress);
    part.publish(target)?;
    eprintln!("{}: {} in {} files", target.display(), DecimalBytes(length), manifest.contents.len());
    Ok(())
}

fn append<W: std::io::Write>(
    tar: &mut Builder<W>,
    name: &str,
    size: u64,
    content: impl Read,
) -> std::io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_path(name)?;
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_cksum();
    tar.append(&header, content)
}
