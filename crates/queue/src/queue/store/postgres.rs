//! Opening a PostgreSQL database: the connections, the version check and the schema.

use super::QueueError;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool, Row};
use std::time::Duration;

/// Advisory locks of ours are numbered from here.
pub(super) const LOCKS: i32 = 0x6c61_7464;

/// Connections of one process. A statement takes a millisecond or so; workers have a heartbeat, a claim and a report each.
const CONNECTIONS: u32 = 8;

/// How long an operation waits for a connection before the database counts as away.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection that was not used for so long is tried before it is used.
const FRESH: Duration = Duration::from_secs(1);

/// The schema's history, as in [`super::sqlite`]; `latentd_schema.version` says where a database is.
///
/// To change the schema, add a file to `schema/postgres/` and a line to the end of this list. Never edit or move one that
/// was released.
const MIGRATIONS: &[&str] = &[
    include_str!("../schema/postgres/first.sql"),
    include_str!("../schema/postgres/progress.sql"),
    include_str!("../schema/postgres/keeping.sql"),
    include_str!("../schema/postgres/key_counters.sql"),
    include_str!("../schema/postgres/client.sql"),
    include_str!("../schema/postgres/traceparent.sql"),
];

const KNOWN: i64 = MIGRATIONS.len() as i64;

pub(in super::super) async fn open(options: &PgConnectOptions) -> Result<PgPool, QueueError> {
    let options = options.clone().application_name("latentd").options([
        // A client that is cut off in a transaction must not hold its locks for ever.
        ("idle_in_transaction_session_timeout", "60s"),
        ("lock_timeout", "10s"),
        ("statement_timeout", "30s"),
        ("tcp_user_timeout", "30s"),
        ("client_min_messages", "warning"),
        // Whatever the server's default is: what is answered is on the disk.
        ("synchronous_commit", "on"),
    ]);
    // The pool would say of a server that is away only that time is up.
    connect(&options).await?.close().await?;
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(PATIENCE)
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for > FRESH {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .after_release(|connection, _| {
            Box::pin(async move {
                // After a statement that was given up the pool itself would wait for its end, with no limit.
                let answer = tokio::time::timeout(PATIENCE, connection.ping()).await;
                answer.map_err(|_| sqlx::Error::PoolTimedOut)?.map(|()| true)
            })
        })
        .connect_with(options)
        .await?;
    migrate(&pool).await?;
    Ok(pool)
}

/// Looks whether [`open`] would succeed, and changes nothing; the server's version.
pub(super) async fn look(options: &PgConnectOptions) -> Result<String, QueueError> {
    let mut connection = connect(options).await?;
    let made = "SELECT current_setting('server_version'), to_regclass('latentd_schema') IS NOT NULL";
    let row = sqlx::query(made).fetch_one(&mut connection).await?;
    if row.try_get(1)? {
        let version = "SELECT version FROM latentd_schema";
        let version: i64 = sqlx::query(version).fetch_one(&mut connection).await?.try_get(0)?;
        check_version(version)?;
    }
    Ok(row.try_get(0)?)
}

/// Reads the id of the database, if its schema is there.
pub(super) async fn look_identity(options: &PgConnectOptions) -> Result<Option<String>, QueueError> {
    let mut connection = connect(options).await?;
    let made = sqlx::query("SELECT to_regclass('identity') IS NOT NULL").fetch_one(&mut connection).await?;
    if !made.try_get(0)? {
        return Ok(None);
    }
    let row = sqlx::query("SELECT id FROM identity").fetch_optional(&mut connection).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, QueueError> {
    let connected = tokio::time::timeout(PATIENCE, PgConnection::connect_with(options)).await;
    Ok(connected.map_err(|_| sqlx::Error::PoolTimedOut)??)
}

fn check_version(version: i64) -> Result<(), QueueError> {
    if version > KNOWN { Err(QueueError::NewerSchema(version)) } else { Ok(()) }
}

/// Migrates the schema. Several processes may do it at once: one does, the others wait and find it done.
async fn migrate(pool: &PgPool) -> Result<(), QueueError> {
    let mut tx = pool.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(i64::from(LOCKS)).execute(&mut *tx).await?;
    let done = version(&mut tx).await?;
    check_version(done)?;
    for script in MIGRATIONS.iter().skip(usize::try_from(done).unwrap_or(0)) {
        sqlx::raw_sql(*script).execute(&mut *tx).await?;
    }
    if done < KNOWN {
        sqlx::query("UPDATE latentd_schema SET version = $1").bind(KNOWN).execute(&mut *tx).await?;
    }
    Ok(tx.commit().await?)
}

async fn version(connection: &mut PgConnection) -> Result<i64, QueueError> {
    let make = "CREATE TABLE IF NOT EXISTS latentd_schema (version BIGINT NOT NULL);
        INSERT INTO latentd_schema SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM latentd_schema)";
    sqlx::raw_sql(make).execute(&mut *connection).await?;
    Ok(sqlx::query("SELECT version FROM latentd_schema").fetch_one(connection).await?.try_get(0)?)
}
