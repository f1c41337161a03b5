//! Models from a hub: a stand-in for it gates, stalls, cuts and spoils, and what was pulled serves.

mod air_gap;
mod bundle;
mod command;
mod doctor;
mod gates;
mod hostile_bundle;
mod pull;
mod serve;
#[path = "../hub/stand_in.rs"]
pub(crate) mod stand_in;
mod trouble;

use latentd::config::HubConfig;
use latentd::hub::{self as client, Files, HubError, ModelRepo, ProgressOutput, Recheck};
use stand_in::{File, Repository, StandIn};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;
use tempfile::TempDir;

/// A repository without a manifest.
const NAME: &str = "me/tiny";

/// The tiny model of the parity tests.
fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/golden/base/model")
}

/// It, with everything beside it that a pull must leave alone.
fn tiny() -> Repository {
    let mut repository = Repository::of(&golden());
    for path in [
        "README.md",
        "tiny.safetensors",
        "text_encoders/clip_l.safetensors",
        "text_encoder/model.fp16.safetensors",
        "transformer/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.bin",
    ] {
        repository.files.insert(path.into(), File::new(path, format!("the bytes of {path}")));
    }
    repository
}

/// A large file of it, and its size.
const LARGE: &str = "text_encoder_3/model.safetensors";

fn size(path: &str) -> u64 {
    golden().join(path).metadata().expect("a file").len()
}

/// A hub with the tiny model, and an empty cache.
async fn hub() -> (StandIn, TempDir) {
    hub_with(tiny()).await
}

async fn hub_with(repository: Repository) -> (StandIn, TempDir) {
    (StandIn::start([(NAME.to_owned(), repository)]).await, tempfile::tempdir().expect("a directory"))
}

/// Settings with short timeouts.
fn settings(hub: &StandIn, home: &TempDir) -> HubConfig {
    HubConfig {
        endpoint: hub.url.parse().expect("a URL"),
        cache: home.path().join("hub"),
        token: None,
        token_path: home.path().join("token"),
        revision: "main".into(),
        offline: None,
        stall: Duration::from_millis(400),
        backoff: Duration::from_millis(10),
    }
}

fn tiny_repo() -> ModelRepo {
    repo(NAME, "main")
}

/// A repository without a manifest.
fn repo(name: &str, revision: &str) -> ModelRepo {
    ModelRepo { repository: name.into(), revision: revision.into(), files: Files::pipeline() }
}

async fn pull(settings: &HubConfig, repo: &ModelRepo) -> Result<PathBuf, HubError> {
    client::pull(settings, repo, ProgressOutput::None, Recheck::No).await
}

async fn ensure_downloaded(settings: &HubConfig, repo: &ModelRepo) -> Result<PathBuf, HubError> {
    client::ensure_downloaded(settings, repo, ProgressOutput::None).await
}

/// The real program, in the environment of a user whose hub this is.
fn program(hub: &StandIn, home: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_latentd"));
    let ours = ["HF_", "HUGGING", "TRANSFORMERS_", "LATENTD_", "XDG_"];
    for (name, _) in std::env::vars().filter(|(name, _)| ours.iter().any(|prefix| name.starts_with(prefix))) {
        command.env_remove(name);
    }
    command
        .env("HF_HOME", home.path())
        .env("HF_ENDPOINT", &hub.url)
        .env("XDG_DATA_HOME", home.path().join("data"));
    command
}

/// Runs it in another thread, for the hub answers in this one.
async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output()).await.expect("a thread").expect("the program")
}

/// The sizes of the files that the tiny model needs, which are all files of its directory.
fn needed() -> BTreeMap<String, u64> {
    let files = Repository::of(&golden()).files;
    files.into_iter().map(|(path, file)| (path, file.bytes.len() as u64)).collect()
}

/// Whether a directory has the tiny model's files, byte for byte.
fn is_whole(directory: &Path) -> bool {
    let files = Repository::of(&golden()).files;
    files
        .iter()
        .all(|(path, file)| std::fs::read(directory.join(path)).is_ok_and(|bytes| bytes == file.bytes))
}

/// Files in the cache that are not whole.
fn incomplete(home: &TempDir) -> Vec<PathBuf> {
    let blobs = home.path().join("hub/models--me--tiny/blobs");
    let entries = std::fs::read_dir(blobs).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "incomplete")).collect()
}
