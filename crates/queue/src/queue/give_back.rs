//! Putting a request back that its worker does not finish: it keeps its place in the queue.

use super::claim::{Finish, end_cancelled};
use super::clock::micros;
use super::finished::Finished;
use super::store::query;
use super::{Claim, Queue, QueueError};
use std::time::Duration;

const GIVE_BACK: &str = "UPDATE requests SET state = 'waiting', worker = NULL, lease_until = NULL
    WHERE id = $1 AND attempt = $2 AND state = 'running' AND NOT cancel_requested";

// It has started in time.
const SUSPEND: &str =
    "UPDATE requests SET state = 'waiting', worker = NULL, lease_until = NULL, start_before = NULL
    WHERE id = $1 AND attempt = $2 AND state = 'running' AND NOT cancel_requested";

const PUT_OFF: &str =
    "UPDATE requests SET rests_until = $3 WHERE id = $1 AND attempt = $2 AND state = 'running'";

impl Queue {
    /// Puts the request back in its place, as if it had not been tried.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn give_back(&self, claim: &Claim) -> Result<Finish, QueueError> {
        self.put_back(GIVE_BACK, claim).await
    }

    /// Puts a request that is being worked on back in its place: whoever claims it next goes on from its state. It is not
    /// late any more.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn suspend(&self, claim: &Claim) -> Result<Finish, QueueError> {
        self.put_back(SUSPEND, claim).await
    }

    async fn put_back(&self, statement: &'static str, claim: &Claim) -> Result<Finish, QueueError> {
        let mut tx = self.writer.begin().await?;
        let now = self.moment(&mut tx).await?;
        let back = query(statement).bind(claim.id.to_string()).bind(claim.attempt).execute(&mut tx).await?;
        let (answer, finished) = match back {
            1 => (Finish::Recorded, None),
            _ => end_cancelled(&mut tx, claim, now).await?,
        };
        tx.commit().await?;
        finished.iter().for_each(Finished::log);
        self.events.wake_waiters();
        Ok(answer)
    }

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
