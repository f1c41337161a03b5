//! Files that no row owns: written down before they are made, so that what a crash leaves is known by its row.
//!
//! The triggers of the schema move files between this table and their owners, in the transaction that changes the owner.

use super::clock::micros;
use super::store::{Sql, query};
use super::{Claim, Queue, QueueError};
use std::time::Duration;

/// A file that was recorded this long ago and got no owner is given up, unless its request still runs.
pub const ABANDONED: Duration = Duration::from_secs(3600);

const EXPECT: &str = "INSERT INTO unowned_files (key, since, request, attempt)
    SELECT $1, $2, $3, $4 WHERE $3 IS NULL OR EXISTS
        (SELECT 1 FROM requests WHERE id = $3 AND attempt = $4 AND state = 'running')
    ON CONFLICT (key) DO UPDATE SET since = excluded.since WHERE NOT unowned_files.given_up
        AND unowned_files.request IS NOT DISTINCT FROM excluded.request
        AND unowned_files.attempt IS NOT DISTINCT FROM excluded.attempt";

const GIVE_UP: &str = "UPDATE unowned_files SET given_up = TRUE WHERE key = $1";

const GIVE_UP_ABANDONED: &str = "UPDATE unowned_files SET given_up = TRUE
    WHERE NOT given_up AND since <= $1 AND NOT EXISTS (SELECT 1 FROM requests
        WHERE id = unowned_files.request AND attempt = unowned_files.attempt AND state = 'running')";

const ANY_ABANDONED: &str = "SELECT 1 FROM unowned_files WHERE NOT given_up AND since <= $1 LIMIT 1";

// As the index says it: SQLite compares texts.
const GIVEN_UP: Sql = Sql {
    sqlite: "SELECT key FROM unowned_files WHERE given_up = 1 LIMIT 100",
    postgres: "SELECT key FROM unowned_files WHERE given_up LIMIT 100",
};

impl Queue {
    /// Writes down files that are about to be made, by an attempt of a request or by the server. `false`: the claim is
    /// no longer good, and no file may be made. May be called again when it is not known whether the first call succeeded.
    ///
    /// # Errors
    /// When the database refuses; no file may be made then.
    pub async fn expect_files(&self, keys: &[&str], writer: Option<&Claim>) -> Result<bool, QueueError> {
        let mut tx = self.writer.begin().await?;
        let now = self.service_us(&mut tx).await?;
        for key in keys {
            let row = query(EXPECT)
                .bind(*key)
                .bind(now)
                .bind(writer.map(|claim| claim.id.to_string()))
                .bind(writer.map(|claim| claim.attempt));
            if row.execute(&mut tx).await? == 0 {
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
        let query = query("UPDATE unowned_files SET since = $2 WHERE key = $1");
        query.bind(key).bind(self.service_us(&self.reader).await?).execute(&self.writer).await?;
        Ok(())
    }

    /// Says that nobody will own a file. `false`: somebody owns it, or it was never written down; it must stay.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn give_up_file(&self, key: &str) -> Result<bool, QueueError> {
        Ok(query(GIVE_UP).bind(key).execute(&self.writer).await? == 1)
    }

    /// Gives up the files whose writers are gone; returns how many.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn give_up_abandoned_files(&self) -> Result<u64, QueueError> {
        let before = self.service_us(&self.reader).await? - micros(ABANDONED);
        if query(ANY_ABANDONED).bind(before).fetch_optional(&self.reader).await?.is_none() {
            return Ok(0);
        }
        query(GIVE_UP_ABANDONED).bind(before).execute(&self.writer).await
    }

    /// Some files that were given up: they may be removed.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn given_up_files(&self) -> Result<Vec<String>, QueueError> {
        let rows = query(GIVEN_UP).fetch_all(&self.reader).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Forgets a file that was given up: it is removed.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn forget_file(&self, key: &str) -> Result<(), QueueError> {
        let query = query("DELETE FROM unowned_files WHERE key = $1 AND given_up");
        query.bind(key).execute(&self.writer).await?;
        Ok(())
    }
}
