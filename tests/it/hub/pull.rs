//! What is brought, and that nothing is brought twice.

use super::*;
use crate::support::eventually;
use latentd::hub::{CacheStatus, cache_status};
use stand_in::{Act, COMMIT};
use std::process::Stdio;

/// What was sent of files that have one content each; the two CLIP vocabularies are the same.
fn once(hub: &StandIn) -> bool {
    let (sent, needed) = (hub.sent(), needed());
    sent.iter().all(|(path, bytes)| needed.get(path) == Some(bytes))
}

#[tokio::test]
async fn a_pull_brings_what_is_needed_once_into_the_cache_of_hugging_face() {
    let (hub, home) = hub().await;
    let settings = settings(&hub, &home);
    let directory = pull(&settings, &tiny_repo()).await.expect("a model");
    let repository = home.path().join("hub/models--me--tiny");
    assert_eq!(directory, repository.join("snapshots").join(COMMIT));
    assert!(is_whole(&directory));
    assert_eq!(std::fs::read_to_string(repository.join("refs/main")).expect("a reference"), COMMIT);
    assert!(once(&hub), "{:?}", hub.sent());
    let files = walk(&directory);
    assert_eq!(files, needed().into_keys().collect::<Vec<_>>(), "nothing else");
    let link = std::fs::read_link(directory.join(LARGE)).expect("a link");
    assert!(link.starts_with("../../../blobs"), "{link:?}");
    assert_eq!(link.file_name().expect("a name").len(), 64, "the SHA-256 of a large file");

    let sent = hub.sent();
    pull(&settings, &tiny_repo()).await.expect("the same");
    assert_eq!(hub.sent(), sent, "no byte again");
    assert_eq!(cache_status(&settings, &tiny_repo()).expect("a look"), CacheStatus::Complete(directory));
}

fn walk(directory: &Path) -> Vec<String> {
    Repository::of(directory).files.into_keys().collect()
}

#[tokio::test]
async fn what_is_in_the_cache_asks_nobody() {
    let (hub, home) = hub().await;
    let settings = settings(&hub, &home);
    let directory = ensure_downloaded(&settings, &tiny_repo()).await.expect("pulled");
    let before = hub.connections();
    assert_eq!(ensure_downloaded(&settings, &tiny_repo()).await.expect("found"), directory);
    let offline = HubConfig { offline: Some("--offline"), ..settings };
    assert_eq!(ensure_downloaded(&offline, &tiny_repo()).await.expect("found"), directory);
    assert_eq!(hub.connections(), before);
}

#[tokio::test]
async fn offline_never_connects_and_says_how_to_get_what_is_missing() {
    let (hub, home) = hub().await;
    let offline = HubConfig { offline: Some("HF_HUB_OFFLINE"), ..settings(&hub, &home) };
    let error = ensure_downloaded(&offline, &tiny_repo()).await.expect_err("not here").to_string();
    assert!(
        error.contains("me/tiny is not in the cache") && error.contains("`latentd models pull me/tiny`"),
        "{error}"
    );
    assert!(error.contains("HF_HUB_OFFLINE forbids"), "{error}");
    let error = pull(&offline, &tiny_repo()).await.expect_err("no network").to_string();
    assert_eq!(error, "a pull needs the network, which HF_HUB_OFFLINE forbids");
    assert_eq!(hub.connections(), 0);

    let online = settings(&hub, &home);
    let directory = pull(&online, &tiny_repo()).await.expect("a model");
    std::fs::remove_file(directory.join(LARGE)).expect("a file less");
    let error = ensure_downloaded(&offline, &tiny_repo()).await.expect_err("incomplete").to_string();
    assert!(error.contains("incomplete") && error.contains(&format!("{LARGE} missing")), "{error}");
}

#[tokio::test]
async fn another_pipeline_is_refused_before_its_weights() {
    let mut repository = tiny();
    let index = String::from_utf8(repository.files["model_index.json"].bytes.to_vec()).expect("text");
    let flux = File::new("model_index.json", index.replace("StableDiffusion3Pipeline", "FluxPipeline"));
    repository.files.insert("model_index.json".into(), flux);
    let (hub, home) = hub_with(repository).await;
    let error = pull(&settings(&hub, &home), &tiny_repo()).await.expect_err("a refusal");
    assert!(error.to_string().contains("it is a FluxPipeline"), "{error}");
    assert_eq!(hub.sent().keys().collect::<Vec<_>>(), ["model_index.json"]);
}

#[tokio::test]
async fn a_repository_without_full_precision_is_refused_before_its_weights() {
    let mut repository = tiny();
    repository.files.remove(LARGE);
    let (hub, home) = hub_with(repository).await;
    let error = pull(&settings(&hub, &home), &tiny_repo()).await.expect_err("a refusal");
    assert!(error.to_string().contains(&format!("it has no {LARGE}")), "{error}");
    assert_eq!(hub.sent().len(), 1);
}

#[tokio::test]
async fn what_does_not_fit_on_the_disk_is_not_begun() {
    let mut repository = tiny();
    repository.files.get_mut(LARGE).expect("a file").claimed = Some(1 << 60);
    let (hub, home) = hub_with(repository).await;
    let error = pull(&settings(&hub, &home), &tiny_repo()).await.expect_err("too large");
    assert!(matches!(error, HubError::NoSpace { needed, .. } if needed > 1 << 59), "{error}");
    let text = error.to_string();
    assert!(text.starts_with("the pull needs 1.15 EB more") && text.contains("set HF_HUB_CACHE"), "{text}");
    assert_eq!(hub.sent().len(), 1);
}

#[tokio::test]
async fn a_path_that_leads_out_of_the_snapshot_is_not_written() {
    let mut repository = tiny();
    repository.files.insert("scheduler/../../../../../escaped".into(), File::new("escaped", "boo"));
    let (hub, home) = hub_with(repository).await;
    pull(&settings(&hub, &home), &tiny_repo()).await.expect("a model");
    assert!(!home.path().join("escaped").exists() && !home.path().join("hub/escaped").exists());
}

#[tokio::test]
async fn a_classifier_is_pulled_by_its_name() {
    let files = ["config.json", "preprocessor_config.json", "model.safetensors", "pytorch_model.bin"];
    let mut repository = Repository::default();
    for path in files {
        repository.files.insert(path.into(), File::new(path, format!("the bytes of {path}")));
    }
    let hub = StandIn::start([("Falconsai/nsfw_image_detection".to_owned(), repository)]).await;
    let home = tempfile::tempdir().expect("a directory");
    let mut command = program(&hub, &home);
    command.args(["models", "pull", "falconsai"]);
    let output = output(command).await;
    assert!(output.status.success(), "{output:?}");
    let directory = String::from_utf8(output.stdout).expect("a path");
    assert_eq!(
        walk(Path::new(directory.trim())),
        ["config.json", "model.safetensors", "preprocessor_config.json"]
    );
}

/// Two processes, as two terminals would have them.
#[tokio::test]
async fn two_pulls_at_once_share_the_work() {
    let (hub, home) = hub().await;
    hub.script(LARGE, [Act::Stall(1000)]); // so that both surely want it at once
    let pull = || {
        let mut command = program(&hub, &home);
        command.args(["models", "pull", NAME, "--stall-timeout", "1"]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program")
    };
    let mut pulls = [pull(), pull()];
    for pull in &mut pulls {
        let code = eventually(async || pull.try_wait().expect("a child")).await;
        assert!(code.success());
    }
    assert!(is_whole(&home.path().join("hub/models--me--tiny/snapshots").join(COMMIT)));
    let sent = hub.sent();
    assert!(sent.iter().all(|(path, bytes)| *bytes <= needed()[path]), "{sent:?}");
    assert!(incomplete(&home).is_empty());
}
