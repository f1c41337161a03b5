//! Adapters on the Hugging Face hub: from its cache on this machine, from the cache of adapters, or downloaded now.

use super::{NotLoaded, Worker, receive};
use crate::adapters::{HeldFile, Incoming, Origin, TemporaryFolder};
use latentd_egress::Validators;
use latentd_hub::{CacheStatus, Files, HubConfig, HubError, ModelRepo, ProgressOutput, Recheck};
use latentd_request::AdapterFlaw;
use std::io;
use std::path::{Path, PathBuf};
use tokio::io::AsyncReadExt;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// The branch that adapters are taken from. `--revision` is of a model, which is another repository.
const BRANCH: &str = "main";

/// Bytes that are copied at a time.
const PIECE: usize = 1 << 20;

/// Most bytes of a config file; real ones have less than 1 KB.
const CONFIG_BYTES: u64 = 1 << 20;

/// The file of an adapter of a repository, or the config beside one, and in a word where it is from.
pub(super) async fn fetch(
    worker: &Worker,
    repository: &str,
    file: Option<&str>,
) -> Result<(HeldFile, &'static str), NotLoaded> {
    let (hub, adapters) = (&worker.hub, &worker.adapters);
    let is_config = file.is_some_and(|file| file.ends_with(".json"));
    let max_bytes = if is_config { CONFIG_BYTES } else { adapters.max_bytes };
    let files = Files::Adapter { file: file.map(str::to_owned), max_bytes };
    let repo = ModelRepo { repository: repository.into(), revision: BRANCH.into(), files };
    let refused = |error| self::refused(&repo, error);
    // A snapshot that has another file of the repository, or several, may lack the one that is meant.
    if let Ok(CacheStatus::Complete(directory)) = latentd_hub::cache_status(hub, &repo)
        && let Some(path) = latentd_hub::adapter_file(&directory, &repo).map_err(refused)?
    {
        return Ok((HeldFile::outside(path), "hub cache"));
    }
    let path = format!("{repository}@{BRANCH}/{}", file.unwrap_or_default());
    if let Some((_, file)) = adapters.cache.find(Origin::Hub(&path)).await {
        return Ok((file, "cache"));
    }
    if let Some(why) = hub.offline {
        let words = format!(
            "it is not on this server, which {why} keeps from asking the hub: upload its file, or give its URL"
        );
        return Err(match is_config {
            // Weights may do without it.
            true => NotLoaded::Absent(words),
            false => NotLoaded::Flawed(AdapterFlaw::Unreachable, words),
        });
    }
    let folder = adapters.cache.folder()?;
    let aside = HubConfig { cache: folder.path(), ..hub.clone() };
    let (_folder, pulled) = pull(aside, repo.clone(), folder).await?;
    let pulled = latentd_hub::adapter_file(&pulled.map_err(refused)?, &repo).map_err(refused)?;
    let pulled = pulled.ok_or_else(|| io::Error::other("what was pulled is not there"))?;
    let incoming = if is_config { adapters.cache.receive_config(max_bytes)? } else { receive(adapters)? };
    let incoming = copy(incoming, &pulled).await?;
    let kept = adapters.cache.keep(incoming, Origin::Hub(&path), Validators::default()).await?;
    Ok((kept, "hub"))
}

/// Downloads into a folder, on a thread of its own, for the download is no `Send` future. It ends when nobody waits for it.
async fn pull(
    hub: HubConfig,
    repo: ModelRepo,
    folder: TemporaryFolder,
) -> io::Result<(TemporaryFolder, Result<PathBuf, HubError>)> {
    let (waiting, gone) = oneshot::channel::<()>();
    let runtime = Handle::current();
    let pull = move || {
        runtime.block_on(async {
            tokio::select! {
                pulled = latentd_hub::pull(&hub, &repo, ProgressOutput::None, Recheck::No) => Ok((folder, pulled)),
                _ = gone => Err(io::Error::other("nobody waits for the download")),
            }
        })
    };
    let pulled = tokio::task::spawn_blocking(pull).await.map_err(io::Error::other)?;
    drop(waiting);
    pulled
}

/// Receives a file of this machine.
async fn copy(mut incoming: Incoming, path: &Path) -> Result<Incoming, NotLoaded> {
    let mut file = tokio::fs::File::open(path).await?;
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece).await? {
            0 => return Ok(incoming),
            bytes => incoming.append(&piece[..bytes]).await?,
        }
    }
}

/// What a client is told. The hub's own errors name files of this machine.
fn refused(repo: &ModelRepo, error: HubError) -> NotLoaded {
    let unreachable = |words: String| NotLoaded::Flawed(AdapterFlaw::Unreachable, words);
    match error {
        HubError::NoToken { .. }
        | HubError::NotAccepted { .. }
        | HubError::Forbidden { .. }
        | HubError::BadToken { .. } => unreachable(format!(
            "the hub does not let this server read {}: upload its file, or ask the operator for a token that may",
            repo.repository
        )),
        HubError::Unreachable { host, why } | HubError::NoName { host, why } => {
            unreachable(format!("{host} cannot be reached: {why}"))
        }
        HubError::TooLarge { max, .. } => crate::adapters::Refused::TooLarge(max).into(),
        HubError::NoAdapter { .. } => NotLoaded::Absent(error.to_string()),
        HubError::NotFound { .. }
        | HubError::NoRevision { .. }
        | HubError::NotRunnable { .. }
        | HubError::Answer { .. }
        | HubError::Damaged { .. }
        | HubError::NotHere { .. }
        | HubError::Incomplete { .. }
        | HubError::Offline(_) => unreachable(error.to_string()),
        HubError::NoSpace { .. }
        | HubError::Io { .. }
        | HubError::Interrupted { .. }
        | HubError::DamagedFile { .. }
        | HubError::ImportRuns { .. } => NotLoaded::Hub(error.to_string()),
    }
}
