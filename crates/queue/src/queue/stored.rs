//! How many bytes of files are stored, and how many of them may be deleted to make space.

use super::clock::micros;
use super::store::query;
use super::{Queue, QueueError};
use std::time::Duration;

/// So long after its end a result stays, even where there is too little space: its client fetches it meanwhile.
pub const TO_FETCH: Duration = Duration::from_secs(3600);

/// A condition on `requests`: its webhook, which names its files, is still to be delivered.
macro_rules! undelivered {
    () => {
        "EXISTS (SELECT 1 FROM webhooks WHERE request = requests.id AND state IN ('waiting', 'due'))"
    };
}
pub(super) use undelivered;

const STORED: &str = "SELECT CAST(coalesce((SELECT sum(bytes) FROM files), 0)
    + coalesce((SELECT sum(bytes) FROM uploads), 0)
    + coalesce((SELECT sum(bytes) FROM upload_parts), 0) AS BIGINT)";

const DELETABLE: &str = concat!(
    "SELECT CAST(coalesce(sum(files.bytes), 0) AS BIGINT) FROM files JOIN requests ON requests.id = files.request
    WHERE requests.state = 'done' AND requests.ended_at <= $1 AND NOT ",
    undelivered!()
);

const OF_UNKNOWN_SIZE: &str =
    "SELECT object FROM uploads WHERE object IS NOT NULL AND bytes IS NULL LIMIT 100";

impl Queue {
    /// Bytes of all files of results and uploads, those of uploads included that are not whole yet.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn stored_bytes(&self) -> Result<u64, QueueError> {
        Ok(query(STORED).fetch_one(&self.reader).await?.try_get::<i64, _>(0)?.unsigned_abs())
    }

    /// How many of them are of results that [`super::Keep::bytes`] lets go now.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn deletable_bytes(&self) -> Result<u64, QueueError> {
        let until = self.service_us(&self.reader).await?.saturating_sub(micros(TO_FETCH));
        let row = query(DELETABLE).bind(until).fetch_one(&self.reader).await?;
        Ok(row.try_get::<i64, _>(0)?.unsigned_abs())
    }

    /// Some uploads whose size is not known: earlier versions did not write it down.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn uploads_of_unknown_size(&self) -> Result<Vec<String>, QueueError> {
        let rows = query(OF_UNKNOWN_SIZE).fetch_all(&self.reader).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Writes down the size of an upload.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn set_upload_size(&self, object: &str, bytes: u64) -> Result<(), QueueError> {
        let query = query("UPDATE uploads SET bytes = $2 WHERE object = $1");
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        query.bind(object).bind(bytes).execute(&self.writer).await?;
        Ok(())
    }
}
