//! The keys that open the API: a row each, which outlives the key's revocation.

use super::job::stored_word;
use super::read::timestamp;
use super::store::{Row, Sql, Tx, for_update, query};
use super::{Queue, QueueError};
use jiff::Timestamp;

stored_word! {
    /// What a key may do.
    Scope {
        /// Use models.
        Api = "api",
        /// Everything.
        Admin = "admin",
    }
}

/// A key to add.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// The public half.
    pub id: String,
    /// Digest of the whole key.
    pub sha256: [u8; 32],
    /// What its owner calls it.
    pub name: String,
    /// What it may do.
    pub scope: Scope,
    /// Requests that may run at once; `None`: any number.
    pub concurrency: Option<u32>,
}

/// A key that was added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// The public half.
    pub id: String,
    /// Digest of the whole key.
    pub sha256: [u8; 32],
    /// What its owner calls it.
    pub name: String,
    /// What it may do.
    pub scope: Scope,
    /// Requests that may run at once; `None`: any number.
    pub concurrency: Option<u32>,
    /// When it was added.
    pub created_at: Timestamp,
    /// When a call last came with it, give or take a minute.
    pub last_used_at: Option<Timestamp>,
    /// Since when it opens nothing.
    pub revoked_at: Option<Timestamp>,
}

/// What became of a revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revocation {
    /// The key opens nothing any more.
    Revoked,
    /// It did not before, either.
    AlreadyRevoked,
    /// No such key.
    Unknown,
}

const ADD: &str = "INSERT INTO api_keys (id, sha256, name, scope, concurrency, created_at)
    VALUES ($1, $2, $3, $4, $5, $6)";

const ALL: &str = "SELECT id, sha256, name, scope, concurrency, created_at, last_used_at, revoked_at
    FROM api_keys ORDER BY created_at, id";

const REVOKE: &str = "UPDATE api_keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL";

const USED: &str = "UPDATE api_keys SET last_used_at = $2 WHERE id = $1 AND coalesce(last_used_at, 0) < $2";

// On PostgreSQL whoever counts what a key has at work, or is about to add to it, has the key's row.
const LIMIT: Sql = for_update!("SELECT concurrency FROM api_keys WHERE id = $1 AND concurrency IS NOT NULL");

const RUNNING: &str = "SELECT count(*) FROM requests WHERE state = 'running' AND api_key = $1";

const RUNNING_BY_KEY: &str =
    "SELECT api_key, count(*) FROM requests WHERE state = 'running' AND api_key IS NOT NULL GROUP BY api_key";

const BUSY: &str = "SELECT concurrency FROM api_keys WHERE id = $1 AND concurrency <=
        (SELECT count(*) FROM requests WHERE state = 'running' AND api_key = $1)
        + (SELECT count(*) FROM requests WHERE state = 'waiting' AND origin = 'direct' AND api_key = $1)";

impl Queue {
    /// Adds a key.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn add_key(&self, new: &NewKey) -> Result<(), QueueError> {
        query(ADD)
            .bind(&new.id)
            .bind(&new.sha256[..])
            .bind(&new.name)
            .bind(new.scope.word())
            .bind(new.concurrency)
            .bind(self.now().as_microsecond())
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// All keys, revoked ones too, the oldest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn keys(&self) -> Result<Vec<ApiKey>, QueueError> {
        query(ALL).fetch_all(&self.reader).await?.iter().map(key_of).collect()
    }

    /// Makes a key open nothing any more.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn revoke_key(&self, id: &str) -> Result<Revocation, QueueError> {
        let done = query(REVOKE).bind(id).bind(self.now().as_microsecond()).execute(&self.writer).await?;
        if done == 1 {
            return Ok(Revocation::Revoked);
        }
        let known = self.keys().await?.iter().any(|key| key.id == id);
        Ok(if known { Revocation::AlreadyRevoked } else { Revocation::Unknown })
    }

    /// How many requests of each key run, where any do.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn running_by_key(&self) -> Result<Vec<(String, u64)>, QueueError> {
        let rows = query(RUNNING_BY_KEY).fetch_all(&self.reader).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get::<i64, _>(1)?.unsigned_abs()))).collect()
    }

    /// Writes down when keys were last used.
    ///
    /// # Errors
    /// When the database refuses; nothing was written then.
    pub async fn keys_used(&self, uses: &[(String, Timestamp)]) -> Result<(), QueueError> {
        let mut tx = self.writer.begin().await?;
        for (id, at) in uses {
            query(USED).bind(id).bind(at.as_microsecond()).execute(&mut tx).await?;
        }
        tx.commit().await
    }
}

/// The key's limit, when that many of its requests run or have a client that waits for the result.
pub(super) async fn limit_reached(tx: &mut Tx, key: &str) -> Result<Option<u32>, QueueError> {
    if query(LIMIT).bind(key).fetch_optional(&mut *tx).await?.is_none() {
        return Ok(None);
    }
    let row = query(BUSY).bind(key).fetch_optional(&mut *tx).await?;
    row.map(|row| limit_of(row.try_get(0)?)).transpose()
}

/// Do more of the key's requests run than may?
pub(super) async fn is_above_limit(tx: &mut Tx, key: &str) -> Result<bool, QueueError> {
    let Some(limit) = query(LIMIT).bind(key).fetch_optional(&mut *tx).await? else { return Ok(false) };
    let running: i64 = query(RUNNING).bind(key).fetch_one(tx).await?.try_get(0)?;
    Ok(running > limit.try_get::<i64, _>(0)?)
}

fn limit_of(stored: i64) -> Result<u32, QueueError> {
    u32::try_from(stored).map_err(|_| QueueError::Corrupt(format!("the limit {stored} of a key")))
}

fn key_of(row: &Row) -> Result<ApiKey, QueueError> {
    let sha256: &[u8] = row.try_get("sha256")?;
    let time = |column: &str| row.try_get::<Option<i64>, _>(column)?.map(timestamp).transpose();
    Ok(ApiKey {
        id: row.try_get("id")?,
        sha256: sha256.try_into().map_err(|_| QueueError::Corrupt("a digest that is not 32 bytes".into()))?,
        name: row.try_get("name")?,
        scope: Scope::from_word(row.try_get("scope")?)?,
        concurrency: row.try_get::<Option<i64>, _>("concurrency")?.map(limit_of).transpose()?,
        created_at: timestamp(row.try_get("created_at")?)?,
        last_used_at: time("last_used_at")?,
        revoked_at: time("revoked_at")?,
    })
}
