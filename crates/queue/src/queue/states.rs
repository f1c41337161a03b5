//! The states of requests that an attempt left between two steps of its work, for the next attempt to go on from.

use super::job::Claim;
use super::store::query;
use super::{Queue, QueueError};
use crate::planted::{self, Bug};

/// A state that so many attempts went on from without getting further is not used again: it may be what kills them.
const MAX_USES: i64 = 2;

// `requests` is read so that an attempt that lost its claim stores nothing.
const STORE: &str = "INSERT INTO states (request, bytes, progress)
    SELECT id, $3, $4 FROM requests WHERE id = $1 AND attempt = $2 AND state = 'running'
    ON CONFLICT (request) DO UPDATE SET bytes = excluded.bytes, uses = 0, progress =
        CASE WHEN states.progress < excluded.progress THEN excluded.progress ELSE states.progress END";

const USE: &str = "UPDATE states SET uses = uses + 1 WHERE uses < $3 AND request =
    (SELECT id FROM requests WHERE id = $1 AND attempt = $2 AND state = 'running')
    RETURNING bytes";

impl Queue {
    /// Replaces the state of a request by that after so many steps; nothing happens where the claim is no longer good. It
    /// is deleted when the request ends.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn store_state(
        &self,
        claim: &Claim,
        steps: usize,
        mut bytes: Vec<u8>,
    ) -> Result<(), QueueError> {
        if planted::has(Bug::TornState) {
            let half = bytes.len() / 2;
            bytes[half..].fill(0);
        }
        let steps = i64::try_from(steps).unwrap_or(i64::MAX);
        let store = query(STORE).bind(claim.id.to_string()).bind(claim.attempt).bind(bytes).bind(steps);
        store.execute(&self.writer).await?;
        Ok(())
    }

    /// The state that an earlier attempt stored. It is given to [`MAX_USES`] attempts, unless they store a newer one.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn use_state(&self, claim: &Claim) -> Result<Option<Vec<u8>>, QueueError> {
        if claim.attempt == 1 {
            return Ok(None);
        }
        let used = query(USE).bind(claim.id.to_string()).bind(claim.attempt).bind(MAX_USES);
        let row = used.fetch_optional(&self.writer).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }
}
