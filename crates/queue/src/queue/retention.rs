//! The end of what requests brought and made: inputs, outputs and files that are not to be kept.

use super::clock::micros;
use super::store::query;
use super::{Queue, QueueError, RequestId};
use std::time::Duration;

/// A file of a finished request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileLife {
    /// It is there for good.
    Kept,
    /// It is there so long.
    Ends(Duration),
    /// Its time is over.
    Over,
}

/// What came of an order to erase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Erasure {
    /// No such request.
    Unknown,
    /// It waits or runs: it is erased when it is over, or not at all.
    NotOver,
    /// Input and output are gone, and these files are given up.
    Done {
        /// Their keys.
        files: Vec<String>,
    },
}

// A file without an owner is nobody's yet, or nobody's any more.
const FILE: &str = "SELECT expires_at FROM files WHERE key = $1
    UNION ALL SELECT 0 FROM unowned_files WHERE key = $1";

const ANY_ENDED: &str = "SELECT EXISTS (SELECT 1 FROM files WHERE expires_at <= $1)";

/// Rows that one call changes, so that the database is never busy for long.
pub(super) const BATCH: i64 = 200;

// Whatever owned a file gives it up when it goes.
const DROP_FILES: &str =
    "DELETE FROM files WHERE key IN (SELECT key FROM files WHERE expires_at <= $1 LIMIT $2)";

const GIVE_UP_FILES: &str = "DELETE FROM files WHERE request = $1 RETURNING key";

macro_rules! erase {
    ($more:literal, $which:literal) => {
        concat!(
            "UPDATE requests SET body = 'null', output = NULL, failure_detail = NULL, erase_at = NULL, erased_at = $2",
            $more,
            " WHERE ",
            $which
        )
    };
}

const ERASE_ENDED: &str = erase!("", "id IN (SELECT id FROM requests WHERE erase_at <= $1 LIMIT $3)");

// A digest of the input lets whoever guesses the input find out that it was this one, and a message may quote it.
const ERASE: &str = erase!(
    ", idempotency_key = NULL, input_digest = NULL,
        failure_message = CASE WHEN failure_message IS NULL THEN NULL ELSE '' END",
    "id = $1"
);

const DELETE_LOG: &str = "DELETE FROM request_logs WHERE request = $1";

impl Queue {
    /// How long the file of a request is there; `None` when no request has such a file.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn file_life(&self, key: &str) -> Result<Option<FileLife>, QueueError> {
        let Some(row) = query(FILE).bind(key).fetch_optional(&self.reader).await? else {
            return Ok(None);
        };
        let now = self.service_us(&self.reader).await?;
        let left = row.try_get::<Option<i64>, _>(0)?.map(|end| end.saturating_sub(now));
        Ok(Some(match left {
            None => FileLife::Kept,
            Some(left @ 1..) => FileLife::Ends(Duration::from_micros(left.unsigned_abs())),
            Some(_) => FileLife::Over,
        }))
    }

    /// Gives up some files of requests whose time is over; returns how many.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn end_files(&self) -> Result<u64, QueueError> {
        let now = self.service_us(&self.reader).await?;
        if !query(ANY_ENDED).bind(now).fetch_one(&self.reader).await?.try_get(0)? {
            return Ok(0);
        }
        query(DROP_FILES).bind(now).bind(BATCH).execute(&self.writer).await
    }

    /// Erases the input, the output and the log of a request that is over, and frees its idempotency key.
    ///
    /// # Errors
    /// When the database refuses; nothing changed then.
    pub async fn erase(&self, id: RequestId) -> Result<Erasure, QueueError> {
        let id = id.to_string();
        let mut tx = self.writer.begin().await?;
        let now = self.moment(&mut tx).await?;
        let state = query("SELECT state = 'done' FROM requests WHERE id = $1").bind(&id);
        match state.fetch_optional(&mut tx).await?.map(|row| row.try_get::<bool, _>(0)).transpose()? {
            None => return Ok(Erasure::Unknown),
            Some(false) => return Ok(Erasure::NotOver),
            Some(true) => {}
        }
        query(ERASE).bind(&id).bind(now.date).execute(&mut tx).await?;
        query(DELETE_LOG).bind(&id).execute(&mut tx).await?;
        let files = query(GIVE_UP_FILES).bind(&id).fetch_all(&mut tx).await?;
        let files = files.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        tx.commit().await?;
        Ok(Erasure::Done { files })
    }

    /// Erases some outputs whose time is over; returns of how many requests.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn erase_ended(&self) -> Result<u64, QueueError> {
        let now = self.moment(&self.reader).await?;
        let due = "SELECT 1 FROM requests WHERE erase_at <= $1 LIMIT 1";
        if query(due).bind(now.service).fetch_optional(&self.reader).await?.is_none() {
            return Ok(0);
        }
        let erase = query(ERASE_ENDED).bind(now.service).bind(now.date).bind(BATCH);
        erase.execute(&self.writer).await
    }
}

/// What the table says of a time that was asked for.
pub(super) fn stored(life: Option<Duration>) -> Option<i64> {
    life.map(micros)
}
