//! Clients that wait while others are measured: each has one request of its own and looks at its status on a schedule.

use super::client::{Failure, FalClient, Submitted};
use crate::bench::stats::{Percentiles, Samples, short};
use serde::Serialize;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// The waiting clients, at work until they are dismissed.
pub(super) struct Crowd {
    clients: usize,
    tasks: JoinSet<Looks>,
    leave: watch::Sender<bool>,
    since: Instant,
}

/// What one client saw: how long each look took, and how many failed.
type Looks = (Vec<Duration>, u64);

/// What all of them saw.
#[derive(Debug, Serialize)]
pub(super) struct Waiting {
    clients: usize,
    polls_per_s: f64,
    status_ms: Option<Percentiles>,
    failed: u64,
}

impl fmt::Display for Waiting {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { clients, polls_per_s, status_ms, failed } = self;
        write!(out, "{clients} clients wait and look {} times a second", short(*polls_per_s))?;
        if let Some(Percentiles { p50, p99, .. }) = status_ms {
            write!(out, ", {} ms p50, {} p99", short(*p50), short(*p99))?;
        }
        if *failed > 0 { write!(out, ", {failed} looks failed") } else { Ok(()) }
    }
}

impl Crowd {
    /// Submits a request for each client and lets them look, spread over the time between two looks.
    pub(super) async fn gather(client: &Arc<FalClient>, clients: usize) -> Result<Self, Failure> {
        let mut requests = Vec::with_capacity(clients);
        for _ in 0..clients {
            requests.push(client.submit().await?);
        }
        let (leave, left) = watch::channel(false);
        let (mut tasks, since) = (JoinSet::new(), Instant::now());
        for (at, request) in requests.into_iter().enumerate() {
            let first = since + client.poll().mul_f64(at as f64 / clients as f64);
            tasks.spawn(look(client.clone(), request, first, left.clone()));
        }
        Ok(Self { clients, tasks, leave, since })
    }

    /// Ends it: every client cancels its request and goes.
    pub(super) async fn dismiss(self) -> Waiting {
        let seconds = self.since.elapsed().as_secs_f64();
        self.leave.send_replace(true);
        let (times, failed): (Vec<_>, Vec<_>) = self.tasks.join_all().await.into_iter().unzip();
        let times = times.concat();
        Waiting {
            clients: self.clients,
            polls_per_s: times.len() as f64 / seconds,
            status_ms: Samples::milliseconds(times).as_ref().map(Samples::percentiles),
            failed: failed.iter().sum(),
        }
    }
}

/// A look that is late does not make up for those that were due meanwhile: a client has one at a time.
async fn look(
    client: Arc<FalClient>,
    request: Submitted,
    first: Instant,
    mut left: watch::Receiver<bool>,
) -> Looks {
    let (mut times, mut failed) = (Vec::new(), 0);
    let mut due = interval_at(first, client.poll());
    due.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            biased;
            _ = left.changed() => break,
            _ = due.tick() => {}
        }
        let begun = Instant::now();
        match client.status(&request).await {
            Ok(_) => times.push(begun.elapsed()),
            Err(_) => failed += 1,
        }
    }
    // One that ended meanwhile cannot be cancelled, and need not.
    client.cancel(&request).await.ok();
    (times, failed)
}
