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

// Whatever owned a file gives it up when it goes.
const DROP_FILES: &str = "DELETE FROM files WHERE expires_at <= $1";

const GIVE_UP_FILES: &str = "DELETE FROM files WHERE request = $1 RETURNING key";

const ERASE: &str =
    "UPDATE requests SET body = 'null', output = NULL, failure_detail = NULL, erase_at = NULL,
        erased_at = $2
    WHERE erase_at <= $1";

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

    /// Gives up the files of requests whose time is over.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn end_files(&self) -> Result<(), QueueError> {
        let now = self.service_us(&self.reader).await?;
        if query(ANY_ENDED).bind(now).fetch_one(&self.reader).await?.try_get(0)? {
            query(DROP_FILES).bind(now).execute(&self.writer).await?;
        }
        Ok(())
    }

    /// Erases the input and the output of a request that is over.
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
        query("UPDATE requests SET erase_at = $2 WHERE id = $1")
            .bind(&id)
            .bind(now.service)
            .execute(&mut tx)
            .await?;
        query(ERASE).bind(now.service).bind(now.date).execute(&mut tx).await?;
        let files = query(GIVE_UP_FILES).bind(&id).fetch_all(&mut tx).await?;
        let files = files.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        tx.commit().await?;
        Ok(Erasure::Done { files })
    }

    /// Erases the outputs whose time is over; returns of how many requests.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn erase_ended(&self) -> Result<u64, QueueError> {
        let now = self.moment(&self.reader).await?;
        let due = "SELECT 1 FROM requests WHERE erase_at <= $1 LIMIT 1";
        if query(due).bind(now.service).fetch_optional(&self.reader).await?.is_none() {
            return Ok(0);
        }
        query(ERASE).bind(now.service).bind(now.date).execute(&self.writer).await
    }
}

/// What the table says of a time that was asked for.
pub(super) fn stored(life: Option<Duration>) -> Option<i64> {
    life.map(micros)
}
