//! Which workers are alive: each writes heartbeats, and readiness is computed from the last. Of its own workers a server
//! knows more: it learns at once when one falls silent or dies.

use super::job::RequestId;
use super::store::{Query, Sql, query};
use super::{Queue, QueueError};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What a worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerState {
    /// Reading weights.
    Loading,
    /// Claims requests.
    Ready,
}

impl WorkerState {
    fn word(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Ready => "ready",
        }
    }
}

/// Workers that this process knows to be silent or dead, whatever their last heartbeat says.
#[derive(Clone, Default)]
pub(super) struct SilentWorkers(Arc<Mutex<BTreeSet<String>>>);

impl SilentWorkers {
    fn change<T>(&self, change: impl FnOnce(&mut BTreeSet<String>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn json(&self) -> String {
        self.change(|silent| json!(silent).to_string())
    }

    pub(super) fn contains(&self, worker: &str) -> bool {
        self.change(|silent| silent.contains(worker))
    }
}

const HEARTBEAT: &str =
    "INSERT INTO workers (id, device, state, started_at, beat_at) VALUES ($1, $2, $3, $4, $4)
    ON CONFLICT (id) DO UPDATE SET state = excluded.state, beat_at = excluded.beat_at";

macro_rules! renew {
    ($ids:literal) => {
        concat!(
            "UPDATE requests SET lease_until = $2
            WHERE worker = $1 AND state = 'running' AND id IN (SELECT value FROM ",
            $ids,
            ")"
        )
    };
}

const RENEW: Sql =
    Sql { sqlite: renew!("json_each($3)"), postgres: renew!("json_array_elements_text($3::json)") };

macro_rules! count {
    ($names:literal) => {
        concat!(
            "SELECT count(*) FILTER (WHERE state = 'ready'), count(*) FROM workers
            WHERE beat_at BETWEEN $1 AND $2 AND id NOT IN (SELECT value FROM ",
            $names,
            ")"
        )
    };
}

const COUNT: Sql =
    Sql { sqlite: count!("json_each($3)"), postgres: count!("json_array_elements_text($3::json)") };

const LOADED: &str = "UPDATE workers SET models = $2 WHERE id = $1";

macro_rules! count_loaded {
    ($models:literal, $names:literal) => {
        concat!(
            "SELECT value, count(*) FROM workers, ",
            $models,
            " WHERE beat_at BETWEEN $1 AND $2 AND workers.id NOT IN (SELECT value FROM ",
            $names,
            ") GROUP BY value"
        )
    };
}

const COUNT_LOADED: Sql = Sql {
    sqlite: count_loaded!("json_each(workers.models)", "json_each($3)"),
    postgres: count_loaded!(
        "json_array_elements_text(workers.models::json)",
        "json_array_elements_text($3::json)"
    ),
};

macro_rules! count_others {
    ($names:literal) => {
        concat!(
            "SELECT model, count(*) FROM requests WHERE state = 'waiting' AND model IS NOT NULL
            AND model NOT IN (SELECT value FROM ",
            $names,
            ") GROUP BY model"
        )
    };
}

const COUNT_OTHERS: Sql = Sql {
    sqlite: count_others!("json_each($1)"),
    postgres: count_others!("json_array_elements_text($1::json)"),
};

impl Queue {
    /// Records that the worker is alive, and renews its claims of these requests.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn heartbeat(
        &self,
        worker: &str,
        device: &str,
        state: WorkerState,
        held: &[RequestId],
    ) -> Result<(), QueueError> {
        let mut tx = self.writer.begin().await?;
        let now = self.moment(&mut tx).await?;
        query(HEARTBEAT)
            .bind(worker)
            .bind(device)
            .bind(state.word())
            .bind(now.lease)
            .execute(&mut tx)
            .await?;
        let ids: Vec<_> = held.iter().map(RequestId::to_string).collect();
        let renew = query(RENEW).bind(worker).bind(now.lease_end).bind(json!(ids).to_string());
        renew.execute(&mut tx).await?;
        tx.commit().await
    }

    /// Says whether a worker of this process is silent: it does not count as alive then.
    pub fn set_silent(&self, worker: &str, silent: bool) {
        let changed = self.silent.change(|workers| match silent {
            true => workers.insert(worker.to_owned()),
            false => workers.remove(worker),
        });
        if changed {
            self.events.wake_waiters();
        }
    }

    /// Forgets a worker that is gone.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn forget_worker(&self, worker: &str) -> Result<(), QueueError> {
        query("DELETE FROM workers WHERE id = $1").bind(worker).execute(&self.writer).await?;
        Ok(())
    }

    /// Workers whose last heartbeat is at most `age` old: those ready, and all.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn live_workers(&self, age: Duration) -> Result<(u64, u64), QueueError> {
        let (heartbeats, silent) = (self.heartbeats_within(&self.reader, age).await?, self.silent.json());
        let count = query(COUNT).bind(heartbeats.from).bind(heartbeats.to).bind(silent);
        let row = count.fetch_one(&self.reader).await?;
        Ok((row.try_get::<i64, _>(0)?.unsigned_abs(), row.try_get::<i64, _>(1)?.unsigned_abs()))
    }

    /// Says which models the worker has loaded.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn report_loaded_models(&self, worker: &str, models: &[String]) -> Result<(), QueueError> {
        query(LOADED).bind(worker).bind(json!(models).to_string()).execute(&self.writer).await?;
        Ok(())
    }

    /// Models that are loaded, with the number of workers that have them and whose last heartbeat is at most `age` old.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn loaded_models(&self, age: Duration) -> Result<BTreeMap<String, u64>, QueueError> {
        let (heartbeats, silent) = (self.heartbeats_within(&self.reader, age).await?, self.silent.json());
        self.counts(query(COUNT_LOADED).bind(heartbeats.from).bind(heartbeats.to).bind(silent)).await
    }

    /// Models that requests wait for besides these, with the number of requests.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn waiting_for_others(&self, models: &[String]) -> Result<BTreeMap<String, u64>, QueueError> {
        self.counts(query(COUNT_OTHERS).bind(json!(models).to_string())).await
    }

    async fn counts(&self, query: Query) -> Result<BTreeMap<String, u64>, QueueError> {
        let rows = query.fetch_all(&self.reader).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get::<i64, _>(1)?.unsigned_abs()))).collect()
    }
}
