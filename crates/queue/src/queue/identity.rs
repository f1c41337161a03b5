//! Which database this is, what it knows of its folder, and whether it can be written.

use super::clock::micros;
use super::store::{Sql, Store, query};
use super::{Queue, QueueError};
use std::path::Path;
use std::time::Duration;

/// A database that has its folder for less than this removes no files: a mistake of the operator is noticed first.
const SETTLING: Duration = Duration::from_secs(3600);

/// What a database says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// 32 hex digits, for ever the same; the folder of its files carries them too.
    pub id: String,
    /// How often a server was started with it.
    pub starts: i64,
}

const OWNS_ANY: &str = "SELECT EXISTS (SELECT 1 FROM files) OR EXISTS (SELECT 1 FROM upload_parts)
    OR EXISTS (SELECT 1 FROM uploads WHERE object IS NOT NULL)";

const OWNS: &str = "SELECT EXISTS (SELECT 1 FROM files WHERE key = $1)
    OR EXISTS (SELECT 1 FROM uploads WHERE object = $1)
    OR EXISTS (SELECT 1 FROM upload_parts WHERE object = $1)";

const OWNED: &str = "SELECT key FROM files UNION ALL SELECT object FROM uploads WHERE object IS NOT NULL
    UNION ALL SELECT object FROM upload_parts";

// A sequence is there as soon as one request was accepted, whatever became of it.
const WAS_USED: Sql = Sql {
    sqlite: "SELECT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'requests')
        OR EXISTS (SELECT 1 FROM uploads)",
    postgres: "SELECT (SELECT is_called FROM requests_seq_seq) OR EXISTS (SELECT 1 FROM uploads)",
};

impl Queue {
    /// Which database this is.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn identity(&self) -> Result<Identity, QueueError> {
        let row = query("SELECT id, starts FROM identity").fetch_one(&self.reader).await?;
        Ok(Identity { id: row.try_get(0)?, starts: row.try_get(1)? })
    }

    /// Does it own any file?
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn owns_files(&self) -> Result<bool, QueueError> {
        Ok(query(OWNS_ANY).fetch_one(&self.reader).await?.try_get(0)?)
    }

    /// Does it own this file?
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn owns_file(&self, key: &str) -> Result<bool, QueueError> {
        Ok(query(OWNS).bind(key).fetch_one(&self.reader).await?.try_get(0)?)
    }

    /// Every file that it owns.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn owned_files(&self) -> Result<Vec<String>, QueueError> {
        let rows = query(OWNED).fetch_all(&self.reader).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Did it ever accept anything?
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn was_used(&self) -> Result<bool, QueueError> {
        Ok(query(WAS_USED).fetch_one(&self.reader).await?.try_get(0)?)
    }

    /// Counts a start with the folder; returns how many there were.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn count_start(&self) -> Result<i64, QueueError> {
        let start =
            "UPDATE identity SET starts = starts + 1, joined_at = coalesce(joined_at, $1) RETURNING starts";
        let now = self.service_us(&self.reader).await?;
        Ok(query(start).bind(now).fetch_one(&self.writer).await?.try_get(0)?)
    }

    /// Begins anew with the folder, which has seen `starts` starts, more than this database: it is an earlier copy. What
    /// it says of files without an owner may be wrong by now, and no file is removed because of it.
    ///
    /// # Errors
    /// When the database refuses; nothing changed then.
    pub async fn rejoin(&self, starts: i64) -> Result<(), QueueError> {
        let mut tx = self.writer.begin().await?;
        let now = self.service_us(&mut tx).await?;
        query("UPDATE identity SET starts = $1, joined_at = $2")
            .bind(starts)
            .bind(now)
            .execute(&mut tx)
            .await?;
        query("DELETE FROM unowned_files").execute(&mut tx).await?;
        tx.commit().await
    }

    /// May files be removed? Not in the first hour of the database with its folder.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn is_settled(&self) -> Result<bool, QueueError> {
        let row = query("SELECT joined_at FROM identity").fetch_one(&self.reader).await?;
        let Some(joined) = row.try_get::<Option<i64>, _>(0)? else { return Ok(false) };
        Ok(joined.saturating_add(micros(SETTLING)) <= self.service_us(&self.reader).await?)
    }

    /// Finds out whether the database can be written, by writing it.
    ///
    /// # Errors
    /// When it cannot.
    pub async fn probe(&self) -> Result<(), QueueError> {
        query("UPDATE identity SET probes = probes + 1").execute(&self.writer).await?;
        Ok(())
    }

    /// Writes a whole copy, as of one moment, into a file that is not there yet; others may write meanwhile.
    ///
    /// # Errors
    /// When the database refuses, the file cannot be written, or the database is PostgreSQL's.
    pub async fn copy_to(&self, path: &Path) -> Result<(), QueueError> {
        let path = path.to_str().ok_or_else(|| QueueError::Corrupt("a path that is no UTF-8".into()))?;
        if matches!(self.writer, Store::Postgres(_)) {
            return Err(QueueError::NotSqlite);
        }
        query("VACUUM INTO $1").bind(path).execute(&self.writer).await?;
        Ok(())
    }
}
