//! The server without a socket and a process: the real router over a real database and real files.

use super::{HOUR, TestClock, endpoints};
use crate::databases;
use axum::Router;
use latentd::disk::Disks;
use latentd::identity;
use latentd::keys::{KeyHash, KeyRing};
use latentd::queue::{LEASE_CHECKS, LeaseCheck, Queue, Reclaimed};
use latentd::signing::SigningKey;
use latentd::storage::Storage;
use latentd::storage_limit::StorageLimit;
use latentd_egress::Egress;
use latentd_fal::{Api, ConnectionMemory, Documents, Probe, Refusals, WaitingClients, WebAccess, router};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::{Notify, watch};

/// The names by which tests call a server that has no keys.
fn hosts_of_tests() -> WebAccess {
    let mut web = WebAccess::default();
    for name in ["10.0.0.5", "inside", "me", "images.example", "real", "test"] {
        web.allow_host(name).expect("a host name");
    }
    web
}

/// A server that tests call through [`Server::send`].
pub(crate) struct Server {
    pub(crate) router: Router,
    pub(crate) queue: Queue,
    pub(crate) storage: Storage,
    pub(crate) clock: TestClock,
    pub(crate) closing: watch::Sender<bool>,
    pub(crate) directory: TempDir,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// A server whose settings a test changes first.
    pub(crate) async fn with(change: impl FnOnce(&mut Api)) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let clock = TestClock::default();
        let queue = open(directory.path(), &clock).await;
        let storage = Storage::local(&directory.path().join("files")).expect("a fresh directory");
        // Files may be removed: the first hour of the two is over.
        clock.advance(-HOUR);
        identity::join(&queue, &storage).await.expect("a database and a folder, both new");
        clock.advance(HOUR);
        queue.note_time().await.expect("a database");
        let (closing, is_closing) = watch::channel(false);
        let mut api = Api {
            queue: queue.clone(),
            storage: storage.clone(),
            disks: Disks::default(),
            storage_limit: StorageLimit::default(),
            endpoints: endpoints(1536),
            keys: KeyRing::default(),
            web: hosts_of_tests(),
            isolate_keys: false,
            metrics_open: false,
            public_url: None,
            trusted_proxies: Vec::new(),
            max_queue: 100,
            max_upload: 64 * 1024,
            max_open_uploads: 100,
            lora_names: Vec::new(),
            controlnet_names: Vec::new(),
            ip_adapter_names: Vec::new(),
            adapter_cache_bytes: Arc::new(|| 0),
            gpus: Arc::new(Vec::new),
            validate_on_submit: false,
            no_metadata: false,
            egress: Egress::default(),
            signing: Arc::new(SigningKey::open(directory.path()).expect("a new key")),
            run_patience: Duration::from_secs(240),
            refusals: Refusals::default(),
            documents: Documents::default(),
            memory: ConnectionMemory::default(),
            waiting_clients: WaitingClients::default(),
            probe: Probe::default(),
            closing: is_closing,
            drain: Arc::new(Notify::new()),
            commit: "test",
        };
        change(&mut api);
        Self { router: router(api), queue, storage, clock, closing, directory }
    }

    pub(crate) async fn with_key(key: &str) -> Self {
        Self::with(|api| api.keys = KeyRing::new(vec![KeyHash::of(key)])).await
    }

    /// The database with connections of its own, as another process has them.
    pub(crate) async fn open_again(&self) -> Queue {
        open(self.directory.path(), &self.clock).await
    }

    /// Everything that the database holds, as text.
    pub(crate) async fn stored_text(&self) -> String {
        databases::stored_text(self.directory.path()).await
    }

    /// Whether a query finds a row.
    pub(crate) async fn finds(&self, query: &'static str) -> bool {
        databases::finds(self.directory.path(), query).await
    }

    /// Looks for expired leases as often as it takes to void one.
    pub(crate) async fn reclaim_expired(&self) -> Reclaimed {
        let mut check = LeaseCheck::default();
        for _ in 1..LEASE_CHECKS {
            let early = self.queue.reclaim_expired(&mut check).await.expect("a database");
            assert_eq!(early, Reclaimed::default(), "a lease is voided only when all checks find it over");
        }
        self.queue.reclaim_expired(&mut check).await.expect("a database")
    }

    /// Names of the stored files, and of whatever else was put beside them.
    pub(crate) fn files(&self) -> Vec<String> {
        files(&self.directory.path().join("files"))
    }
}

async fn open(directory: &Path, clock: &TestClock) -> Queue {
    let reading = clock.clone();
    let database = clock.databases.of(directory).await;
    let queue = Queue::open(database, Arc::new(move || reading.now())).await;
    queue.expect("a database").with_lease_clock(clock.lease_clock())
}

/// What is in the folder of a database's files, without the file that says whose they are.
pub(crate) fn files(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("the directory").map(|entry| entry.expect("an entry"));
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name != "identity.json").collect()
}
