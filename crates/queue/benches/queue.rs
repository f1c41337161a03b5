//! Measures the queue on both engines, with commits that are on the disk: submissions a second, polls a second, both at once
//! as with 1,000 waiting clients, how long it takes to save a request's state, how long a claim takes with few and with many
//! requests waiting, and how many requests a second 1 to 8 workers complete whose engine sleeps.
//! `cargo bench --workspace --bench queue -- [WAITING]`; prints a table.
#![forbid(unsafe_code)]

#[expect(dead_code, reason = "the server that tests share is not for measuring")]
#[path = "../tests/suite/cluster.rs"]
mod cluster;

use cluster::Cluster;
use jiff::Timestamp;
use latentd_queue::queue::{
    Claim, Database, Level, NewRequest, Origin, Priority, Queue, RequestId, RequestOptions, Submission,
};
use serde_json::json;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long each rate is measured.
const SPAN: Duration = Duration::from_secs(5);

/// Bytes of the latents of a 1024x1024 image, `[1, 16, 128, 128]` f32.
const STATE: usize = 16 * 128 * 128 * 4;

/// Claims that are timed.
const CLAIMS: usize = 300;

/// Clients that poll once in [`POLL_INTERVAL`] each: 10,000 polls a second.
const WAITING_CLIENTS: usize = 1_000;
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Pause of a client that submits beside them.
const SUBMIT_INTERVAL: Duration = Duration::from_millis(20);

/// A request of the sleeping engine takes so many steps.
const STEPS: u32 = 4;
const STEP: Duration = Duration::from_micros(12_500);

#[tokio::main]
async fn main() {
    let waiting = std::env::args().skip(1).find_map(|text| text.parse().ok()).unwrap_or(100_000_u32);
    let folder = tempfile::tempdir().expect("a folder");
    let of_postgres = tempfile::tempdir().expect("a folder of another user");
    let cluster = Cluster::start(of_postgres.path(), true);
    println!("engine     what                             a second   p50 ms   p99 ms");
    let sqlite = Database::Sqlite(folder.path().join("q.sqlite"));
    let postgres = cluster.options().to_url_lossy().as_str().parse().expect("a URL");
    for (name, database) in [("sqlite", sqlite), ("postgres", postgres)] {
        measure(name, &database, waiting).await;
    }
}

async fn measure(name: &str, database: &Database, waiting: u32) {
    let queue = Queue::open(database, Arc::new(Timestamp::now)).await.expect("a database");
    let mut last = None;
    for clients in [1, 8] {
        let (times, id) = submit(&queue, clients).await;
        report(name, &format!("submit, {clients} at once"), times, SPAN);
        last = id;
    }
    let id = last.expect("a request");
    for clients in [1, 8] {
        let times = poll(&queue, clients, id).await;
        report(name, &format!("poll, {clients} at once"), times, SPAN);
    }
    let (polls, submits) = poll_and_submit(&queue, id).await;
    report(name, "poll, 1,000 clients, 10/s each", polls, SPAN);
    report(name, "submit beside these polls", submits, SPAN);
    let claim = queue.claim("w", &[]).await.expect("a database").expect("a request");
    let began = Instant::now();
    let mut times = Vec::new();
    while began.elapsed() < SPAN {
        // SQLite writes only the pages that differ.
        let state = vec![times.len() as u8; STATE];
        let began = Instant::now();
        queue.store_state(&claim, 1, state).await.expect("a database");
        times.push(began.elapsed());
    }
    report(name, "save a state of 1 MiB", times, SPAN);
    while queue.claim("drain", &[]).await.expect("a database").is_some() {}
    for count in [CLAIMS as u32, waiting] {
        insert(database, count).await;
        let began = Instant::now();
        let mut times = Vec::new();
        for _ in 0..CLAIMS {
            let began = Instant::now();
            assert!(queue.claim("w", &[]).await.expect("a database").is_some());
            times.push(began.elapsed());
        }
        report(name, &format!("claim, {count} waiting"), times, began.elapsed());
    }
    insert(database, 2_000).await;
    for workers in [1, 2, 4, 8] {
        let times = work(database, workers).await;
        report(name, &format!("{workers} workers, 50 ms a request"), times, SPAN);
    }
    queue.close().await;
}

fn request() -> NewRequest {
    NewRequest {
        endpoint: "app".into(),
        origin: Origin::Queued,
        priority: Priority::Normal,
        body: json!({ "prompt": "a fox in the snow", "image_size": { "width": 1024, "height": 1024 } }),
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

async fn submit(queue: &Queue, clients: usize) -> (Vec<Duration>, Option<RequestId>) {
    let client = |queue: Queue| async move {
        let (began, mut times, mut last) = (Instant::now(), Vec::new(), None);
        while began.elapsed() < SPAN {
            let began = Instant::now();
            match queue.submit(&request()).await.expect("a database") {
                Submission::Accepted { id, .. } => last = Some(id),
                other => panic!("{other:?}"),
            }
            times.push(began.elapsed());
        }
        (times, last)
    };
    let clients: Vec<_> = (0..clients).map(|_| tokio::spawn(client(queue.clone()))).collect();
    let (mut all, mut any) = (Vec::new(), None);
    for client in clients {
        let (times, last) = client.await.expect("no panic");
        all.extend(times);
        any = any.or(last);
    }
    (all, any)
}

async fn poll(queue: &Queue, clients: usize, id: RequestId) -> Vec<Duration> {
    let client = |queue: Queue| async move {
        let (began, mut times) = (Instant::now(), Vec::new());
        while began.elapsed() < SPAN {
            let began = Instant::now();
            queue.status(id).await.expect("a database").expect("a request");
            times.push(began.elapsed());
        }
        times
    };
    let clients: Vec<_> = (0..clients).map(|_| tokio::spawn(client(queue.clone()))).collect();
    let mut all = Vec::new();
    for client in clients {
        all.extend(client.await.expect("no panic"));
    }
    all
}

/// Times of polls and of submits, at fixed rates at the same time.
async fn poll_and_submit(queue: &Queue, id: RequestId) -> (Vec<Duration>, Vec<Duration>) {
    let poll = |queue: Queue, number: usize| async move {
        tokio::time::sleep(POLL_INTERVAL * number as u32 / WAITING_CLIENTS as u32).await;
        at_intervals(POLL_INTERVAL, || {
            let queue = queue.clone();
            async move { queue.status(id).await.expect("a database").expect("a request") }
        })
        .await
    };
    let clients: Vec<_> =
        (0..WAITING_CLIENTS).map(|number| tokio::spawn(poll(queue.clone(), number))).collect();
    let submit = || async { queue.submit(&request()).await.expect("a database") };
    let submits = at_intervals(SUBMIT_INTERVAL, submit).await;
    let mut polls = Vec::new();
    for client in clients {
        polls.extend(client.await.expect("no panic"));
    }
    (polls, submits)
}

/// How long each call took, of one that is due every `interval`. A late one is due at once.
async fn at_intervals<F: Future>(interval: Duration, call: impl Fn() -> F) -> Vec<Duration> {
    let (began, mut clock, mut times) = (Instant::now(), tokio::time::interval(interval), Vec::new());
    while began.elapsed() < SPAN {
        let due = clock.tick().await.into_std();
        call().await;
        times.push(due.elapsed());
    }
    times
}

/// How long requests took that so many workers completed, each with connections of its own as a process has. Their engine
/// only sleeps, so what is left is the queue.
async fn work(database: &Database, workers: usize) -> Vec<Duration> {
    let worker = |queue: Queue, name: String| async move {
        let (began, mut times) = (Instant::now(), Vec::new());
        while began.elapsed() < SPAN {
            let began = Instant::now();
            let claim = queue.claim(&name, &[]).await.expect("a database").expect("a request");
            complete(&queue, &claim).await;
            times.push(began.elapsed());
        }
        queue.close().await;
        times
    };
    let mut running = Vec::new();
    for number in 0..workers {
        let queue = Queue::open(database, Arc::new(Timestamp::now)).await.expect("a database");
        running.push(tokio::spawn(worker(queue, format!("worker {number} of {workers}"))));
    }
    let mut all = Vec::new();
    for worker in running {
        all.extend(worker.await.expect("no panic"));
    }
    all
}

/// What a worker writes for one request.
async fn complete(queue: &Queue, claim: &Claim) {
    queue.charge(claim).await.expect("a database");
    for step in 1..=STEPS {
        tokio::time::sleep(STEP).await;
        let line = format!("step {step}/{STEPS}");
        queue.progress(claim, Level::Info, &line).await.expect("a database");
    }
    queue.finish(claim, &json!({ "images": [] }), &[], &[]).await.expect("a database");
}

/// Requests that wait, in one statement: submitting so many would take longer than what is measured.
async fn insert(database: &Database, count: u32) {
    let insert = |id: &str| {
        format!(
            "INSERT INTO requests (id, endpoint, origin, priority, body, state, created_at, turn)
            SELECT {id}, 'app', 'queued', 2, '{{}}', 'waiting', 0, 1000000 + seq FROM "
        )
    };
    match database {
        Database::Sqlite(path) => {
            let mut connection = connect_sqlite(path).await;
            let numbers = format!(
                "(WITH RECURSIVE numbers (seq) AS (VALUES (1) UNION ALL SELECT seq + 1 FROM numbers WHERE seq < {count})
                SELECT seq FROM numbers)"
            );
            sqlx::raw_sql(AssertSqlSafe(insert("lower(hex(randomblob(16)))") + &numbers))
                .execute(&mut connection)
                .await
                .expect("rows");
        }
        Database::Postgres { options, .. } => {
            let mut connection = options.connect().await.expect("the server");
            let numbers = format!("generate_series(1, {count}) AS numbers (seq); ANALYZE requests");
            sqlx::raw_sql(AssertSqlSafe(insert("gen_random_uuid()::text") + &numbers))
                .execute(&mut connection)
                .await
                .expect("rows");
        }
    }
}

async fn connect_sqlite(path: &Path) -> sqlx::SqliteConnection {
    SqliteConnectOptions::new().filename(path).connect().await.expect("the file")
}

fn report(engine: &str, what: &str, mut times: Vec<Duration>, span: Duration) {
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
    let rate = times.len() as f64 / span.as_secs_f64();
    println!("{engine:<10} {what:<30} {rate:>10.0} {:>8.2} {:>8.2}", at(50), at(99));
}
