//! Opening the SQLite file: pragmas, the version check and the schema.

use super::QueueError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Row, SqlitePool};
use std::path::Path;
use std::time::Duration;

/// Older SQLite can corrupt a WAL database that two connections write (fixed in 3.51.3).
pub const MIN_SQLITE: &str = "3.51.3";

/// The schema's history: script N takes a database from version N to version N + 1, and `PRAGMA user_version` says where
/// it is. All that are missing run in one transaction when the database is opened, by whichever process comes first.
///
/// To change the schema, add a file to `schema/` and a line to the end of this list. Never edit or move one that was
/// released; of two branches that add one each, either may come first as long as neither was released.
const MIGRATIONS: &[&str] = &[
    include_str!("schema.sql"),
    include_str!("schema/terms.sql"),
    include_str!("schema/webhooks.sql"),
    include_str!("schema/uploads.sql"),
    include_str!("schema/keys.sql"),
    include_str!("schema/idempotency.sql"),
    include_str!("schema/retention.sql"),
    include_str!("schema/previews.sql"),
    include_str!("schema/models.sql"),
    include_str!("schema/counters.sql"),
    include_str!("schema/leases.sql"),
];

/// One connection writes, so that writers of this process queue here and not on SQLite's lock.
pub(super) async fn open(path: &Path) -> Result<(SqlitePool, SqlitePool), QueueError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5))
        // What is erased is gone from the file too.
        .pragma("secure_delete", "ON")
        .foreign_keys(true);
    let writer = pool(1).connect_with(options.clone()).await?;
    check_version(&writer).await?;
    migrate(&writer).await?;
    let reader = pool(2).connect_with(options.read_only(true)).await?;
    Ok((writer, reader))
}

/// A connection to a local file does not go stale: no check before use, no renewal.
fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
}

async fn check_version(pool: &SqlitePool) -> Result<(), QueueError> {
    let version: String = sqlx::query("SELECT sqlite_version()").fetch_one(pool).await?.try_get(0)?;
    if triple(&version) < triple(MIN_SQLITE) {
        return Err(QueueError::OldSqlite(version));
    }
    Ok(())
}

fn triple(version: &str) -> Vec<u32> {
    version.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

async fn migrate(pool: &SqlitePool) -> Result<(), QueueError> {
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    let version: i64 = sqlx::query("PRAGMA user_version").fetch_one(&mut *tx).await?.try_get(0)?;
    let done = usize::try_from(version).unwrap_or(0);
    if done > MIGRATIONS.len() {
        return Err(QueueError::NewerSchema(version));
    }
    for script in &MIGRATIONS[done..] {
        sqlx::raw_sql(*script).execute(&mut *tx).await?;
    }
    if done < MIGRATIONS.len() {
        let stamp = format!("PRAGMA user_version = {}", MIGRATIONS.len());
        sqlx::raw_sql(sqlx::AssertSqlSafe(stamp)).execute(&mut *tx).await?;
    }
    Ok(tx.commit().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert!(triple("3.9.0") < triple("3.51.3"));
        assert!(triple("3.51.10") > triple("3.51.3"));
    }
}
