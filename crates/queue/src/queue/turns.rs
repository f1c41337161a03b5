//! Whose turn it is. Within a priority the keys of the API take turns, so that one key's thousand requests do not starve
//! another's one; the requests of one key start in the order of acceptance.
//!
//! This is start-time fair queuing: a request gets a number when it is accepted, its turn, and keeps it whatever becomes of
//! it. Requests start in the order of their turns, equal ones in the order of acceptance. A request's turn is one after that
//! of its key's last one, but not before the turn that the queue is at: a key that was silent has saved nothing up.
//! Requests without a key share one. So a claim is one step in an index however many wait.

use super::QueueError;
use super::store::{Tx, query};

// The queue is at the latest turn that was started; it is not before the earliest that waits, nor, where nothing waits,
// before what any key would get.
const NEXT: &str = "INSERT INTO turns (priority, api_key, next)
    SELECT $1, $2, 1 + max(turn) FROM (
        SELECT max(turn) AS turn FROM requests WHERE priority = $1 AND started_at IS NOT NULL
        UNION ALL SELECT coalesce(
            (SELECT min(turn) FROM requests WHERE state = 'waiting' AND priority = $1),
            (SELECT max(next) FROM turns WHERE priority = $1), 0)
    ) AS now WHERE TRUE
    ON CONFLICT (priority, api_key) DO UPDATE SET next =
        CASE WHEN turns.next + 1 > excluded.next THEN turns.next + 1 ELSE excluded.next END
    RETURNING next - 1";

/// The turn of a key's next request, which nobody else gets.
pub(super) async fn next(tx: &mut Tx, priority: i64, key: Option<&str>) -> Result<i64, QueueError> {
    let row = query(NEXT).bind(priority).bind(key.unwrap_or_default()).fetch_one(tx).await?;
    Ok(row.try_get(0)?)
}
