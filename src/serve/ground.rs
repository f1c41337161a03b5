//! What the server stands on, opened in the order in which a mistake of the operator is told best.

use super::ServeError;
use crate::config::{ConfigError, ServeConfig};
use crate::data_dir;
use crate::disk::Disks;
use crate::endpoint::Endpoint;
use crate::http::{self, Api, Lines, Probe, Refusals};
use crate::identity;
use crate::intercept::Interceptor;
use crate::keys::KeyRing;
use crate::queue::{LEASE_CHECK_INTERVAL, LeaseCheck, Lost, Queue};
use crate::signing::SigningKey;
use crate::storage::Storage;
use crate::sweep;
use axum::Router;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// The data directory, and what is in it.
pub(super) struct Ground {
    pub(super) queue: Queue,
    pub(super) keys: KeyRing,
    pub(super) signing: Arc<SigningKey>,
    storage: Storage,
    /// Held to the end: no other server uses the directory or the database.
    _locks: (File, File),
}

/// Where clients come in.
pub(super) struct Doors {
    pub(super) listener: TcpListener,
    pub(super) interceptor: Option<Interceptor>,
}

impl Ground {
    pub(super) async fn open(config: &ServeConfig) -> Result<(Self, Doors), ServeError> {
        if !config.store.database.exists() {
            check_reach(config, &KeyRing::new(config.keys.clone()))?; // before anything is made
        }
        let locks =
            (data_dir::hold(&config.store.data_dir)?, data_dir::hold_database(&config.store.database)?);
        let queue = Queue::open(&config.store.database, Arc::new(jiff::Timestamp::now)).await?;
        let keys = KeyRing::new(config.keys.clone());
        keys.refresh(&queue).await?;
        check_reach(config, &keys)?;
        let storage = Storage::local(&config.store.files)?;
        identity::join(&queue, &storage).await?;
        take_back(config, &queue).await?;
        let signing = Arc::new(SigningKey::open(&config.store.data_dir)?);
        let doors = Doors::open(config).await?;
        Ok((Self { queue, keys, signing, storage, _locks: locks }, doors))
    }

    pub(super) fn api(
        &self,
        config: &ServeConfig,
        endpoints: Vec<Endpoint>,
        closing: watch::Receiver<bool>,
    ) -> Api {
        Api {
            queue: self.queue.clone(),
            storage: self.storage.clone(),
            disks: disks(config),
            endpoints,
            keys: self.keys.clone(),
            public_url: config.public_url.clone(),
            trusted_proxies: config.trusted_proxies.clone(),
            max_queue: config.max_queue,
            max_upload: config.max_upload,
            validate_on_submit: config.validate_on_submit,
            egress: config.egress.clone(),
            signing: self.signing.clone(),
            run_patience: config.run_patience,
            refusals: Refusals::default(),
            lines: Lines::default(),
            probe: Probe::default(),
            closing,
        }
    }

    /// Starts what looks after all this, until it is dropped.
    pub(super) fn tend(&self) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        tasks.spawn(watch_times(self.queue.clone()));
        tasks.spawn(sweep::run(self.queue.clone(), self.storage.clone()));
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

impl Doors {
    async fn open(config: &ServeConfig) -> Result<Self, ServeError> {
        let bound = TcpListener::bind(config.listen).await;
        let listener = bound.map_err(|error| ServeError::Listen(config.listen, error))?;
        let Some(settings) = config.intercept.clone() else {
            return Ok(Self { listener, interceptor: None });
        };
        let needs_key = !config.keys.is_empty();
        let interceptor = Interceptor::open(&config.store.data_dir, settings, needs_key).await?;
        Ok(Self { listener, interceptor: Some(interceptor) })
    }

    /// Serves every client until the workers are gone.
    pub(super) async fn answer(self, router: Router, workers_gone: watch::Receiver<bool>) {
        let answer_for_fal = async {
            if let Some(interceptor) = self.interceptor {
                interceptor.run(router.clone(), super::turned_true(workers_gone.clone())).await;
            }
        };
        let answer = http::listen(self.listener, router.clone(), super::turned_true(workers_gone.clone()));
        tokio::join!(answer, answer_for_fal);
    }
}

/// What is written while it serves.
fn disks(config: &ServeConfig) -> Disks {
    let database = config.store.database.parent().map(Path::to_owned);
    Disks::new(database.into_iter().chain([config.store.files.clone()]), config.min_free_disk)
}

/// What a stopped server left in hand is in hand no more.
async fn take_back(config: &ServeConfig, queue: &Queue) -> Result<(), ServeError> {
    if !config.engines.is_empty() {
        let orphans = queue.reclaim(Lost::Everything).await?;
        if orphans.waiting + orphans.ended > 0 {
            tracing::info!(?orphans, "requests that a stopped server left running");
        }
    }
    queue.forget_silent_workers().await?;
    Ok(queue.release_webhooks().await?)
}

/// Refuses to be open to other machines.
fn check_reach(config: &ServeConfig, keys: &KeyRing) -> Result<(), ConfigError> {
    if config.listen.ip().is_loopback() || !keys.is_open() {
        return Ok(());
    }
    Err(ConfigError(format!(
        "--listen {} is reachable from other machines: make a key with `latentd keys create`, set --api-key (or LATENTD_API_KEY), or listen on 127.0.0.1",
        config.listen
    )))
}

/// Ends what did not start in time, and puts back what workers without a supervisor left behind.
async fn watch_times(queue: Queue) {
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
        match queue.reclaim_expired(&mut check).await {
            Ok(reclaimed) if reclaimed.waiting + reclaimed.ended > 0 => {
                tracing::warn!(?reclaimed, "leases ran out");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "leases not checked"),
        }
    }
}
