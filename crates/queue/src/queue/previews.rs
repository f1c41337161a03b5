//! Images of requests that are not done yet: made only while somebody watches, kept only while they run.

use super::clock::micros;
use super::job::{Claim, RequestId};
use super::store::{Row, Sql, query};
use super::{Queue, QueueError};
use std::time::Duration;

/// How long a watcher counts as there after it said so.
pub const WATCH: Duration = Duration::from_secs(15);

macro_rules! watch_it {
    ($lock:literal) => {
        concat!(
            "INSERT INTO previews (request, watched_until)
            SELECT id, $2 FROM requests WHERE id = $1 AND state = 'running'",
            $lock,
            " ON CONFLICT (request) DO UPDATE SET watched_until = excluded.watched_until"
        )
    };
}

// The request must not end in between, or its row here would stay.
const WATCH_IT: Sql = Sql { sqlite: watch_it!(""), postgres: watch_it!(" FOR SHARE") };

const STORE: &str = "UPDATE previews SET picture = $3, number = number + 1 WHERE request =
    (SELECT id FROM requests WHERE id = $1 AND attempt = $2 AND state = 'running')";

const NEWEST: &str = "SELECT number, picture FROM previews
    WHERE request = $1 AND number > $2 AND picture IS NOT NULL";

/// An image of a request that is running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// Grows with every image of the request.
    pub number: i64,
    /// As the worker stored it.
    pub image: Vec<u8>,
}

impl Queue {
    /// Says that somebody watches a request, which counts for [`WATCH`]; nothing happens unless it is running.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn watch(&self, id: RequestId) -> Result<(), QueueError> {
        let until = self.service_us(&self.reader).await? + micros(WATCH);
        query(WATCH_IT).bind(id.to_string()).bind(until).execute(&self.writer).await?;
        Ok(())
    }

    /// Replaces the image of a request; nothing happens where the claim is no longer good or nobody ever watched.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn store_preview(&self, claim: &Claim, image: &[u8]) -> Result<(), QueueError> {
        let store = query(STORE).bind(claim.id.to_string()).bind(claim.attempt).bind(image);
        store.execute(&self.writer).await?;
        self.events.wake_waiters();
        Ok(())
    }

    /// The newest image of a running request, if it comes after number `after`; 0 for any.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn preview(&self, id: RequestId, after: i64) -> Result<Option<Preview>, QueueError> {
        let row = query(NEWEST).bind(id.to_string()).bind(after).fetch_optional(&self.reader).await?;
        let of = |row: Row| Ok(Preview { number: row.try_get(0)?, image: row.try_get(1)? });
        row.map(of).transpose()
    }
}
