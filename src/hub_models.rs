//! The repositories of the Hugging Face hub that published models and safety classifiers are in, and their directories in
//! its cache.

pub(crate) mod list;

use crate::config::{HubConfig, ModelLocation};
use latentd_hub::{CacheStatus, Files, HubError, ModelRepo, ProgressOutput, is_repository};
use latentd_models::{ClassifierManifest, Manifest, ModelSource};
use std::path::PathBuf;
use tokio::runtime::Runtime;

/// Exit code of a program that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// The branch that classifiers are taken from.
const MAIN: &str = "main";

/// The repository of a name: that of a published model or classifier (`stable-diffusion-3.5-large`, `falconsai`), or
/// `owner/name`.
pub(crate) fn identify(name: &str, revision: &str) -> Option<ModelRepo> {
    let of_model = Manifest::find(name).map(|manifest| manifest.repository.as_str());
    let known = of_model
        .or_else(|| ClassifierManifest::find(name).map(|manifest| manifest.repository.as_str()))
        .or_else(|| is_repository(name).then_some(name))?;
    Some(model_repo(known, revision))
}

/// A repository at a revision, with the files that it is known to need.
pub(crate) fn model_repo(repository: &str, revision: &str) -> ModelRepo {
    let files = match (ClassifierManifest::find(repository), Manifest::find(repository)) {
        (Some(manifest), _) => Files::Listed(manifest.files.keys().cloned().collect()),
        (None, Some(manifest)) => Files::Pipeline { published: manifest.files.keys().cloned().collect() },
        (None, None) => Files::pipeline(),
    };
    ModelRepo { repository: repository.into(), revision: revision.into(), files }
}

/// What a model is loaded from: of a hub id its directory in the cache, into which is downloaded what is not there.
///
/// # Errors
/// The model cannot be downloaded; the text says what the user can do.
pub(crate) async fn ensure_downloaded(
    hub: &HubConfig,
    location: &ModelLocation,
) -> Result<ModelSource, HubError> {
    match location {
        ModelLocation::Local(source) => Ok(source.clone()),
        ModelLocation::Hub { repository, revision } => {
            let repo = model_repo(repository, revision);
            let directory = latentd_hub::ensure_downloaded(hub, &repo, ProgressOutput::Terminal).await?;
            Ok(ModelSource::Directory(directory))
        }
    }
}

/// Downloads a published safety classifier, unless the cache has all of it; its directory.
pub(crate) async fn ensure_classifier_downloaded(
    hub: &HubConfig,
    manifest: &ClassifierManifest,
) -> Result<PathBuf, HubError> {
    let repo = model_repo(&manifest.repository, MAIN);
    latentd_hub::ensure_downloaded(hub, &repo, ProgressOutput::Terminal).await
}

/// The directory of a published safety classifier, if the cache has all of it.
pub(crate) fn cached_classifier(hub: &HubConfig, manifest: &ClassifierManifest) -> Option<PathBuf> {
    match latentd_hub::cache_status(hub, &model_repo(&manifest.repository, MAIN)).ok()? {
        CacheStatus::Complete(directory) => Some(directory),
        CacheStatus::Incomplete(_) | CacheStatus::Absent => None,
    }
}

/// The model with a hub id replaced by its directory, if the cache has all of it; opens no connection.
///
/// # Errors
/// It is not in the cache and downloads are forbidden, or what is in the cache cannot be run.
pub(crate) fn locate(hub: &HubConfig, location: &ModelLocation) -> Result<ModelLocation, HubError> {
    let ModelLocation::Hub { repository, revision } = location else { return Ok(location.clone()) };
    let directory = latentd_hub::cached_or_refused(hub, &model_repo(repository, revision))?;
    let local = |directory| ModelLocation::Local(ModelSource::Directory(directory));
    Ok(directory.map_or_else(|| location.clone(), local))
}

/// Downloads for a command that is not asynchronous. A download listens for Ctrl-C, and whoever did that once gets the
/// signal for good, so from then on a task of the runtime ends the process on it.
pub(crate) fn block_on<T, E>(
    runtime: &Runtime,
    download: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let done = runtime.block_on(download)?;
    runtime.spawn(async {
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(INTERRUPTED);
        }
    });
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_manifests_and_of_the_hub() {
        let repository = |name| identify(name, "main").map(|repo| repo.repository);
        let large = Some("stabilityai/stable-diffusion-3.5-large".to_owned());
        assert_eq!(repository("stable-diffusion-3.5-large"), large);
        assert_eq!(repository("stabilityai/stable-diffusion-3.5-large"), large);
        assert_eq!(repository("falconsai").as_deref(), Some("Falconsai/nsfw_image_detection"));
        assert_eq!(repository("me/my_model-2.0").as_deref(), Some("me/my_model-2.0"));
        assert_eq!(repository("mini2"), None);
    }

    #[test]
    fn what_a_repository_needs_is_what_its_manifest_lists() {
        let manifest = &Manifest::all()[0];
        let Files::Pipeline { published } = model_repo(&manifest.repository, "main").files else {
            panic!("a published model is a pipeline");
        };
        assert!(published.iter().eq(manifest.files.keys()) && !published.is_empty());
        let classifier = model_repo("Falconsai/nsfw_image_detection", "main").files;
        let listed = ["config.json", "model.safetensors", "preprocessor_config.json"];
        assert_eq!(classifier, Files::Listed(listed.map(str::to_owned).into()));
        assert_eq!(model_repo("me/mine", "main").files, Files::pipeline());
    }
}
