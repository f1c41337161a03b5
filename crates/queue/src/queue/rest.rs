//! Requests that the machine cannot run now: they keep their place and are left alone for a while.

use super::clock::micros;
use super::store::query;
use super::{Claim, Queue, QueueError};
use std::time::Duration;

const REST: &str =
    "UPDATE requests SET rests_until = $3 WHERE id = $1 AND attempt = $2 AND state = 'running'";

impl Queue {
    /// Keeps a request from being claimed for so long, once it is given back.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn rest(&self, claim: &Claim, time: Duration) -> Result<(), QueueError> {
        let until = self.service_us(&self.reader).await?.saturating_add(micros(time));
        let query = query(REST).bind(claim.id.to_string()).bind(claim.attempt).bind(until);
        query.execute(&self.writer).await?;
        Ok(())
    }
}
