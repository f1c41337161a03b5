//! Files that clients send: tickets to write them, their parts, what became of them.
//!
//! A ticket is a secret. The tables know its digest.

use super::clock::micros;
use super::read::timestamp;
use super::retention::BATCH;
use super::store::{Lock, Row, query};
use super::{Queue, QueueError};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use std::time::Duration;
use uuid::Uuid;

/// A ticket can be used this long, counted from the last part that came with it.
pub const TICKET_LIFE: Duration = Duration::from_secs(3600);

/// Tokens that may live at once: each Python program asks for one an hour.
pub const MAX_TOKENS: u64 = 10_000;

/// A file that is still not whole this long after its ticket ran out is given up.
const ABANDONED: Duration = Duration::from_secs(86_400);

const OPEN: &str =
    "INSERT INTO uploads (ticket, key, content_type, file_name, lifetime, writable_until, access, api_key)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

const OPEN_NOW: &str = "SELECT count(*) FROM uploads WHERE object IS NULL AND writable_until > $1";

const TOKENS_NOW: &str = "SELECT count(*) FROM upload_tokens";

// Of a key that was revoked no token sends files.
const TOKEN_OWNER: &str = "SELECT api_key FROM upload_tokens WHERE sha256 = $1 AND expires_at > $2
    AND (api_key IS NULL OR EXISTS
        (SELECT 1 FROM api_keys WHERE id = upload_tokens.api_key AND revoked_at IS NULL))";

const TICKET: &str = "SELECT key, object IS NOT NULL AS whole, writable_until > $2 AS writable
    FROM uploads WHERE ticket = $1";

const CLOSE: &str = "UPDATE uploads SET object = $2, bytes = $4, whole_at = $3, expires_at = $3 + lifetime
    WHERE ticket = $1 AND object IS NULL";

const RENEW: &str = "UPDATE uploads SET writable_until = $2 WHERE ticket = $1 AND object IS NULL";

const PUT_PART: &str = "INSERT INTO upload_parts (ticket, number, object, bytes) VALUES ($1, $2, $3, $4)";

const PARTS: &str = "SELECT number, object, bytes FROM upload_parts WHERE ticket = $1 ORDER BY number";

const FILE: &str = "SELECT object, content_type, file_name, expires_at, access FROM uploads
    WHERE key = $1 AND object IS NOT NULL AND (expires_at IS NULL OR expires_at > $2)";

const ANY_ENDED: &str = "SELECT EXISTS (SELECT 1 FROM uploads
    WHERE expires_at <= $1 OR (object IS NULL AND writable_until <= $2))";

const DROP_ENDED: &str = "DELETE FROM uploads WHERE ticket IN (SELECT ticket FROM uploads
    WHERE expires_at <= $1 OR (object IS NULL AND writable_until <= $2) LIMIT $3)";

const ANY_NEEDLESS_PART: &str = "SELECT EXISTS (SELECT 1 FROM upload_parts JOIN uploads USING (ticket)
    WHERE uploads.object IS NOT NULL)";

// Parts of files that are given up go with their upload.
const DROP_NEEDLESS_PARTS: &str = "DELETE FROM upload_parts
    WHERE ticket IN (SELECT ticket FROM uploads WHERE object IS NOT NULL)";

const DROP_EARLIER_PART: &str = "DELETE FROM upload_parts WHERE ticket = $1 AND number = $2 RETURNING object";

/// What is known of a file before its bytes.
#[derive(Debug, Clone)]
pub struct NewUpload {
    /// Lets its holder write the file.
    pub ticket: Uuid,
    /// Public name.
    pub key: String,
    /// MIME type.
    pub content_type: String,
    /// What the client calls it.
    pub file_name: Option<String>,
    /// How long it is kept once it is whole; `None`: for good.
    pub lifetime: Option<Duration>,
    /// The answer for callers who may not fetch it, in a word that is not interpreted here; `None`: everybody may.
    pub access: Option<String>,
    /// Id of the API key that it is sent with.
    pub api_key: Option<String>,
}

/// What a ticket stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Public name of the file.
    pub key: String,
    /// The file is whole: the ticket is used up.
    pub is_whole: bool,
    /// It has not run out.
    pub is_writable: bool,
}

/// A part of a file that is not whole yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// From 1.
    pub number: u32,
    /// Name in the store.
    pub object: String,
    /// Size.
    pub bytes: u64,
}

/// A whole file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uploaded {
    /// Name in the store.
    pub object: String,
    /// MIME type.
    pub content_type: String,
    /// What the client called it.
    pub file_name: Option<String>,
    /// How long it is still there; `None`: for good.
    pub remaining: Option<Duration>,
    /// As in [`NewUpload::access`].
    pub access: Option<String>,
}

impl Queue {
    /// Records a file to come. `Err` inside: so many are open already, which is `most` or more.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn open_upload(&self, new: &NewUpload, most: u64) -> Result<Result<(), u64>, QueueError> {
        let mut tx = self.writer.begin().await?;
        tx.lock(Lock::Uploads).await?;
        let now = self.service_us(&mut tx).await?;
        let count = query(OPEN_NOW).bind(now).fetch_one(&mut tx).await?;
        let open = count.try_get::<i64, _>(0)?.unsigned_abs();
        if open >= most {
            return Ok(Err(open));
        }
        query(OPEN)
            .bind(digest(new.ticket))
            .bind(&new.key)
            .bind(&new.content_type)
            .bind(&new.file_name)
            .bind(new.lifetime.map(micros))
            .bind(now + micros(TICKET_LIFE))
            .bind(&new.access)
            .bind(&new.api_key)
            .execute(&mut tx)
            .await?;
        tx.commit().await?;
        Ok(Ok(()))
    }

    /// What a ticket stands for; `None` when there is no such ticket.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn ticket(&self, ticket: Uuid) -> Result<Option<Ticket>, QueueError> {
        let query = query(TICKET).bind(digest(ticket)).bind(self.service_us(&self.reader).await?);
        let Some(row) = query.fetch_optional(&self.reader).await? else { return Ok(None) };
        Ok(Some(Ticket {
            key: row.try_get("key")?,
            is_whole: row.try_get("whole")?,
            is_writable: row.try_get("writable")?,
        }))
    }

    /// The file is whole and lies in `object`, of so many bytes. `false`: somebody else was first, or it was given up.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn close_upload(&self, ticket: Uuid, object: &str, bytes: u64) -> Result<bool, QueueError> {
        let now = self.service_us(&self.reader).await?;
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let query = query(CLOSE).bind(digest(ticket)).bind(object).bind(now).bind(bytes);
        Ok(query.execute(&self.writer).await? == 1)
    }

    /// Records a part in the place of an earlier one, whose object is given up and returned.
    /// `Err` inside: the file is whole or was given up.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn put_part(
        &self,
        ticket: Uuid,
        part: &Part,
    ) -> Result<Result<Option<String>, ()>, QueueError> {
        let mut tx = self.writer.begin().await?;
        let ticket = digest(ticket);
        let now = self.service_us(&mut tx).await?;
        let renew = query(RENEW).bind(&ticket).bind(now + micros(TICKET_LIFE));
        if renew.execute(&mut tx).await? == 0 {
            return Ok(Err(()));
        }
        let earlier = query(DROP_EARLIER_PART);
        let earlier = earlier.bind(&ticket).bind(part.number).fetch_optional(&mut tx).await?;
        query(PUT_PART)
            .bind(&ticket)
            .bind(part.number)
            .bind(&part.object)
            .bind(i64::try_from(part.bytes).unwrap_or(i64::MAX))
            .execute(&mut tx)
            .await?;
        tx.commit().await?;
        Ok(Ok(earlier.map(|row| row.try_get(0)).transpose()?))
    }

    /// The parts of a file, by number.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn parts(&self, ticket: Uuid) -> Result<Vec<Part>, QueueError> {
        let rows = query(PARTS).bind(digest(ticket)).fetch_all(&self.reader).await?;
        rows.iter().map(part_of).collect()
    }

    /// A whole file that is not past its time.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn uploaded(&self, key: &str) -> Result<Option<Uploaded>, QueueError> {
        let now = self.service_us(&self.reader).await?;
        let row = query(FILE).bind(key).bind(now).fetch_optional(&self.reader).await?;
        let Some(row) = row else { return Ok(None) };
        let expires_at: Option<i64> = row.try_get("expires_at")?;
        Ok(Some(Uploaded {
            object: row.try_get("object")?,
            content_type: row.try_get("content_type")?,
            file_name: row.try_get("file_name")?,
            access: row.try_get("access")?,
            remaining: expires_at.map(|end| Duration::from_micros(end.saturating_sub(now).unsigned_abs())),
        }))
    }

    /// Gives up some files that are past their time, some that never became whole, and parts that nobody needs; returns how
    /// many.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn end_uploads(&self) -> Result<u64, QueueError> {
        let now = self.service_us(&self.reader).await?;
        let abandoned = now - micros(ABANDONED);
        let any = query(ANY_ENDED).bind(now).bind(abandoned).fetch_one(&self.reader).await?;
        let ended = match any.try_get(0)? {
            true => query(DROP_ENDED).bind(now).bind(abandoned).bind(BATCH).execute(&self.writer).await?,
            false => 0,
        };
        Ok(ended + self.end_needless_parts().await?)
    }

    /// Gives up the parts of files that are whole; returns how many.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn end_needless_parts(&self) -> Result<u64, QueueError> {
        if !query(ANY_NEEDLESS_PART).fetch_one(&self.reader).await?.try_get(0)? {
            return Ok(0);
        }
        query(DROP_NEEDLESS_PARTS).execute(&self.writer).await
    }

    /// Forgets an upload; its file, if it is whole, is given up.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn forget_upload(&self, ticket: Uuid) -> Result<(), QueueError> {
        let query = query("DELETE FROM uploads WHERE ticket = $1").bind(digest(ticket));
        query.execute(&self.writer).await?;
        Ok(())
    }

    /// Lets a token, known by its digest, send files for `life`, which belong to a key; returns when that ends. Tokens that have ended go.
    /// `Err` inside: so many live already, which is [`MAX_TOKENS`] or more.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn add_upload_token(
        &self,
        sha256: &str,
        api_key: Option<&str>,
        life: Duration,
    ) -> Result<Result<Timestamp, u64>, QueueError> {
        let mut tx = self.writer.begin().await?;
        tx.lock(Lock::Uploads).await?;
        let now = self.moment(&mut tx).await?;
        let end = now.service + micros(life);
        let ended = query("DELETE FROM upload_tokens WHERE expires_at <= $1").bind(now.service);
        ended.execute(&mut tx).await?;
        let live: i64 = query(TOKENS_NOW).fetch_one(&mut tx).await?.try_get(0)?;
        if live.unsigned_abs() >= MAX_TOKENS {
            tx.commit().await?;
            return Ok(Err(live.unsigned_abs()));
        }
        let query = query("INSERT INTO upload_tokens (sha256, expires_at, api_key) VALUES ($1, $2, $3)");
        query.bind(sha256).bind(end).bind(api_key).execute(&mut tx).await?;
        tx.commit().await?;
        timestamp(now.date + micros(life)).map(Ok)
    }

    /// The id of the key, if it has one, whose files a token sends, known by its digest; `None` when it may not send any.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn upload_token_owner(&self, sha256: &str) -> Result<Option<Option<String>>, QueueError> {
        let row = query(TOKEN_OWNER)
            .bind(sha256)
            .bind(self.service_us(&self.reader).await?)
            .fetch_optional(&self.reader)
            .await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }
}

/// How rows name a ticket, which is 122 random bits: nobody finds it by trying.
fn digest(ticket: Uuid) -> String {
    hex::encode(Sha256::digest(ticket.as_bytes()))
}

fn part_of(row: &Row) -> Result<Part, QueueError> {
    let number: i64 = row.try_get("number")?;
    Ok(Part {
        number: number.try_into().map_err(|_| QueueError::Corrupt(format!("the part {number}")))?,
        object: row.try_get("object")?,
        bytes: row.try_get::<i64, _>("bytes")?.unsigned_abs(),
    })
}
