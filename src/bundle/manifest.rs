//! The manifest of a bundle. Whatever it says was checked before anything is done by it.

use anyhow::{Context, bail};
use latentd_hub::BundledRepo;
use latentd_models::ClassifierManifest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Version of the format that is written and read.
pub(super) const FORMAT: u32 = 1;

/// The name of the manifest, which is the first entry.
pub(super) const NAME: &str = "manifest.json";

/// The folder of contents.
const CONTENTS: &str = "contents/";

/// Bytes of a block of a tar archive.
const BLOCK: u64 = 512;

/// Where in its repository a checkpoint's text encoders are.
pub(super) const TEXT_ENCODERS: &str = "text_encoders";

/// What of a repository `--model` names when it is the whole directory.
pub(super) const DIRECTORY: &str = ".";

/// What a bundle holds.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    pub(super) format: u32,
    /// Version of the program that made it.
    pub(super) version: String,
    pub(super) model: ServedModel,
    /// As `--safety-checker` takes it; a classifier of a directory by its repository in the bundle.
    pub(super) safety_checker: String,
    pub(super) repositories: Vec<BundledRepo>,
    /// What the archive holds after the manifest, in this order.
    pub(super) contents: Vec<Content>,
}

/// The model to serve.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServedModel {
    /// `owner/name`, one of the repositories.
    pub(super) repository: String,
    /// The published model that it is, where its repository does not say it.
    pub(super) published: Option<String>,
    /// What `--model` names inside the repository, where it cannot name the repository itself.
    pub(super) path: Option<String>,
    /// Whether the repository has text encoders for a checkpoint.
    pub(super) has_text_encoders: bool,
}

/// Bytes of one or several files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Content {
    pub(super) sha256: String,
    pub(super) bytes: u64,
}

/// What every format has.
#[derive(Deserialize)]
struct Head {
    format: u32,
    version: String,
}

impl Content {
    /// Its name in the archive.
    pub(super) fn name(&self) -> String {
        format!("{CONTENTS}{}", self.sha256)
    }
}

impl Manifest {
    /// Reads and checks a manifest.
    pub(super) fn parse(text: &[u8]) -> anyhow::Result<Self> {
        let Head { format, version } = serde_json::from_slice(text).context("its manifest is damaged")?;
        if format != FORMAT {
            bail!(
                "it has format {format}, of latentd {version}, and this version reads {FORMAT}: use that version of latentd"
            );
        }
        let manifest: Self = serde_json::from_slice(text).context("its manifest is damaged")?;
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> anyhow::Result<()> {
        let mut repositories = BTreeSet::new();
        for repo in &self.repositories {
            repo.check().map_err(|why| anyhow::anyhow!("its manifest is wrong: {why}"))?;
            if !repositories.insert(&repo.repository) {
                bail!("its manifest is wrong: it has {} twice", repo.repository);
            }
        }
        let files = self.repositories.iter().flat_map(|repo| &repo.files);
        let needed: BTreeSet<&str> = files.map(|file| file.sha256.as_str()).collect();
        let listed: BTreeSet<&str> = self.contents.iter().map(|content| content.sha256.as_str()).collect();
        if needed != listed || listed.len() != self.contents.len() {
            bail!("its manifest is wrong: its contents are not those of its files");
        }
        if self.length(0).is_none() {
            bail!("its manifest is wrong: its contents are too large");
        }
        self.check_served()
    }

    /// Whether model and safety checker are in it.
    fn check_served(&self) -> anyhow::Result<()> {
        let ServedModel { repository, published, path, has_text_encoders } = &self.model;
        let repo = |name: &str| self.repositories.iter().find(|repo| repo.repository == name);
        let Some(model) = repo(repository) else { bail!("its manifest is wrong: its model is not in it") };
        let has = |path: &str| model.files.iter().any(|file| file.path == path);
        let is_path = path.as_deref().is_none_or(|path| path == DIRECTORY || has(path));
        let is_known = |name: &String| latentd_models::Manifest::find(name).is_some();
        if !is_path || !published.as_ref().is_none_or(is_known) || (*has_text_encoders && path.is_none()) {
            bail!("its manifest is wrong: its model cannot be named");
        }
        let checker = self.safety_checker.as_str();
        let is_word = ["auto", "none"].contains(&checker);
        if !is_word && ClassifierManifest::find(checker).is_none() && repo(checker).is_none() {
            bail!("its manifest is wrong: its safety checker is not in it");
        }
        Ok(())
    }

    /// Bytes of all contents.
    pub(super) fn bytes(&self) -> u64 {
        self.contents.iter().map(|content| content.bytes).sum()
    }

    /// Bytes of an archive with a manifest of so many bytes; `None`: more than can be.
    pub(super) fn length(&self, manifest: u64) -> Option<u64> {
        let entry = |bytes: u64| bytes.checked_next_multiple_of(BLOCK)?.checked_add(BLOCK);
        let end = 2 * BLOCK;
        let sizes = self.contents.iter().map(|content| content.bytes);
        sizes.chain([manifest]).try_fold(end, |sum, bytes| sum.checked_add(entry(bytes)?))
    }

    /// Whether the archive has an entry of this name.
    pub(super) fn lists(&self, name: &str) -> bool {
        let sha256 = name.strip_prefix(CONTENTS);
        name == NAME
            || sha256.is_some_and(|sha256| self.contents.iter().any(|content| content.sha256 == sha256))
    }
}
