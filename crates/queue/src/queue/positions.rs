//! Places in the queue. Every client that waits asks for its own, again and again: the order is read once for all of
//! them, and anew when something moved.

use super::store::{Row, query};
use super::{Queue, QueueError};
use std::sync::Arc;
use tokio::sync::Mutex;

const ORDER: &str =
    "SELECT priority, turn, seq FROM requests WHERE state = 'waiting' ORDER BY priority, turn, seq";

/// How long an order is trusted, in microseconds: other processes move requests without a signal.
const MAX_AGE_US: u64 = 100_000;

/// Priority, turn and number of a request; the smallest starts first.
pub(super) type Place = (i64, i64, i64);

/// The order as it was read last.
#[derive(Clone, Default)]
pub(super) struct Positions(Arc<Mutex<Option<Order>>>);

struct Order {
    read_at: i64,
    /// What had been signalled before it was read.
    signals: (u64, u64),
    /// Of every request that waits.
    places: Vec<Place>,
}

impl Queue {
    /// How many requests go before one that waits in this place.
    pub(super) async fn ahead(&self, own: Place) -> Result<u64, QueueError> {
        let mut known = self.positions.0.lock().await;
        let (now, signals) = (self.lease_clock.now_us(), self.events.counts());
        let order = match known.take() {
            Some(order) if order.signals == signals && now.abs_diff(order.read_at) < MAX_AGE_US => order,
            _ => Order { read_at: now, signals, places: self.places().await? },
        };
        let ahead = order.places.partition_point(|place| *place < own);
        *known = Some(order);
        Ok(ahead as u64)
    }

    async fn places(&self) -> Result<Vec<Place>, QueueError> {
        let rows = query(ORDER).fetch_all(&self.reader).await?;
        rows.iter().map(place_of).collect()
    }
}

pub(super) fn place_of(row: &Row) -> Result<Place, QueueError> {
    Ok((row.try_get("priority")?, row.try_get("turn")?, row.try_get("seq")?))
}
