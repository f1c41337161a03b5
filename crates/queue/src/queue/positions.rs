//! Places in the queue. Every client that waits asks for its own, again and again: the order is read once for all of
//! them, and anew when something moved.

use super::{Queue, QueueError};
use sqlx::Row;
use std::sync::Arc;
use tokio::sync::Mutex;

const ORDER: &str = "SELECT priority, seq FROM requests WHERE state = 'waiting' ORDER BY priority, seq";

/// How long an order is trusted, in microseconds: other processes move requests without a signal.
const MAX_AGE_US: u64 = 100_000;

/// The order as it was read last.
#[derive(Clone, Default)]
pub(super) struct Positions(Arc<Mutex<Option<Order>>>);

struct Order {
    read_at: i64,
    /// What had been signalled before it was read.
    signals: (u64, u64),
    /// Priority and number of every request that waits.
    places: Vec<(i64, i64)>,
}

impl Queue {
    /// How many requests go before one that waits with this priority and number.
    pub(super) async fn ahead(&self, priority: i64, seq: i64) -> Result<u64, QueueError> {
        let mut known = self.positions.0.lock().await;
        let (now, signals) = (self.service_us(), self.events.counts());
        let order = match known.take() {
            Some(order) if order.signals == signals && now.abs_diff(order.read_at) < MAX_AGE_US => order,
            _ => Order { read_at: now, signals, places: self.places().await? },
        };
        let ahead = order.places.partition_point(|place| *place < (priority, seq));
        *known = Some(order);
        Ok(ahead as u64)
    }

    async fn places(&self) -> Result<Vec<(i64, i64)>, QueueError> {
        let rows = sqlx::query(ORDER).fetch_all(&self.reader).await?;
        rows.iter().map(|row| Ok((row.try_get("priority")?, row.try_get("seq")?))).collect()
    }
}
