//! Opening the SQLite file: pragmas, the version check and the schema.

use crate::planted::{self, Bug};
use crate::queue::QueueError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, Row, SqliteConnection, SqlitePool};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

/// Older SQLite can corrupt a WAL database that two connections write (fixed in 3.51.3).
pub const MIN_SQLITE: &str = "3.51.3";

/// How long a write waits for those of this process before it. Those that wait on another process' lock take up to
/// SQLite's own patience each.
const PATIENCE: Duration = Duration::from_secs(10);

/// The schema's history: script N takes a database from version N to version N + 1, and `PRAGMA user_version` says where
/// it is. All that are missing run in one transaction when the database is opened, by whichever process comes first.
///
/// To change the schema, add a file to `schema/sqlite/` and a line to the end of this list. Never edit or move one that was
/// released; of two branches that add one each, either may come first as long as neither was released.
const MIGRATIONS: &[&str] = &[
    include_str!("../schema/sqlite/first.sql"),
    include_str!("../schema/sqlite/request_options.sql"),
    include_str!("../schema/sqlite/webhooks.sql"),
    include_str!("../schema/sqlite/uploads.sql"),
    include_str!("../schema/sqlite/keys.sql"),
    include_str!("../schema/sqlite/idempotency.sql"),
    include_str!("../schema/sqlite/retention.sql"),
    include_str!("../schema/sqlite/previews.sql"),
    include_str!("../schema/sqlite/models.sql"),
    include_str!("../schema/sqlite/counters.sql"),
    include_str!("../schema/sqlite/unowned.sql"),
    include_str!("../schema/sqlite/identity.sql"),
    include_str!("../schema/sqlite/leases.sql"),
    include_str!("../schema/sqlite/rest.sql"),
    include_str!("../schema/sqlite/pruning.sql"),
    include_str!("../schema/sqlite/service_time.sql"),
    include_str!("../schema/sqlite/access.sql"),
    include_str!("../schema/sqlite/turns.sql"),
    include_str!("../schema/sqlite/states.sql"),
    include_str!("../schema/sqlite/progress.sql"),
    include_str!("../schema/sqlite/keeping.sql"),
    include_str!("../schema/sqlite/key_counters.sql"),
    include_str!("../schema/sqlite/client.sql"),
    include_str!("../schema/sqlite/traceparent.sql"),
];

/// One connection writes, so that writers of this process queue here and not on SQLite's lock.
pub(in super::super) async fn open(path: &Path) -> Result<(SqlitePool, SqlitePool), QueueError> {
    make_private(path).map_err(sqlx::Error::Io)?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(if planted::has(Bug::NoSync) { SqliteSynchronous::Off } else { SqliteSynchronous::Full })
        .busy_timeout(Duration::from_secs(5))
        // What is erased is gone from the file too.
        .pragma("secure_delete", "ON")
        .foreign_keys(true);
    let writer =
        pool(1).acquire_timeout(PATIENCE).after_release(|connection, _| Box::pin(is_sound(connection)));
    let writer = writer.connect_with(options.clone()).await?;
    check_version(&writer).await?;
    migrate(&writer).await?;
    let reader = pool(2).connect_with(options.read_only(true)).await?;
    Ok((writer, reader))
}

/// Reads the id of the database, if the file and its table are there.
pub(super) async fn look_identity(path: &Path) -> Result<Option<String>, QueueError> {
    if !path.exists() {
        return Ok(None);
    }
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    // Without a log nobody writes and the file is whole: it is read without the files that SQLite makes beside it.
    let options =
        SqliteConnectOptions::new().filename(path).read_only(true).immutable(!Path::new(&log).exists());
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let made = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'identity')";
    let id = match sqlx::query(made).fetch_one(&mut connection).await?.try_get(0)? {
        false => None,
        true => sqlx::query("SELECT id FROM identity").fetch_optional(&mut connection).await?,
    };
    let id = id.map(|row| row.try_get(0)).transpose()?;
    connection.close().await?;
    Ok(id)
}

/// Makes the file for this user alone, unless it is there. SQLite gives its other files the same permissions.
fn make_private(path: &Path) -> std::io::Result<()> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path).map(drop)
}

/// May the writing connection be used again? Every write ends here, whatever became of it.
///
/// Where a disk is full SQLite itself rolls back, and SQLx' own ROLLBACK then fails: SQLx would take the connection to be
/// in a transaction for ever and refuse every later one. Such a connection is closed, and the next write opens another.
async fn is_sound(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    connection.ping().await?; // a rollback may still be on its way
    let is_sound = !connection.is_in_transaction();
    if !is_sound {
        tracing::warn!("the writing connection of the database is in doubt and is replaced");
    }
    Ok(is_sound)
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
    use crate::fault::Fault;
    use crate::queue::Queue;
    use crate::queue::store::Store;
    use std::sync::Arc;

    fn pool(store: &Store) -> &SqlitePool {
        match store {
            Store::Sqlite(pool) => pool,
            Store::Postgres(_) => panic!("a file was opened"),
        }
    }

    async fn queue(path: &Path) -> Queue {
        Queue::open(path, Arc::new(jiff::Timestamp::now)).await.expect("a database")
    }

    #[test]
    fn versions_compare_by_number() {
        assert!(triple("3.9.0") < triple("3.51.3"));
        assert!(triple("3.51.10") > triple("3.51.3"));
    }

    #[tokio::test]
    async fn a_write_that_had_no_room_spoils_no_later_one_twenty_times() {
        let directory = tempfile::tempdir().expect("a directory");
        let queue = queue(&directory.path().join("q.sqlite")).await;
        let keys: Vec<_> = (0..5_000).map(|number| format!("{number:0>50}")).collect();
        let keys: Vec<_> = keys.iter().map(String::as_str).collect();
        for _ in 0..20 {
            sqlx::query("PRAGMA max_page_count = 1").execute(pool(&queue.writer)).await.expect("a pragma");
            let refused = queue.expect_files(&keys, None).await.expect_err("there is no room");
            assert!(refused.is_machines(), "{refused:?}");
            // On a full disk SQLite rolls back by itself, and SQLx does not notice.
            let mut tx = pool(&queue.writer).begin_with("BEGIN IMMEDIATE").await.expect("a transaction");
            sqlx::raw_sql("ROLLBACK").execute(&mut *tx).await.expect("a rollback");
            drop(tx);
            assert!(queue.expect_files(&["one"], None).await.expect("a transaction of its own"));
            queue.give_up_file("one").await.expect("a write");
            queue.forget_file("one").await.expect("a write");
        }
    }

    #[tokio::test]
    async fn a_database_of_the_first_release_is_brought_up_to_date() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("q.sqlite");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let mut old = SqliteConnection::connect_with(&options).await.expect("a database");
        for script in &MIGRATIONS[..10] {
            sqlx::raw_sql(*script).execute(&mut old).await.expect("the first release's schema");
        }
        let rows = "PRAGMA user_version = 10;
            INSERT INTO requests (id, endpoint, origin, priority, body, state, created_at) VALUES ('r', '', 'queued', 2, '', 'waiting', 0);
            INSERT INTO files (key, request, content_type, bytes, sha256, created_at, expires_at) VALUES ('kept', 'r', '', 1, '', 0, NULL), ('ended', 'r', '', 1, '', 0, 1);
            INSERT INTO uploads (ticket, key, object, content_type, writable_until) VALUES
                ('secret-1', 'whole', 'object', 'a/b', 9e18), ('secret-2', 'open', NULL, 'a/b', 9e18);
            INSERT INTO upload_parts (ticket, number, object, bytes) VALUES ('secret-2', 1, 'part', 1)";
        sqlx::raw_sql(rows).execute(&mut old).await.expect("rows");
        old.close().await.expect("an end");

        let queue = queue(&path).await;
        assert!(queue.was_used().await.expect("a database"));
        assert_eq!(queue.identity().await.expect("a database").id.len(), 32);
        queue.end_files().await.expect("a database");
        assert_eq!(queue.owned_files().await.expect("a database"), ["kept", "object", "part"]);
        assert_eq!(queue.given_up_files().await.expect("a database"), ["ended"]);
        // Tickets were stored as they are: those that could still be used end, with what they had written.
        queue.end_uploads().await.expect("a database");
        assert_eq!(queue.given_up_files().await.expect("a database"), ["ended", "part"]);
        assert!(queue.uploaded("whole").await.expect("a database").is_some(), "a whole file stays");
        let secrets = "SELECT count(*) FROM uploads WHERE ticket LIKE 'secret%'";
        let left: i64 = sqlx::query(secrets).fetch_one(pool(&queue.reader)).await.expect("a row").get(0);
        assert_eq!(left, 0);
    }
}
