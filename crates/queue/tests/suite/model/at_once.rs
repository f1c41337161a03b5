//! Four tasks do random operations truly at once, by two processes. What each saw must fit together in the end.

use super::history::{Ending, History};
use super::operation::{Operation, RequestSpec, Shown};
use super::reference::LIMITS;
use super::run::{Checked, add_key};
use crate::rig::Rig;
use latentd_queue::queue::{
    CancelAnswer, Claim, Failure, FailureKind, Finish, Level, Lost, Queue, RequestId, Verdict, WorkerState,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub(super) const TASKS: usize = 4;

/// Each plays a client, a worker and a deliverer of webhooks.
struct Task {
    queue: Queue,
    worker: String,
    /// Of all tasks: what may be cancelled.
    accepted: Arc<Mutex<Vec<RequestId>>>,
    /// Of all tasks: how many requests of a key certainly run.
    running: Arc<Mutex<BTreeMap<String, u32>>>,
    /// All attempts of this worker, the oldest first, and whether it still has them.
    claims: Vec<(Claim, bool)>,
    history: History,
}

pub(super) async fn run(rig: Rig, operations: [Vec<Shown>; TASKS]) -> Checked {
    let rig = rig.stop_clock().await;
    let processes = [rig.open().await, rig.open().await];
    for (key, limit) in LIMITS {
        add_key(&processes[0], key, limit).await;
    }
    let (accepted, running) = (Arc::default(), Arc::default());
    let tasks: Vec<_> = operations
        .into_iter()
        .enumerate()
        .map(|(number, operations)| {
            let task = Task {
                queue: processes[number % 2].clone(),
                worker: format!("w{number}"),
                accepted: Arc::clone(&accepted),
                running: Arc::clone(&running),
                claims: Vec::new(),
                history: History::default(),
            };
            tokio::spawn(task.run(operations))
        })
        .collect();
    let mut history = History::default();
    for task in tasks {
        history.extend(task.await.expect("no panic")?);
    }
    history.check(&processes[1]).await?;
    drain(&rig, &processes[0], &mut history).await?;
    history.check(&processes[1]).await?;
    history.check_all_ended(&processes[1]).await?;
    for process in processes {
        process.close().await;
    }
    Ok(())
}

/// Ends everything that is left, and delivers every webhook.
async fn drain(rig: &Rig, queue: &Queue, history: &mut History) -> Checked {
    for task in 0..TASKS {
        queue.reclaim(Lost::Stopped(&format!("w{task}"))).await.expect("a database");
    }
    rig.advance(Duration::from_secs(3600)).await;
    queue.expire_late().await.expect("a database");
    while let Some(claim) = queue.claim("last", &["m".into(), "other".into()]).await.expect("a database") {
        history.claims.push(claim.clone());
        let output = output_of(&claim);
        let finish = queue.finish(&claim, &output, &[], &[]).await.expect("a database");
        prop_assert_eq!(finish, Finish::Recorded);
        history.endings.push((claim.id, Ending::Output(output)));
    }
    loop {
        let webhooks = queue.claim_webhooks(100).await.expect("a database");
        if webhooks.is_empty() {
            return Ok(());
        }
        for webhook in webhooks {
            queue.webhook_delivered(&webhook).await.expect("a database");
            history.delivered.push(webhook.request);
            history.webhooks.push(webhook);
        }
    }
}

fn output_of(claim: &Claim) -> Value {
    json!({ "of": claim.id.to_string(), "attempt": claim.attempt })
}

impl Task {
    async fn run(mut self, operations: Vec<Shown>) -> Checked<History> {
        for Shown(operation) in operations {
            self.apply(&operation).await?;
        }
        Ok(self.history)
    }

    /// Operations that need the clock, or that take claims away from other tasks, are left out.
    async fn apply(&mut self, operation: &Operation) -> Checked {
        use Operation::*;
        match operation {
            Submit(_, spec) => self.submit(spec).await?,
            Claim(..) => self.claim().await?,
            Cancel(_, accepted, kind) => self.cancel(*accepted, *kind).await,
            Heartbeat(..) => {
                let held: Vec<_> = self.claims.iter().filter(|(_, is_held)| *is_held).collect();
                let held: Vec<_> = held.iter().map(|(claim, _)| claim.id).collect();
                let beat = self.queue.heartbeat(&self.worker, "cpu", WorkerState::Ready, &held);
                beat.await.expect("a database");
            }
            Died(..) => self.reclaim(Lost::Died(&self.worker.clone())).await?,
            Stopped(..) => self.reclaim(Lost::Stopped(&self.worker.clone())).await?,
            ExpireLate(_) => drop(self.queue.expire_late().await.expect("a database")),
            ClaimWebhooks(_) => {
                let claimed = self.queue.claim_webhooks(3).await.expect("a database");
                self.history.webhooks.extend(claimed);
            }
            WebhookDelivered(..) => {
                let Some(webhook) = self.history.webhooks.last() else { return Ok(()) };
                self.queue.webhook_delivered(webhook).await.expect("a database");
                self.history.delivered.push(webhook.request);
            }
            Charge(_, attempt)
            | Progress(_, attempt)
            | StoreState(_, attempt)
            | UseState(_, attempt)
            | Finish(_, attempt)
            | Fail(_, attempt, _)
            | GiveBack(_, attempt) => {
                if let Some(at) = self.claims.len().checked_sub(1 + attempt % self.claims.len().max(1)) {
                    self.report(operation, at).await?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    async fn submit(&mut self, spec: &RequestSpec) -> Checked {
        let new = spec.request();
        let answer = self.queue.submit(&new).await.expect("a database");
        if let latentd_queue::queue::Submission::Accepted { id, .. } = answer {
            self.accepted.lock().unwrap_or_else(PoisonError::into_inner).push(id);
        }
        self.history.submissions.push((new, answer));
        Ok(())
    }

    async fn claim(&mut self) -> Checked {
        let models = ["m".into(), "other".into()];
        let Some(claim) = self.queue.claim(&self.worker, &models).await.expect("a database") else {
            return Ok(());
        };
        let key = key_of(&claim);
        let limit = LIMITS.iter().find(|(of, _)| key == *of).map(|(_, limit)| *limit);
        let running = {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            let running = running.entry(key.clone()).or_default();
            *running += 1;
            *running
        };
        prop_assert!(limit.is_none_or(|limit| running <= limit), "{running} requests of the key {key:?} run");
        self.history.claims.push(claim.clone());
        self.claims.push((claim, true));
        Ok(())
    }

    /// A call follows that ends the claim; from now on it may no longer run.
    fn let_go(&mut self, at: usize) {
        let (claim, is_held) = &mut self.claims[at];
        if std::mem::take(is_held) {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            *running.entry(key_of(claim)).or_default() -= 1;
        }
    }

    async fn reclaim(&mut self, lost: Lost<'_>) -> Checked {
        let held: Vec<_> = (0..self.claims.len()).filter(|at| self.claims[*at].1).collect();
        for at in &held {
            self.let_go(*at);
        }
        let reclaimed = self.queue.reclaim(lost).await.expect("a database");
        let all = reclaimed.waiting + reclaimed.ended;
        prop_assert_eq!(all, held.len() as u64, "claims of {}: {:?}", self.worker, reclaimed);
        Ok(())
    }

    async fn cancel(&mut self, accepted: usize, kind: FailureKind) {
        let id = {
            let accepted_ids = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
            let back = 1 + accepted % accepted_ids.len().max(1);
            accepted_ids.len().checked_sub(back).map(|at| accepted_ids[at])
        };
        let Some(id) = id else { return };
        match self.queue.cancel(id, kind).await.expect("a database") {
            CancelAnswer::Removed => self.history.endings.push((id, Ending::Failed(kind))),
            CancelAnswer::Requested => self.history.cancelled.push(id),
            CancelAnswer::AlreadyDone | CancelAnswer::Unknown => {}
        }
    }

    /// Nobody but this task voids its claims: it knows whether it is fenced.
    async fn report(&mut self, operation: &Operation, at: usize) -> Checked {
        let (claim, is_held) = self.claims[at].clone();
        let queue = self.queue.clone();
        let verdict = match operation {
            Operation::Charge(..) => Some(queue.charge(&claim).await.expect("a database")),
            Operation::Progress(..) => {
                Some(queue.progress(&claim, Level::Info, "a step").await.expect("a database"))
            }
            Operation::StoreState(..) => {
                let bytes = claim.id.to_string().into_bytes();
                queue.store_state(&claim, 0, bytes).await.expect("a database");
                None
            }
            Operation::UseState(..) => {
                let bytes = queue.use_state(&claim).await.expect("a database");
                let own = claim.id.to_string().into_bytes();
                prop_assert!(
                    bytes.is_none_or(|bytes| is_held && bytes == own),
                    "the state of another request"
                );
                None
            }
            _ => {
                self.let_go(at);
                return self.end(operation, &claim, is_held).await;
            }
        };
        if let Some(verdict) = verdict {
            prop_assert_eq!(verdict != Verdict::Fenced, is_held, "{:?} says {:?}", operation, verdict);
        }
        Ok(())
    }

    async fn end(&mut self, operation: &Operation, claim: &Claim, is_held: bool) -> Checked {
        let (answer, ending) = match operation {
            Operation::Finish(..) => {
                let output = output_of(claim);
                let answer = self.queue.finish(claim, &output, &[], &[]).await;
                (answer.expect("a database"), Some(Ending::Output(output)))
            }
            Operation::Fail(_, _, kind) => {
                let answer = self.queue.fail(claim, &Failure::of(*kind)).await.expect("a database");
                (answer, Some(Ending::Failed(*kind)))
            }
            _ => (self.queue.give_back(claim).await.expect("a database"), None),
        };
        let ending = match answer {
            Finish::Recorded => ending,
            Finish::Cancelled => Some(Ending::Failed(FailureKind::Cancelled)),
            Finish::Fenced => None,
        };
        // What is fenced now may have recorded the same output before.
        let again =
            ending.as_ref().is_some_and(|ending| self.history.endings.contains(&(claim.id, ending.clone())));
        prop_assert_eq!(answer != Finish::Fenced, is_held || again, "{:?} of {:?}", operation, claim);
        if is_held && let Some(ending) = ending {
            self.history.endings.push((claim.id, ending));
        }
        Ok(())
    }
}

fn key_of(claim: &Claim) -> String {
    claim.body["key"].as_str().unwrap_or_default().to_owned()
}
