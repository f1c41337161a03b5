//! Why the queue could not answer, and whose fault that is.

use super::MIN_SQLITE;
use crate::fault::Fault;
use crate::printable::printable;
use sqlx::postgres::PgDatabaseError;

/// Why the queue could not answer.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The machine has no room or the database is busy: the same may succeed another time.
    #[error("queue database, for now: {}", printable(.0))]
    Unavailable(sqlx::Error),
    /// The database refused or is gone.
    #[error("queue database: {}", printable(.0))]
    Database(sqlx::Error),
    /// The database holds something this program never writes.
    #[error("queue database holds {0}")]
    Corrupt(String),
    /// The SQLite library has the WAL-reset bug.
    #[error("SQLite {0} is too old: {MIN_SQLITE} or newer is needed")]
    OldSqlite(String),
    /// Only a file can be copied.
    #[error("the database is PostgreSQL's: copy it with pg_dump")]
    NotSqlite,
    /// The database was written by a newer program.
    #[error("the database has schema version {0}, newer than this program knows; upgrade latentd")]
    NewerSchema(i64),
}

impl From<sqlx::Error> for QueueError {
    fn from(error: sqlx::Error) -> Self {
        if is_machines(&error) { Self::Unavailable(error) } else { Self::Database(error) }
    }
}

impl Fault for QueueError {
    fn is_machines(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// SQLite's primary result codes of what another time may succeed: BUSY, LOCKED, NOMEM, READONLY, IOERR, FULL, CANTOPEN
/// and PROTOCOL.
const PASSING: [i32; 8] = [5, 6, 7, 8, 10, 13, 14, 15];

/// The same of PostgreSQL, by the beginning of the code: connection lost, no resources, stopped by an operator, failed below
/// it, refused because it is a standby for now, deadlock or conflict with another transaction, lock not free in time.
const PASSING_STATES: [&str; 9] = ["08", "53", "57P", "57014", "58", "25006", "40", "55P03", "25P03"];

fn is_machines(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            if error.try_downcast_ref::<PgDatabaseError>().is_some() {
                return PASSING_STATES.iter().any(|state| code.starts_with(state));
            }
            // The low byte of an extended code is the primary one.
            code.parse::<i32>().is_ok_and(|code| PASSING.contains(&(code & 0xff)))
        }
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::Protocol(_)
        | sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
}
