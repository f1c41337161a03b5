//! Which files a bundle of a model holds, and in which repositories of the cache they will be.

use super::manifest::{DIRECTORY, ServedModel};
use crate::config::{ModelLocation, NamedModel};
use crate::hub_models::model_repo;
use anyhow::{Context, bail};
use latentd_hub::{Files, all_files, commit_of_snapshot, needed_files};
use latentd_models::{ClassifierManifest, ModelSource};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Where models are in the cache that come from no hub.
const LOCAL: &str = "local";

/// The folder of a model's own safety checker.
const SAFETY_CHECKER: &str = "safety_checker/";

/// The folder of text encoders in the repository.
const TEXT_ENCODERS_FOLDER: &str = "text_encoders/";

/// A repository and its files.
pub(super) struct ChosenRepo {
    pub(super) repository: String,
    pub(super) revision: String,
    /// `None`: it comes from no hub.
    pub(super) commit: Option<String>,
    pub(super) files: Vec<ChosenFile>,
}

/// A file.
pub(super) struct ChosenFile {
    /// It is at this path in this directory.
    pub(super) directory: PathBuf,
    pub(super) path: String,
    /// The folder of the repository that it goes to, with its `/`.
    pub(super) folder: &'static str,
}

impl ChosenFile {
    pub(super) fn source(&self) -> PathBuf {
        self.directory.join(&self.path)
    }
}

/// The files of a model, and how it is served from them. `source` is where its files are.
pub(super) fn model(named: &NamedModel, source: &ModelSource) -> anyhow::Result<(ChosenRepo, ServedModel)> {
    let (repo, path, has_text_encoders) = match (&named.location, source) {
        (ModelLocation::Hub { repository, revision }, ModelSource::Directory(directory)) => {
            (of_hub(repository, revision, directory)?, None, false)
        }
        (_, ModelSource::Directory(directory)) => {
            let (files, is_usual) = of_directory(directory)?;
            (local(&source.name(), files), (!is_usual).then(|| DIRECTORY.to_owned()), false)
        }
        (_, ModelSource::Checkpoint { file, text_encoders }) => {
            let name = file.file_name().and_then(|name| name.to_str()).context("its name must be UTF-8")?;
            let mut files = vec![chosen(file.parent().unwrap_or(file), name, "")];
            files.extend(text_encoders_of(source, text_encoders.as_deref())?);
            let has_text_encoders = files.len() > 1;
            (local(&source.name(), files), Some(name.to_owned()), has_text_encoders)
        }
        (_, ModelSource::Builtin) => bail!("mini is inside the program: there is nothing to bundle"),
    };
    let published = named.published.map(|manifest| manifest.name.clone());
    let served = ServedModel { repository: repo.repository.clone(), published, path, has_text_encoders };
    Ok((repo, served))
}

/// The files of a published classifier.
pub(super) fn classifier(manifest: &ClassifierManifest, directory: &Path) -> anyhow::Result<ChosenRepo> {
    of_hub(&manifest.repository, "main", directory)
}

/// The files of a classifier in a directory.
pub(super) fn classifier_of_directory(directory: &Path) -> anyhow::Result<ChosenRepo> {
    let listed = Files::Listed(ClassifierManifest::all()[0].files.keys().cloned().collect());
    let (paths, missing) = needed_files(directory, "", &listed)?;
    if let Some(path) = missing.first() {
        bail!("--safety-checker {}: it has no {path}", directory.display());
    }
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    Ok(local(&name, paths.iter().map(|path| chosen(directory, path, "")).collect()))
}

fn of_hub(repository: &str, revision: &str, directory: &Path) -> anyhow::Result<ChosenRepo> {
    let (paths, _) = needed_files(directory, repository, &model_repo(repository, revision).files)?;
    Ok(ChosenRepo {
        repository: repository.to_owned(),
        revision: revision.to_owned(),
        commit: commit_of_snapshot(directory).map(str::to_owned),
        files: paths.iter().map(|path| chosen(directory, path, "")).collect(),
    })
}

/// The files of a directory in the diffusers layout, and whether it is as a hub has it: all files of one that has others,
/// such as GGUF.
fn of_directory(directory: &Path) -> anyhow::Result<(Vec<ChosenFile>, bool)> {
    let (needed, missing) = needed_files(directory, &directory.display().to_string(), &Files::pipeline())?;
    let all = all_files(directory);
    let paths: BTreeSet<String> = match missing.is_empty() {
        true => {
            all.into_iter().filter(|path| needed.contains(path) || path.starts_with(SAFETY_CHECKER)).collect()
        }
        false => all,
    };
    Ok((paths.iter().map(|path| chosen(directory, path, "")).collect(), missing.is_empty()))
}

/// The files that a checkpoint is read from in the directory of its text encoders.
fn text_encoders_of(source: &ModelSource, directory: Option<&Path>) -> anyhow::Result<Vec<ChosenFile>> {
    let locations = source.checkpoint_locations()?;
    let Some(directory) = directory else { return Ok(Vec::new()) };
    let mut files = Vec::new();
    for location in locations {
        let Ok(below) = location.strip_prefix(directory) else { continue };
        let below =
            below.to_str().with_context(|| format!("{}: its name must be UTF-8", location.display()))?;
        match location.is_dir() {
            true => files.extend(
                all_files(&location)
                    .iter()
                    .map(|path| chosen(directory, &format!("{below}/{path}"), TEXT_ENCODERS_FOLDER)),
            ),
            false if location.exists() => files.push(chosen(directory, below, TEXT_ENCODERS_FOLDER)),
            false => {} // a tokenizer that the program has
        }
    }
    Ok(files)
}

fn chosen(directory: &Path, path: &str, folder: &'static str) -> ChosenFile {
    ChosenFile { directory: directory.to_owned(), path: path.to_owned(), folder }
}

/// A repository for files that come from no hub.
fn local(name: &str, files: Vec<ChosenFile>) -> ChosenRepo {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = name.chars().map(allowed).take(64).collect();
    let name = name.trim_start_matches('.');
    let repository = format!("{LOCAL}/{}", if name.is_empty() { "model" } else { name });
    ChosenRepo { repository, revision: "main".into(), commit: None, files }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_model_is_a_repository_of_its_name() {
        let repository = |name: &str| local(name, Vec::new()).repository;
        assert_eq!(repository("sd3.5_large"), "local/sd3.5_large");
        assert_eq!(repository("my model (2)"), "local/my-model--2-");
        assert_eq!([repository(".."), repository("")], ["local/model", "local/model"]);
        assert!(latentd_hub::is_repository(&repository(&"é".repeat(300))));
        let folder = super::super::manifest::TEXT_ENCODERS;
        assert_eq!(TEXT_ENCODERS_FOLDER.trim_end_matches('/'), folder);
    }
}
