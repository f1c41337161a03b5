//! Puts a request off that this machine cannot run now: it keeps its place, and is not claimed for a while.

use super::clock::micros;
use super::store::query;
use super::{Claim, Queue, QueueError};
use std::time::Duration;

const PUT_OFF: &str =
    "UPDATE requests SET rests_until = $3 WHERE id = $1 AND attempt = $2 AND state = 'running'";

impl Queue {
    /// Keeps a request from being claimed for this time after it is given back.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn put_off(&self, claim: &Claim, time: Duration) -> Result<(), QueueError> {
        let until = self.service_us(&self.reader).await?.saturating_add(micros(time));
        let query = query(PUT_OFF).bind(claim.id.to_string()).bind(claim.attempt).bind(until);
        query.execute(&self.writer).await?;
        Ok(())
    }
}
