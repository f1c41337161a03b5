//! The databases of tests: files of SQLite, or with `LATENTD_TEST_ENGINE=postgres` those of a real PostgreSQL server.

#[path = "../../crates/queue/tests/suite/cluster.rs"]
pub(crate) mod cluster;

use latentd::queue::Database;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Those whose clock a test moves.
#[derive(Clone, Default)]
pub(crate) struct Databases(Arc<Mutex<Vec<PgConnectOptions>>>);

pub(crate) fn is_postgres() -> bool {
    std::env::var("LATENTD_TEST_ENGINE").is_ok_and(|engine| engine == "postgres")
}

impl Databases {
    /// The database of a directory, the same whenever it is asked for.
    pub(crate) async fn of(&self, directory: &Path) -> Database {
        if !is_postgres() {
            return Database::Sqlite(directory.join("q.sqlite"));
        }
        let name = format!("it-{}", directory.file_name().expect("a name").display());
        let server = cluster::shared();
        let make = format!("CREATE DATABASE \"{name}\"");
        let mut admin = server.connect().await.expect("the server of the tests");
        let made = sqlx::raw_sql(AssertSqlSafe(make)).execute(&mut admin).await.is_ok();
        let options = server.database(&name);
        if made {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(options.clone());
        }
        options.to_url_lossy().as_str().parse().expect("a URL")
    }

    /// Sets their clocks ahead of the real time, for a test that does not wait for it.
    pub(crate) fn set_ahead(&self, seconds: i64) {
        let databases = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if databases.is_empty() {
            return;
        }
        let set = async move {
            for database in databases {
                let later = format!(
                    "CREATE OR REPLACE FUNCTION latentd_now() RETURNS BIGINT LANGUAGE sql VOLATILE AS
                    $$ SELECT floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint + {seconds} * 1000000::bigint $$"
                );
                let mut connection = database.connect().await.expect("the server of the tests");
                sqlx::raw_sql(AssertSqlSafe(later)).execute(&mut connection).await.expect("a clock");
            }
        };
        // The caller's thread is a runtime's and may not wait for another one.
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(set);
        };
        std::thread::spawn(run).join().expect("a clock that is set");
    }
}
