//! Why the queue could not answer, and whose fault that is.

use super::MIN_SQLITE;
use crate::fault::Fault;
use crate::printable::printable;

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

fn is_machines(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            // The low byte of an extended code is the primary one.
            let code = error.code().and_then(|code| code.parse::<i32>().ok());
            code.is_some_and(|code| PASSING.contains(&(code & 0xff)))
        }
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
}
