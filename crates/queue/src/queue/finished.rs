//! The line in the process's log for each request that ended, for operators: whose it was, how it ended, how long it took.
//!
//! It is written by the process that ended the request, after the end was committed. The client's address is stored until
//! then and no longer.

use super::store::{Row, Tx, query};
use super::{QueueError, RequestId};

const ENDED: &str = "SELECT requests.endpoint, requests.failure, requests.created_at, requests.started_at,
        requests.finished_at, requests.client, coalesce(nullif(api_keys.name, ''), requests.api_key) AS api_key
    FROM requests LEFT JOIN api_keys ON api_keys.id = requests.api_key WHERE requests.id = $1";

const FORGET_CLIENT: &str = "UPDATE requests SET client = NULL WHERE id = $1 AND client IS NOT NULL";

/// What stands for something that is not known.
const NONE: &str = "-";

/// A request that ended.
pub(super) struct Finished {
    request: String,
    endpoint: String,
    key: Option<String>,
    failure: Option<String>,
    queue_seconds: f64,
    run_seconds: f64,
    client: Option<String>,
}

impl Finished {
    /// Reads it, in the transaction that ended it.
    pub(super) async fn read(tx: &mut Tx, id: RequestId) -> Result<Self, QueueError> {
        let request = id.to_string();
        let row = query(ENDED).bind(&request).fetch_one(&mut *tx).await?;
        let finished = Self::of(request, &row)?;
        if finished.client.is_some() {
            query(FORGET_CLIENT).bind(&finished.request).execute(&mut *tx).await?;
        }
        Ok(finished)
    }

    fn of(request: String, row: &Row) -> Result<Self, QueueError> {
        let (created, ended): (i64, Option<i64>) = (row.try_get("created_at")?, row.try_get("finished_at")?);
        let (ended, started): (_, Option<i64>) = (ended.unwrap_or(created), row.try_get("started_at")?);
        let started = started.unwrap_or(ended);
        Ok(Self {
            request,
            endpoint: row.try_get("endpoint")?,
            key: row.try_get("api_key")?,
            failure: row.try_get("failure")?,
            queue_seconds: seconds(created, started),
            run_seconds: seconds(started, ended),
            client: row.try_get("client")?,
        })
    }

    /// The same, sent by this client.
    pub(super) fn of_client(self, client: Option<&str>) -> Self {
        Self { client: client.map(str::to_owned), ..self }
    }

    /// Writes the line.
    pub(super) fn log(&self) {
        tracing::info!(
            target: "latentd::request",
            request_id = self.request.as_str(),
            endpoint = self.endpoint.as_str(),
            key = self.key.as_deref().unwrap_or(NONE),
            outcome = self.failure.as_deref().unwrap_or("succeeded"),
            queue_seconds = self.queue_seconds,
            run_seconds = self.run_seconds,
            client = self.client.as_deref().unwrap_or(NONE),
            "request finished"
        );
    }
}

/// Between two dates, in whole milliseconds. A clock that was set back meanwhile makes it none.
fn seconds(from: i64, to: i64) -> f64 {
    ((to - from).max(0) / 1000) as f64 / 1000.0
}
