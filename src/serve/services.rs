//! The stores of the server, opened in the order that reports a wrong configuration first.

use super::ServeError;
use super::preflight::check_reach;
use crate::adapters;
use crate::allocator;
use crate::config::{ServeConfig, StoreConfig};
use crate::data_dir::{self, DataDirError};
use crate::disk::Disks;
use crate::ended_workers;
use crate::identity;
use crate::keys::KeyRing;
use crate::queue::{LEASE_CHECK_INTERVAL, LeaseCheck, Lost, Queue};
use crate::signing::SigningKey;
use crate::storage::Storage;
use crate::storage_limit::StorageLimit;
use crate::sweep;
use latentd_fal::endpoint::Endpoint;
use latentd_fal::{Api, ConnectionMemory, Documents, Probe, Refusals, WaitingClients};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// The data directory and the stores in it.
pub(super) struct Services {
    pub(super) queue: Queue,
    pub(super) keys: KeyRing,
    pub(super) signing: Arc<SigningKey>,
    storage: Storage,
    storage_limit: StorageLimit,
    /// Clients that wait for their results.
    pub(super) clients: WaitingClients,
    /// Held until the server ends, so that no other server uses the directory, or a database that is a file.
    _locks: (File, Option<File>),
}

impl Services {
    pub(super) async fn open(config: &ServeConfig) -> Result<Self, ServeError> {
        if !config.store.database.exists() {
            check_reach(config, KeyRing::new(config.access.keys.clone()).is_open())?; // before anything is created
        }
        let locks = lock_private(&config.store)?;
        let queue = Queue::open(&config.store.database, Arc::new(jiff::Timestamp::now)).await?;
        let keys = KeyRing::new(config.access.keys.clone());
        keys.refresh(&queue).await?;
        check_reach(config, keys.is_open())?;
        let storage = Storage::open(&config.store.files)?;
        identity::join(&queue, &storage).await?;
        reclaim_orphans(config, &queue).await?;
        let signing = Arc::new(match &config.signing_key {
            Some(path) => SigningKey::read(path)?,
            None => SigningKey::open(&config.store.data_dir)?,
        });
        let storage_limit = StorageLimit::new(config.keep.bytes);
        let clients = WaitingClients::default();
        Ok(Self { queue, keys, signing, storage, storage_limit, clients, _locks: locks })
    }

    pub(super) fn api(
        &self,
        config: &ServeConfig,
        endpoints: Vec<Endpoint>,
        closing: watch::Receiver<bool>,
        drain: Arc<Notify>,
    ) -> Api {
        Api {
            queue: self.queue.clone(),
            storage: self.storage.clone(),
            disks: disks(config),
            storage_limit: self.storage_limit.clone(),
            endpoints,
            keys: self.keys.clone(),
            web: config.access.web.clone(),
            isolate_keys: config.access.isolate_keys,
            metrics_open: config.access.metrics_open,
            public_url: config.public_url.clone(),
            trusted_proxies: config.trusted_proxies.clone(),
            max_queue: config.max_queue,
            max_upload: config.max_upload,
            max_open_uploads: config.max_open_uploads,
            lora_names: config.adapters.named.keys().cloned().collect(),
            controlnet_names: config.adapters.controlnets.keys().cloned().collect(),
            ip_adapter_names: config.adapters.ip_adapters.keys().cloned().collect(),
            adapter_cache_bytes: {
                let folder = adapters::folder(&config.store.data_dir);
                Arc::new(move || adapters::cached_bytes(&folder))
            },
            gpus: super::gpus::reader(),
            validate_on_submit: config.validate_on_submit,
            no_metadata: config.no_metadata,
            egress: config.egress.clone(),
            signing: self.signing.clone(),
            run_patience: config.run_patience,
            refusals: Refusals::default(),
            documents: Documents::default(),
            memory: ConnectionMemory::default(),
            waiting_clients: self.clients.clone(),
            probe: Probe::default(),
            closing,
            drain,
            commit: env!("LATENTD_COMMIT"),
        }
    }

    /// Starts the background tasks, which run until the set is dropped.
    pub(super) fn spawn_background(&self, config: &ServeConfig) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        tasks.spawn(watch_times(self.queue.clone(), config.store.data_dir.clone()));
        tasks.spawn(allocator::return_freed_memory());
        let (queue, storage) = (self.queue.clone(), self.storage.clone());
        tasks.spawn(sweep::run(queue, storage, config.keep, self.storage_limit.clone()));
        tasks.spawn(self.keys.clone().follow(self.queue.clone()));
        tasks
    }

    pub(super) async fn close(self) {
        if let Err(error) = self.keys.write_uses(&self.queue).await {
            tracing::warn!(%error, "last uses of keys not written down");
        }
        self.queue.close().await;
    }
}

/// Locks the data directory and a database that is a file, and makes existing files private.
fn lock_private(store: &StoreConfig) -> Result<(File, Option<File>), DataDirError> {
    let is_ours = data_dir::is_ours(&store.data_dir);
    let database = store.database.path();
    let locks = (data_dir::hold(&store.data_dir)?, database.map(data_dir::hold_database).transpose()?);
    let beside = |database: &Path, end: &str| {
        let mut path = database.as_os_str().to_owned();
        path.push(end);
        PathBuf::from(path)
    };
    let database = database.into_iter();
    let ends = ["", "-wal", "-shm", ".lock"];
    let mut kept: Vec<_> = database.flat_map(|path| ends.map(|end| beside(path, end))).collect();
    kept.push(SigningKey::path(&store.data_dir));
    kept.extend(store.files.directory().map(Path::to_owned));
    kept.extend([data_dir::LOCK, "cache"].map(|name| store.data_dir.join(name)));
    let closed = data_dir::close(&kept).and_then(|closed| match is_ours {
        true => Ok(closed + data_dir::close_alone(&store.data_dir)?),
        false => Ok(closed),
    });
    match closed {
        Ok(0) => {}
        Ok(closed) => tracing::warn!(
            closed,
            "other users could look into what is kept in {}: files and directories are this user's alone now",
            store.data_dir.display()
        ),
        Err(error) => tracing::warn!(%error, "other users may be able to look into what the server keeps"),
    }
    Ok(locks)
}

/// The disks that the server writes to. What goes to a bucket is in the data directory until it is sent.
fn disks(config: &ServeConfig) -> Disks {
    let database = config.store.database.path().and_then(Path::parent).map(Path::to_owned);
    let files = config.store.files.directory().unwrap_or(&config.store.data_dir).to_owned();
    Disks::new(database.into_iter().chain([files]), config.min_free_disk)
}

/// Puts requests and webhooks that an earlier server had claimed back into the queue. Where other servers share the
/// database, leases and the holds of webhooks do that, for nobody else knows which are orphans.
async fn reclaim_orphans(config: &ServeConfig, queue: &Queue) -> Result<(), ServeError> {
    if queue.is_shared() {
        return Ok(queue.forget_silent_workers().await?);
    }
    if !config.engines.is_empty() {
        let orphans = queue.reclaim(Lost::Everything).await?;
        if orphans.waiting + orphans.ended > 0 {
            tracing::info!(?orphans, "requests that a stopped server left running");
        }
    }
    queue.forget_silent_workers().await?;
    Ok(queue.release_webhooks().await?)
}

/// Fails requests that did not start in time, and reclaims those of dead workers that have no supervisor.
async fn watch_times(queue: Queue, data_dir: PathBuf) {
    let mut clock = tokio::time::interval(LEASE_CHECK_INTERVAL);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut check = LeaseCheck::default();
    loop {
        clock.tick().await;
        match queue.expire_late().await {
            Ok(0) => {}
            Ok(late) => tracing::info!(late, "requests did not start in time"),
            Err(error) => tracing::warn!(%error, "times to start not checked"),
        }
        match ended_workers::put_back(&queue, &data_dir).await {
            Ok(reclaimed) if reclaimed.waiting + reclaimed.ended > 0 => {
                tracing::warn!(?reclaimed, "requests of workers that ended are put back");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "requests of workers that ended are not put back yet"),
        }
        match queue.reclaim_late().await {
            Ok(reclaimed) if reclaimed.waiting + reclaimed.ended > 0 => {
                tracing::warn!(
                    ?reclaimed,
                    "requests that were claimed for a worker that had died are put back"
                );
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "late claims not looked for"),
        }
        match queue.reclaim_expired(&mut check).await {
            Ok(reclaimed) if reclaimed.waiting + reclaimed.ended > 0 => {
                tracing::warn!(?reclaimed, "leases ran out");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "leases not checked"),
        }
    }
}
