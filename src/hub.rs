//! The Hugging Face hub: brings models here, into the cache that Hugging Face's own programs use too.
//!
//! What `huggingface_hub` downloaded is used as it is, and what is brought here it finds. A transfer that stopped, for
//! whatever reason, goes on where it stopped; no file gets its name before its checksum was right.

mod api;
mod cache;
mod client;
pub(crate) mod command;
mod connect;
mod digest;
mod error;
mod fetch;
mod files;
pub(crate) mod listing;
mod progress;
mod pull;
mod verify;

pub use error::HubError;
pub use files::Files;
pub use progress::Show;

use crate::args::{self, HubArgs};
use crate::config::{ConfigError, HubConfig, is_repository};
use cache::Folder;
use latentd_models::{ClassifierManifest, Manifest, ModelSource};
use std::path::PathBuf;

/// Exit code of a program that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// The branch that classifiers are taken from.
const MAIN: &str = "main";

/// A repository of the hub, at a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// `owner/name`.
    pub repository: String,
    /// Branch, tag or commit.
    pub revision: String,
    /// Which of its files.
    pub files: Files,
}

/// What the cache has of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Every file, in this directory.
    Here(PathBuf),
    /// Not these.
    Incomplete(Vec<String>),
    /// Nothing.
    Nothing,
}

impl Wanted {
    /// What a name stands for: that of a manifest (`stable-diffusion-3.5-large`, `falconsai`), or `owner/name`.
    pub fn named(name: &str, revision: &str) -> Option<Self> {
        let of_model = Manifest::find(name).map(|manifest| &manifest.repository);
        let known = of_model.or_else(|| ClassifierManifest::find(name).map(|manifest| &manifest.repository));
        let repository = known.cloned().or_else(|| is_repository(name).then(|| name.to_owned()))?;
        let files = Files::of(&repository);
        Some(Self { repository, revision: revision.into(), files })
    }
}

/// Looks into the cache alone.
///
/// # Errors
/// It is there and is no model that can be run.
pub fn find(hub: &HubConfig, wanted: &Wanted) -> Result<Found, HubError> {
    let folder = Folder::new(&hub.cache, &wanted.repository);
    let Some(commit) = folder.commit(&wanted.revision) else { return Ok(Found::Nothing) };
    let snapshot = folder.snapshot(&commit);
    if !snapshot.is_dir() {
        return Ok(Found::Nothing);
    }
    let missing = verify::choose(&snapshot, &wanted.repository, &wanted.files)?.missing;
    Ok(if missing.is_empty() { Found::Here(snapshot) } else { Found::Incomplete(missing) })
}

/// The directory of a repository's files: from the cache, without a connection, or pulled now.
///
/// # Errors
/// It is not here and cannot be had, with what the user can do.
pub async fn resolve(hub: &HubConfig, wanted: &Wanted, show: Show) -> Result<PathBuf, HubError> {
    let repository = wanted.repository.clone();
    match (find(hub, wanted)?, hub.offline) {
        (Found::Here(directory), _) => Ok(directory),
        (Found::Nothing, Some(why)) => Err(HubError::NotHere { repository, cache: hub.cache.clone(), why }),
        (Found::Incomplete(missing), Some(why)) => Err(HubError::Incomplete { repository, missing, why }),
        (_, None) => {
            if show == Show::People {
                tracing::info!("pulling {repository} into {}", hub.cache.display());
            }
            pull(hub, wanted, show).await
        }
    }
}

/// Brings a repository up to date, and says in which directory it is.
///
/// # Errors
/// It cannot be had, with what the user can do.
pub async fn pull(hub: &HubConfig, wanted: &Wanted, show: Show) -> Result<PathBuf, HubError> {
    pull::pull(hub, wanted, show, false).await
}

/// Replaces every model of the hub's by the directory that it is in here.
pub(crate) async fn bring<'a>(
    args: &HubArgs,
    sources: impl IntoIterator<Item = &'a mut ModelSource>,
) -> anyhow::Result<()> {
    let hub = config(args)?;
    for source in sources {
        if let ModelSource::Hub { repository, revision } = source {
            let files = Files::of(repository);
            let wanted = Wanted { repository: repository.clone(), revision: revision.clone(), files };
            *source = ModelSource::Directory(resolve(&hub, &wanted, Show::People).await?);
        }
    }
    Ok(())
}

/// [`bring`] for a command that has no runtime.
pub(crate) fn bring_one(args: &HubArgs, source: &mut ModelSource) -> anyhow::Result<()> {
    if !matches!(source, ModelSource::Hub { .. }) {
        return Ok(());
    }
    block_on(bring(args, [source]))
}

/// Brings a published safety classifier, unless the cache has all of it.
pub(crate) async fn bring_classifier(args: &HubArgs, manifest: &ClassifierManifest) -> anyhow::Result<()> {
    let repository = manifest.repository.clone();
    let files = Files::of(&repository);
    let wanted = Wanted { repository, revision: MAIN.into(), files };
    resolve(&config(args)?, &wanted, Show::People).await?;
    Ok(())
}

/// The directory of a published safety classifier, if the cache has all of it.
pub(crate) fn classifier(manifest: &ClassifierManifest) -> Option<PathBuf> {
    let args = HubArgs { revision: MAIN.into(), offline: true, stall_timeout: 1 };
    let wanted = Wanted::named(&manifest.name, MAIN)?;
    match find(&config(&args).ok()?, &wanted).ok()? {
        Found::Here(directory) => Some(directory),
        Found::Incomplete(_) | Found::Nothing => None,
    }
}

/// Does what needs a runtime for a command that has none.
pub(crate) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let done = runtime.block_on(work)?;
    // Whoever listened for Ctrl-C once has it for good, so somebody must end the process.
    runtime.spawn(async {
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(INTERRUPTED);
        }
    });
    std::mem::forget(runtime);
    Ok(done)
}

/// Replaces a model of the hub's by its directory, if the cache has all of it; says whether it is a directory now.
pub(crate) fn is_here(hub: &HubConfig, source: &mut ModelSource) -> Result<bool, HubError> {
    let ModelSource::Hub { repository, revision } = source else { return Ok(true) };
    let files = Files::of(repository);
    let wanted = Wanted { repository: repository.clone(), revision: revision.clone(), files };
    match find(hub, &wanted)? {
        Found::Here(directory) => *source = ModelSource::Directory(directory),
        Found::Incomplete(_) | Found::Nothing => return Ok(false),
    }
    Ok(true)
}

/// What the flags and the environment say of the hub.
pub(crate) fn config(args: &HubArgs) -> Result<HubConfig, ConfigError> {
    HubConfig::resolve(args, args::variable, std::env::home_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_manifests_and_of_the_hub() {
        let repository = |name| Wanted::named(name, "main").map(|wanted| wanted.repository);
        let large = Some("stabilityai/stable-diffusion-3.5-large".to_owned());
        assert_eq!(repository("stable-diffusion-3.5-large"), large);
        assert_eq!(repository("stabilityai/stable-diffusion-3.5-large"), large);
        assert_eq!(repository("falconsai").as_deref(), Some("Falconsai/nsfw_image_detection"));
        assert_eq!(repository("me/my_model-2.0").as_deref(), Some("me/my_model-2.0"));
        for name in ["", "mini2", "/a", "a/", "a/b/c", "../b", "a/..", "a b/c", "a/b?", "a/.b"] {
            assert_eq!(repository(name), None, "{name}");
        }
    }
}
