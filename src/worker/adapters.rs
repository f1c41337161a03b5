//! Fetches the LoRA adapters of a request, before its model is loaded: each becomes a file on this machine.

mod hub;

use super::stored::Found;
use super::{Worker, stored};
use crate::adapters::{AdapterCache, AdapterFiles, HeldFile, Incoming, Origin, Refused};
use crate::engine::Lora;
use crate::fault::Fault;
use crate::queue::{Failure, FailureKind, Observation, Queue, QueueError};
use crate::storage::{ByteStream, StorageError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::TryStreamExt;
use latentd_egress::{DownloadError, Sink, Streamed, Validators};
use latentd_request::{AdapterFlaw, AdapterProblem, AdapterSource, ImageRequest, LoraRef, Source};
use std::io;
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::MissedTickBehavior;

/// How often copies of uploads are looked for that are gone.
const FORGET_INTERVAL: Duration = Duration::from_secs(60);

/// Why the adapters of a request could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum NotLoaded {
    #[error("{}", .0.message)]
    Problem(AdapterProblem),
    /// A cause that is yet to be said of an adapter.
    #[error("{1}")]
    Flawed(AdapterFlaw, String),
    /// A repository has no such file, or it is not on a server that may not ask the hub.
    #[error("{0}")]
    Absent(String),
    /// The operator has not given every worker the same names: what has none here, the flag that gives it, and the name.
    #[error("this worker has no {0} {2}: its operator must start it with {1} {2}=PATH, as the server")]
    Unnamed(&'static str, &'static str, String),
    #[error("an adapter cannot be stored: {0}")]
    Io(#[from] io::Error),
    #[error("an adapter cannot be stored: {0}")]
    Hub(String),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl Fault for NotLoaded {
    fn is_machines(&self) -> bool {
        match self {
            Self::Problem(_) | Self::Flawed(..) | Self::Absent(_) | Self::Unnamed(..) => false,
            Self::Io(_) | Self::Hub(_) => true,
            Self::Storage(error) => error.is_machines(),
            Self::Queue(error) => error.is_machines(),
        }
    }
}

impl NotLoaded {
    /// The failure that the request ends with.
    pub(super) fn failure(self) -> Failure {
        match self {
            Self::Problem(AdapterProblem { index, flaw, message }) => {
                failure(FailureKind::Lora, index, flaw, message)
            }
            other => Failure { kind: FailureKind::Engine, message: other.to_string(), detail: None },
        }
    }

    /// The same of another network, which cannot be used as `kind` says.
    pub(super) fn failure_of(self, kind: FailureKind, network: &str) -> Failure {
        match self {
            Self::Flawed(flaw, why) => failure(kind, None, flaw, format!("{network}: {why}")),
            Self::Absent(why) => Self::Flawed(AdapterFlaw::Unreachable, why).failure_of(kind, network),
            other => other.failure(),
        }
    }

    /// Says it of the adapter of this number.
    fn of(self, index: usize, name: &str) -> Self {
        match self {
            Self::Flawed(flaw, why) => {
                let message = format!("the LoRA {name}: {why}");
                Self::Problem(AdapterProblem { index: Some(index), flaw, message })
            }
            Self::Absent(why) => Self::Flawed(AdapterFlaw::Unreachable, why).of(index, name),
            other => other,
        }
    }
}

impl From<DownloadError> for NotLoaded {
    fn from(error: DownloadError) -> Self {
        match error {
            DownloadError::TooLarge(max) => Refused::TooLarge(max).into(),
            DownloadError::Failed(why) => Self::Flawed(AdapterFlaw::Unreachable, why),
        }
    }
}

impl From<String> for NotLoaded {
    fn from(why: String) -> Self {
        Self::Flawed(AdapterFlaw::Unreachable, why)
    }
}

impl From<Refused> for NotLoaded {
    fn from(error: Refused) -> Self {
        let words = error.to_string();
        match error {
            Refused::TooLarge(max) => Self::Flawed(
                AdapterFlaw::TooManyBytes(max),
                format!("{words}, the most that this server fetches (--max-adapter): use a smaller one"),
            ),
            Refused::Unusable(why) => Self::Flawed(AdapterFlaw::Unusable, why),
            Refused::Io(error) => Self::Io(error),
        }
    }
}

/// The failure of a request with an adapter or another network that cannot be used. What names it is in the detail, which is
/// erased with the input.
pub(super) fn failure(
    kind: FailureKind,
    index: Option<usize>,
    flaw: AdapterFlaw,
    message: String,
) -> Failure {
    let problem = AdapterProblem { index, flaw, message };
    Failure { detail: serde_json::to_value(problem).ok(), ..Failure::of(kind) }
}

/// The files of a request's adapters, which stay while they are held.
#[derive(Default)]
pub(super) struct Fetched {
    pub(super) loras: Vec<Lora>,
    pub(super) held: Vec<HeldFile>,
}

/// Fetches every adapter of a request.
pub(super) async fn fetch(worker: &Worker, request: &ImageRequest) -> Result<Fetched, NotLoaded> {
    let mut fetched = Fetched::default();
    for (index, lora) in request.loras.iter().enumerate() {
        let LoraRef { name, source, scale } = lora;
        let (file, from) = file(worker, source, request.private).await.map_err(|why| why.of(index, name))?;
        tracing::info!(lora = name, scale, from, "an adapter is ready");
        count(worker, from).await;
        let path = file.path().to_owned();
        fetched.loras.push(Lora { name: name.clone(), path, scale: *scale });
        fetched.held.push(file);
    }
    Ok(fetched)
}

/// Counts an adapter or another network by where it is from.
pub(super) async fn count(worker: &Worker, from: &'static str) {
    if let Err(error) = worker.queue.observe(&Observation::adapter(from)).await {
        tracing::warn!(%error, "an adapter was not counted");
    }
}

/// Weights of a network with the configs in their folder.
pub(super) struct Beside<const N: usize> {
    pub(super) weights: HeldFile,
    pub(super) configs: [HeldFile; N],
    /// Where the weights are from.
    pub(super) from: &'static str,
}

/// Weights in a repository of the hub, and the configs in their folder.
pub(super) async fn with_configs<const N: usize>(
    worker: &Worker,
    (repository, weights): (&str, &str),
    configs: [&str; N],
) -> Result<Beside<N>, NotLoaded> {
    let folder = weights.rsplit_once('/').map(|(folder, _)| format!("{folder}/")).unwrap_or_default();
    // The small files first: a repository without them is no network in this layout.
    let mut fetched = Vec::with_capacity(N);
    for config in configs {
        fetched.push(hub::fetch(worker, repository, Some(&format!("{folder}{config}"))).await?.0);
    }
    let (weights, from) = hub::fetch(worker, repository, Some(weights)).await?;
    let configs = fetched.try_into().map_err(|_| io::Error::other("a config is not there"))?;
    Ok(Beside { weights, configs, from })
}

/// The file of an adapter, and in a word where it is from. What a private request brings is kept for it alone.
pub(super) async fn file(
    worker: &Worker,
    source: &AdapterSource,
    is_private: bool,
) -> Result<(HeldFile, &'static str), NotLoaded> {
    match source {
        AdapterSource::Named(name) => match worker.adapters.named.get(name) {
            Some(path) => Ok((HeldFile::outside(path.clone()), "name")),
            None => Err(NotLoaded::Unnamed("LoRA", "--lora", name.clone())),
        },
        AdapterSource::Hub { repository, file } => hub::fetch(worker, repository, file.as_deref()).await,
        AdapterSource::File(Source::Stored(key)) => stored(worker, key, is_private).await,
        AdapterSource::File(Source::Remote(url)) => remote(worker, url, is_private).await,
        AdapterSource::File(Source::Inline(base64)) => {
            let wrong = |error| NotLoaded::Flawed(AdapterFlaw::Unreachable, format!("{error}"));
            let bytes = STANDARD.decode(base64).map_err(wrong)?;
            let mut incoming = receive(&worker.adapters)?;
            incoming.append(&bytes).await?;
            Ok((worker.adapters.cache.own(incoming).await?, "inline"))
        }
    }
}

/// A file that is received from a URL.
struct Download(Incoming);

impl Sink for Download {
    type Error = NotLoaded;

    fn begin(&mut self, size: Option<u64>) -> Result<(), NotLoaded> {
        Ok(self.0.announce(size)?)
    }

    async fn take(&mut self, bytes: Bytes) -> Result<(), NotLoaded> {
        Ok(self.0.append(&bytes).await?)
    }
}

fn receive(adapters: &AdapterFiles) -> io::Result<Incoming> {
    adapters.cache.receive(adapters.max_bytes)
}

/// Keeps what was received, or holds it for one request.
async fn keep(
    worker: &Worker,
    incoming: Incoming,
    origin: Origin<'_>,
    validators: Validators,
    is_private: bool,
) -> Result<HeldFile, NotLoaded> {
    let cache = &worker.adapters.cache;
    Ok(match is_private {
        true => cache.own(incoming).await?,
        false => cache.keep(incoming, origin, validators).await?,
    })
}

/// A file of this server's storage. Its copy is used as long as the file itself is there.
async fn stored(worker: &Worker, key: &str, is_private: bool) -> Result<(HeldFile, &'static str), NotLoaded> {
    let missing = || NotLoaded::Flawed(AdapterFlaw::Unreachable, stored::MISSING.to_owned());
    let copy = worker.adapters.cache.find(Origin::Upload(key)).await;
    if let (Found::Known(_), Some((_, file))) = (stored::find(&worker.queue, key).await?, copy) {
        return Ok((file, "cache"));
    }
    let found = stored::open::<NotLoaded>(worker, key).await?.ok_or_else(missing)?;
    let mut incoming = receive(&worker.adapters)?;
    incoming.announce(Some(found.size))?;
    let (mut pieces, _): (ByteStream, _) = found.part.ok_or_else(missing)?;
    while let Some(piece) = pieces.try_next().await? {
        incoming.append(&piece).await?;
    }
    let file = keep(worker, incoming, Origin::Upload(key), Validators::default(), is_private).await?;
    Ok((file, "upload"))
}

/// The file at a URL. A copy of it is used if its server says that it has not changed.
async fn remote(worker: &Worker, url: &str, is_private: bool) -> Result<(HeldFile, &'static str), NotLoaded> {
    let found = worker.adapters.cache.find(Origin::Url(url)).await;
    let known = found.as_ref().map(|(entry, _)| entry.validators()).unwrap_or_default();
    let mut download = Download(receive(&worker.adapters)?);
    let streamed = worker.outgoing.stream(url, &known, worker.adapters.max_bytes, &mut download);
    match (streamed.await?, found) {
        (Streamed::NotModified, Some((_, file))) => Ok((file, "cache")),
        (Streamed::NotModified, None) => Err("its server answered 304".to_owned().into()),
        (Streamed::File(validators), _) => {
            Ok((keep(worker, download.0, Origin::Url(url), validators, is_private).await?, "url"))
        }
    }
}

/// Removes the copies of uploads that are gone, now and whenever [`FORGET_INTERVAL`] is over.
pub(super) async fn forget_uploads(queue: Queue, cache: AdapterCache) {
    let mut clock = tokio::time::interval(FORGET_INTERVAL);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        if let Err(error) = forget_ended_uploads(&queue, &cache).await {
            tracing::warn!(%error, "copies of uploads that are gone are not removed yet");
        }
    }
}

/// Removes the copies of uploads that are gone.
///
/// # Errors
/// The database or the folder of copies does not answer.
pub async fn forget_ended_uploads(queue: &Queue, cache: &AdapterCache) -> Result<(), NotLoaded> {
    let copies = cache.clone();
    for key in spawn_blocking(move || copies.uploads()).await.map_err(io::Error::other)? {
        if !matches!(stored::find(queue, &key).await?, Found::Known(_)) {
            let cache = cache.clone();
            spawn_blocking(move || cache.forget_upload(&key)).await.map_err(io::Error::other)??;
        }
    }
    Ok(())
}
