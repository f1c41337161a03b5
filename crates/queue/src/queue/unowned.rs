//! Files that no row owns: written down before they are made, so that what a crash leaves is known by its row.
//!
//! The triggers of the schema move files between this table and their owners, in the transaction that changes the owner.

use super::service_time::micros;
use super::{Claim, Queue, QueueError};
use sqlx::Row;
use std::time::Duration;

/// A file whose writer was not heard of for this long is given up, unless its request still runs.
pub const ABANDONED: Duration = Duration::from_secs(3600);

const EXPECT: &str = "INSERT INTO unowned_files (key, since, request, attempt)
    SELECT ?1, ?2, ?3, ?4 WHERE ?3 IS NULL OR EXISTS
        (SELECT 1 FROM requests WHERE id = ?3 AND attempt = ?4 AND state = 'running')";

const GIVE_UP: &str = "UPDATE unowned_files SET given_up = 1 WHERE key = ?1";

const GIVE_UP_ABANDONED: &str = "UPDATE unowned_files SET given_up = 1
    WHERE given_up = 0 AND since <= ?1 AND NOT EXISTS (SELECT 1 FROM requests
        WHERE id = unowned_files.request AND attempt = unowned_files.attempt AND state = 'running')";

const ANY_ABANDONED: &str = "SELECT 1 FROM unowned_files WHERE given_up = 0 AND since <= ?1 LIMIT 1";

const GIVEN_UP: &str = "SELECT key FROM unowned_files WHERE given_up = 1 LIMIT 100";

impl Queue {
    /// Writes down files that are about to be made, by an attempt of a request or by the server. `false`: the claim is
    /// no longer good, and no file may be made.
    ///
    /// # Errors
    /// When the database refuses; no file may be made then.
    pub async fn expect_files(&self, keys: &[&str], writer: Option<&Claim>) -> Result<bool, QueueError> {
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        for key in keys {
            let row = sqlx::query(EXPECT)
                .bind(*key)
                .bind(self.service_us())
                .bind(writer.map(|claim| claim.id.to_string()))
                .bind(writer.map(|claim| claim.attempt));
            if row.execute(&mut *tx).await?.rows_affected() == 0 {
                return Ok(false);
            }
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Says that a file is still being written.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn still_expect_file(&self, key: &str) -> Result<(), QueueError> {
        let query = sqlx::query("UPDATE unowned_files SET since = ?2 WHERE key = ?1");
        query.bind(key).bind(self.service_us()).execute(&self.writer).await?;
        Ok(())
    }

    /// Says that nobody will own a file. `false`: somebody owns it, or it was never written down; it must stay.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn give_up_file(&self, key: &str) -> Result<bool, QueueError> {
        Ok(sqlx::query(GIVE_UP).bind(key).execute(&self.writer).await?.rows_affected() == 1)
    }

    /// Gives up the files whose writers are gone; returns how many.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn give_up_abandoned_files(&self) -> Result<u64, QueueError> {
        let before = self.service_us() - micros(ABANDONED);
        if sqlx::query(ANY_ABANDONED).bind(before).fetch_optional(&self.reader).await?.is_none() {
            return Ok(0);
        }
        Ok(sqlx::query(GIVE_UP_ABANDONED).bind(before).execute(&self.writer).await?.rows_affected())
    }

    /// Some files that were given up: they may be removed.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn given_up_files(&self) -> Result<Vec<String>, QueueError> {
        let rows = sqlx::query(GIVEN_UP).fetch_all(&self.reader).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Forgets a file that was given up: it is removed.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn forget_file(&self, key: &str) -> Result<(), QueueError> {
        let query = sqlx::query("DELETE FROM unowned_files WHERE key = ?1 AND given_up = 1");
        query.bind(key).execute(&self.writer).await?;
        Ok(())
    }
}
