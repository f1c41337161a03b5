//! A database of one's own on either engine, whose time can be moved.

use crate::cluster;
use jiff::{SignedDuration, Timestamp};
use latentd_queue::queue::{
    Claim, Database, LEASE_CHECKS, LeaseCheck, LeaseClock, NewRequest, Origin, Priority, Queue, Reclaimed,
    RequestId, RequestOptions, Submission,
};
use serde_json::json;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::sync::Mutex;

/// A test's database; clones share it.
#[derive(Clone)]
pub(crate) struct Rig {
    pub(crate) database: Database,
    /// When the test began, unless time passes in it by [`Rig::advance`] alone.
    began: Option<Instant>,
    advanced: Arc<AtomicI64>,
    /// To move PostgreSQL's time with, where it is stopped.
    clock: Option<Arc<Mutex<PgConnection>>>,
    _folder: Arc<TempDir>,
}

/// PostgreSQL's time is what a row says.
const STOPPED: &str = "CREATE TABLE stopped_clock (us BIGINT NOT NULL);
    INSERT INTO stopped_clock VALUES (latentd_now());
    CREATE OR REPLACE FUNCTION latentd_now() RETURNS BIGINT LANGUAGE sql VOLATILE AS
        $$ SELECT us FROM stopped_clock $$";

impl Rig {
    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let database = Database::Sqlite(folder.path().join("q.sqlite"));
        Self::of(database, folder)
    }

    pub(crate) async fn postgres() -> Self {
        let name = format!("t{}", uuid::Uuid::new_v4().simple());
        let mut admin = connect(&cluster::shared()).await;
        run(&mut admin, format!("CREATE DATABASE {name}")).await;
        Self::of_postgres(cluster::shared().database(&name))
    }

    pub(crate) fn of_postgres(options: PgConnectOptions) -> Self {
        let database = options.to_url_lossy().as_str().parse().expect("a URL");
        Self::of(database, tempfile::tempdir().expect("a folder"))
    }

    fn of(database: Database, folder: TempDir) -> Self {
        let _folder = Arc::new(folder);
        Self { database, began: Some(Instant::now()), advanced: Arc::default(), clock: None, _folder }
    }

    /// From here on time passes by [`Rig::advance`] alone, so that a test knows it to the microsecond.
    pub(crate) async fn stop_clock(self) -> Self {
        let mut stopped = Self { began: None, ..self };
        let queue = stopped.open().await;
        queue.note_time().await.expect("a database");
        if let Database::Postgres { options, .. } = &stopped.database {
            let mut clock = connect(options).await;
            run(&mut clock, STOPPED.into()).await;
            stopped.clock = Some(Arc::new(Mutex::new(clock)));
        }
        queue.close().await;
        stopped
    }

    /// The database as a process of its own sees it.
    pub(crate) async fn open(&self) -> Queue {
        let (advanced, began) = (self.advanced.clone(), self.began);
        let date = move || if began.is_some() { Timestamp::now() } else { Timestamp::UNIX_EPOCH };
        let now = move || date() + SignedDuration::from_secs(advanced.load(Ordering::Relaxed));
        let queue = Queue::open(&self.database, Arc::new(now)).await.expect("a database");
        let advanced = self.advanced.clone();
        let uptime = move || {
            let at_start = 86_400 + advanced.load(Ordering::Relaxed);
            began.map(|began| began.elapsed()).unwrap_or_default()
                + Duration::from_secs(at_start.unsigned_abs())
        };
        queue.with_lease_clock(LeaseClock::new("boot", uptime))
    }

    /// Time passes, by whichever clock counts.
    pub(crate) async fn advance(&self, time: Duration) {
        let seconds = i64::try_from(time.as_secs()).expect("seconds");
        let by = self.advanced.fetch_add(seconds, Ordering::Relaxed) + seconds;
        if let Some(clock) = &self.clock {
            let later = format!("UPDATE stopped_clock SET us = us + {seconds}000000");
            run(&mut *clock.lock().await, later).await;
        } else if let Database::Postgres { options, .. } = &self.database {
            let later = format!(
                "CREATE OR REPLACE FUNCTION latentd_now() RETURNS BIGINT LANGUAGE sql VOLATILE AS
                $$ SELECT floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint + {by}000000 $$"
            );
            run(&mut connect(options).await, later).await;
        }
    }

    /// Removes what a test that passed leaves.
    pub(crate) async fn end(self) {
        if let Database::Postgres { options, .. } = &self.database {
            let mut admin = connect(&cluster::shared()).await;
            let name = options.get_database().expect("a name");
            run(&mut admin, format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
        }
    }
}

pub(crate) async fn connect(options: &PgConnectOptions) -> PgConnection {
    options.connect().await.expect("the server of the tests")
}

pub(crate) async fn run(connection: &mut PgConnection, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.expect("a statement");
}

/// A request with nothing special about it.
pub(crate) fn request() -> NewRequest {
    NewRequest {
        endpoint: "app".into(),
        origin: Origin::Queued,
        priority: Priority::Normal,
        body: json!({ "prompt": "a fox" }),
        model: None,
        max_waiting: None,
        options: RequestOptions::default(),
        webhook: None,
        api_key: None,
        client: None,
        traceparent: None,
        idempotency: None,
    }
}

pub(crate) fn of_key(key: &str) -> NewRequest {
    NewRequest { api_key: Some(key.into()), ..request() }
}

pub(crate) async fn submit(queue: &Queue, new: &NewRequest) -> RequestId {
    match queue.submit(new).await.expect("a database") {
        Submission::Accepted { id, .. } => id,
        other => panic!("not accepted: {other:?}"),
    }
}

pub(crate) async fn claim(queue: &Queue, worker: &str) -> Option<Claim> {
    queue.claim(worker, &["m".into()]).await.expect("a database")
}

/// Claims until nothing is left; the order of the requests.
pub(crate) async fn claim_all(queue: &Queue) -> Vec<RequestId> {
    let mut order = Vec::new();
    while let Some(claim) = claim(queue, "w").await {
        order.push(claim.id);
    }
    order
}

/// Looks for expired leases as often as it takes to void one.
pub(crate) async fn reclaim_expired(queue: &Queue) -> Reclaimed {
    let mut check = LeaseCheck::default();
    for _ in 1..LEASE_CHECKS {
        let early = queue.reclaim_expired(&mut check).await.expect("a database");
        assert_eq!(early, Reclaimed::default(), "all checks must find a lease over");
    }
    queue.reclaim_expired(&mut check).await.expect("a database")
}
