//! The databases of tests: files of SQLite, or with `LATENTD_TEST_ENGINE=postgres` those of a real PostgreSQL server.
//!
//! All test processes share one server (`cluster::shared`); each test and each data directory has a database of its own,
//! which the next test process removes.

#[path = "../../crates/queue/tests/suite/cluster.rs"]
pub(crate) mod cluster;

use latentd::queue::Database;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Tests that are about SQLite, by how their names begin, and why. They stay on it whatever the engine.
const OF_SQLITE: &[(&str, &str)] = &[
    ("backup::", "a database of a server is copied by its own tools, and `latentd backup` says so"),
    ("bench::", "it measures the file's data directory"),
    ("disks::", "the file is on the disk that is full"),
    ("erasure::", "it searches the files of the data directory"),
    ("durable::", "it is about what is synced in the data directory"),
    ("identity::", "it moves and exchanges files of databases"),
    ("private::", "it is about the permissions of files and about what a start does to them"),
    ("faults::a_database_that_is_locked_for_longer_than_a_lease_costs_nothing", "the file is locked"),
    ("watch::requests_of_killed_workers_are_put_back_when_the_database_is_free_again", "the file is locked"),
    (
        "orphans::twenty_kills_in_the_middle_of_uploads_leave_no_file_for_good",
        "it opens the file after a restart of the machine",
    ),
    (
        "retention::what_ended_while_the_server_was_away_is_taken_away_after_its_start",
        "it opens the file later",
    ),
    ("keys_command::what_cannot_be_done_is_refused", "without a file there are no keys to list or revoke"),
    (
        "keys_command::the_server_listens_for_other_machines_only_when_there_is_a_key",
        "without a file there is no key, and nothing is made to look for one",
    ),
];

/// Those whose clock a test moves.
#[derive(Clone, Default)]
pub(crate) struct Databases(Arc<Mutex<Vec<PgConnectOptions>>>);

fn is_postgres() -> bool {
    let is_asked_for = std::env::var("LATENTD_TEST_ENGINE").is_ok_and(|engine| engine == "postgres");
    let name = test_name();
    is_asked_for && !OF_SQLITE.iter().any(|(start, _)| name.starts_with(start))
}

/// The name of the test that runs: that of its thread, or where nextest gives it a process, an argument.
fn test_name() -> String {
    let thread = std::thread::current().name().filter(|name| name.contains("::")).map(ToOwned::to_owned);
    thread.or_else(|| std::env::args().skip(1).find(|argument| argument.contains("::"))).unwrap_or_default()
}

impl Databases {
    /// The database of a directory, the same whenever it is asked for.
    pub(crate) async fn of(&self, directory: &Path) -> Database {
        let Some(options) = database_of(directory).await else {
            return Database::Sqlite(directory.join("q.sqlite"));
        };
        let database = options.to_url_lossy().as_str().parse().expect("a URL");
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.iter().all(|other| other.get_database() != options.get_database()) {
            known.push(options);
        }
        database
    }

    /// Sets their clocks ahead of the real time, for a test that does not wait for it.
    pub(crate) fn set_ahead(&self, seconds: i64) {
        let databases = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if databases.is_empty() {
            return;
        }
        run_apart(async move {
            for database in databases {
                let later = format!(
                    "CREATE OR REPLACE FUNCTION latentd_now() RETURNS BIGINT LANGUAGE sql VOLATILE AS
                    $$ SELECT floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint + {seconds} * 1000000::bigint $$"
                );
                run(&mut connect(&database).await, later).await.expect("a clock");
            }
        });
    }
}

/// What tells the real program where the database of its data directory is; `None`: in that directory.
pub(crate) fn environment_of(data: &Path) -> Option<(&'static str, String)> {
    let data = data.to_owned();
    let options = run_apart(async move { database_of(&data).await })?;
    Some(("LATENTD_DATABASE_URL", options.to_url_lossy().into()))
}

/// The database of a directory, made when it is asked for first; `None` on SQLite.
async fn database_of(directory: &Path) -> Option<PgConnectOptions> {
    if !is_postgres() {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    directory.hash(&mut hasher);
    let name = format!("it-{}-{:016x}", std::process::id(), hasher.finish());
    let server = cluster::shared();
    let mut admin = connect(&server).await;
    if run(&mut admin, format!("CREATE DATABASE \"{name}\"")).await.is_ok() {
        remove_abandoned(&mut admin).await;
    }
    Some(server.database(&name))
}

/// Everything that the database of a directory holds, as text.
pub(crate) async fn stored_text(directory: &Path) -> String {
    let Some(options) = database_of(directory).await else {
        let read = |name: &str| std::fs::read(directory.join(name)).unwrap_or_default();
        return String::from_utf8_lossy(&[read("q.sqlite"), read("q.sqlite-wal")].concat()).into_owned();
    };
    let mut connection = connect(&options).await;
    let tables =
        sqlx::query("SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public'");
    let mut text = String::new();
    for table in tables.fetch_all(&mut connection).await.expect("the tables") {
        let rows = format!(
            "SELECT coalesce(string_agg(t::text, ' '), '') FROM \"{}\" AS t",
            table.get::<String, _>(0)
        );
        let rows = sqlx::query(AssertSqlSafe(rows)).fetch_one(&mut connection).await.expect("a table");
        text += rows.get(0);
    }
    text
}

/// Whether a query finds a row in the database of a directory.
pub(crate) async fn finds(directory: &Path, query: &'static str) -> bool {
    match database_of(directory).await {
        Some(options) => {
            let mut connection = connect(&options).await;
            sqlx::query(query).fetch_optional(&mut connection).await.expect("a table").is_some()
        }
        None => {
            let options = SqliteConnectOptions::new().filename(directory.join("q.sqlite")).read_only(true);
            let mut connection = options.connect().await.expect("the database");
            let row = sqlx::query(query).fetch_optional(&mut connection).await.expect("a table");
            connection.close().await.expect("an end");
            row.is_some()
        }
    }
}

/// After how many steps the state was taken that a running program has stored of a request.
pub(crate) async fn steps_of_state(directory: &Path, id: &str) -> Option<usize> {
    let steps = "SELECT progress FROM states WHERE request = $1";
    let steps: Option<i64> = match database_of(directory).await {
        Some(options) => {
            let mut connection = connect(&options).await;
            sqlx::query_scalar(steps).bind(id).fetch_optional(&mut connection).await.expect("a table")
        }
        None => {
            let options = SqliteConnectOptions::new().filename(directory.join("latentd.sqlite"));
            let mut connection = options.read_only(true).connect().await.expect("the database");
            let steps = sqlx::query_scalar(steps).bind(id).fetch_optional(&mut connection);
            let steps = steps.await.expect("a table");
            connection.close().await.expect("an end");
            steps
        }
    };
    steps.and_then(|steps| usize::try_from(steps).ok())
}

/// Removes the databases of test processes that are gone.
async fn remove_abandoned(admin: &mut PgConnection) {
    let all = sqlx::query("SELECT datname FROM pg_database WHERE datname LIKE 'it-%'");
    for row in all.fetch_all(&mut *admin).await.expect("the server of the tests") {
        let name: String = row.get(0);
        let process = name.split('-').nth(1).unwrap_or_default();
        if !Path::new("/proc").join(process).exists() {
            // Another process may be removing it too.
            let _ = run(admin, format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)")).await;
        }
    }
}

async fn connect(options: &PgConnectOptions) -> PgConnection {
    options.connect().await.expect("the server of the tests")
}

async fn run(connection: &mut PgConnection, sql: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(drop)
}

/// Waits for a future where the caller's thread may not: it is a runtime's, or has none.
fn run_apart<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    let name = test_name();
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(future)
    };
    let thread = std::thread::Builder::new().name(name).spawn(run);
    thread.expect("a thread").join().expect("no panic")
}
