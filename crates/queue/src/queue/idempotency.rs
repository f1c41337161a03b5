//! Requests that are sent again: a key that the client chose finds the request that it made before.

use super::job::{FailureKind, NewRequest, Origin, RequestId};
use super::store::{Lock, Sql, Tx, for_update, query};
use super::{QueueError, Submission};
use crate::planted::{self, Bug};

/// How a client names its request, so that sending it again makes no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// What the client chose; it counts for one API key and one application.
    pub key: String,
    /// Digest of the input: the key belongs to this one alone.
    pub digest: String,
}

const FIND: Sql = for_update!(
    "SELECT id, input_digest, origin, cancel_requested, failure FROM requests
    WHERE endpoint = $1 AND coalesce(api_key, '') = coalesce($2, '') AND idempotency_key = $3"
);

const FREE: &str = "UPDATE requests SET idempotency_key = NULL WHERE id = $1";

const KEEP: &str = "UPDATE requests SET origin = $2 WHERE id = $1 AND state <> 'done'";

/// The request that has the new one's key, if there is one. It is kept when the new one would be, and where clients of
/// several servers may wait for it: each server knows its own alone, and none knows who is the last.
pub(super) async fn find(
    tx: &mut Tx,
    new: &NewRequest,
    is_shared: bool,
) -> Result<Option<Submission>, QueueError> {
    let Some(Idempotency { key, digest }) = &new.idempotency else { return Ok(None) };
    tx.lock(Lock::Idempotency(key)).await?; // until this transaction made a request of that name, or did not
    let find = query(FIND).bind(&new.endpoint).bind(&new.api_key).bind(key);
    let Some(row) = find.fetch_optional(&mut *tx).await? else { return Ok(None) };
    let id: &str = row.try_get("id")?;
    let failure: Option<&str> = row.try_get("failure")?;
    let is_direct = row.try_get::<&str, _>("origin")? == Origin::Direct.word();
    let failure = failure.map(FailureKind::from_word).transpose()?;
    // It was stopped because its client hung up: a client that sends it again wants it done.
    let stopped = row.try_get::<bool, _>("cancel_requested")? || failure == Some(FailureKind::ClientGone);
    // Its client got an answer that asks for a retry.
    let may_succeed = failure.is_some_and(FailureKind::is_retryable);
    if (is_direct && stopped) || may_succeed || planted::has(Bug::KeyForgotten) {
        query(FREE).bind(id).execute(&mut *tx).await?;
        return Ok(None);
    }
    if row.try_get::<Option<&str>, _>("input_digest")? != Some(digest) {
        return Ok(Some(Submission::KeyTaken));
    }
    if new.origin == Origin::Queued || is_shared {
        query(KEEP).bind(id).bind(Origin::Queued.word()).execute(&mut *tx).await?;
    }
    let id: RequestId = id.parse().map_err(|_| QueueError::Corrupt(format!("the request id {id:?}")))?;
    Ok(Some(Submission::Known { id }))
}
