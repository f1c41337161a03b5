//! The end of what requests brought and made: inputs, outputs and files that are not to be kept.

use super::uploads::micros;
use super::{Queue, QueueError, RequestId};
use sqlx::Row;
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
    /// Input and output are gone, and the time of these files is over.
    Done {
        /// Their keys.
        files: Vec<String>,
    },
}

const FILE: &str = "SELECT expires_at FROM files WHERE key = ?1";

const NAMES: &str = "SELECT EXISTS (SELECT 1 FROM files WHERE key = ?1)
    OR EXISTS (SELECT 1 FROM uploads WHERE object = ?1)
    OR EXISTS (SELECT 1 FROM upload_parts WHERE object = ?1)";

const ENDED: &str = "SELECT key FROM files WHERE expires_at <= ?1 LIMIT 100";

const END_FILES: &str = "UPDATE files SET expires_at = ?2 WHERE request = ?1 RETURNING key";

const ERASE: &str =
    "UPDATE requests SET body = 'null', output = NULL, failure_detail = NULL, erase_at = NULL,
        erased_at = ?1
    WHERE erase_at <= ?1";

impl Queue {
    /// How long the file of a request is there; `None` when no request has such a file.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn file_life(&self, key: &str) -> Result<Option<FileLife>, QueueError> {
        let Some(row) = sqlx::query(FILE).bind(key).fetch_optional(&self.reader).await? else {
            return Ok(None);
        };
        let left = row.try_get::<Option<i64>, _>(0)?.map(|end| end.saturating_sub(self.now_us()));
        Ok(Some(match left {
            None => FileLife::Kept,
            Some(left @ 1..) => FileLife::Ends(Duration::from_micros(left.unsigned_abs())),
            Some(_) => FileLife::Over,
        }))
    }

    /// Some files of requests whose time is over.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn ended_files(&self) -> Result<Vec<String>, QueueError> {
        let rows = sqlx::query(ENDED).bind(self.now_us()).fetch_all(&self.reader).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Does any row name this object of the store?
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn names(&self, object: &str) -> Result<bool, QueueError> {
        let row = sqlx::query(NAMES).bind(object).fetch_one(&self.reader).await?;
        Ok(row.try_get(0)?)
    }

    /// Forgets the file of a request: its object is gone.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn forget_file(&self, key: &str) -> Result<(), QueueError> {
        sqlx::query("DELETE FROM files WHERE key = ?1").bind(key).execute(&self.writer).await?;
        Ok(())
    }

    /// Erases the input and the output of a request that is over.
    ///
    /// # Errors
    /// When the database refuses; nothing changed then.
    pub async fn erase(&self, id: RequestId) -> Result<Erasure, QueueError> {
        let (id, now) = (id.to_string(), self.now_us());
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let state = sqlx::query("SELECT state = 'done' FROM requests WHERE id = ?1").bind(&id);
        match state.fetch_optional(&mut *tx).await?.map(|row| row.try_get::<bool, _>(0)).transpose()? {
            None => return Ok(Erasure::Unknown),
            Some(false) => return Ok(Erasure::NotOver),
            Some(true) => {}
        }
        sqlx::query("UPDATE requests SET erase_at = ?2 WHERE id = ?1")
            .bind(&id)
            .bind(now)
            .execute(&mut *tx)
            .await?;
        sqlx::query(ERASE).bind(now).execute(&mut *tx).await?;
        let files = sqlx::query(END_FILES).bind(&id).bind(now).fetch_all(&mut *tx).await?;
        let files = files.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        tx.commit().await?;
        Ok(Erasure::Done { files })
    }

    /// Erases the outputs whose time is over; returns of how many requests.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn erase_ended(&self) -> Result<u64, QueueError> {
        let due = "SELECT 1 FROM requests WHERE erase_at <= ?1 LIMIT 1";
        if sqlx::query(due).bind(self.now_us()).fetch_optional(&self.reader).await?.is_none() {
            return Ok(0);
        }
        Ok(sqlx::query(ERASE).bind(self.now_us()).execute(&self.writer).await?.rows_affected())
    }
}

/// What the table says of a time that was asked for.
pub(super) fn stored(life: Option<Duration>) -> Option<i64> {
    life.map(micros)
}
