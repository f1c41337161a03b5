//! Does each operation to the queue and to the model, and compares: the answers, and then all that can be asked of either.

use super::operation::{Operation, RequestSpec, Shown};
use super::reference::{End, LIMITS, Model};
use crate::rig::{Rig, reclaim_expired};
use latentd_queue::queue::{
    Claim, Failure, FailureKind, Keep, Level, Lost, NewKey, Queue, RequestId, Scope, StoredFile, Submission,
    Webhook, WorkerState,
};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub(super) type Checked<T = ()> = Result<T, TestCaseError>;

const WORKERS: [&str; 3] = ["w0", "w1", "w2"];

/// Two processes, the model, and what the outside world knows.
pub(super) struct Run {
    pub(super) rig: Rig,
    pub(super) gateways: [Queue; 2],
    pub(super) model: Model,
    /// Every request that was accepted, and every attempt that was made, the oldest first.
    pub(super) accepted: Vec<RequestId>,
    pub(super) claims: Vec<Claim>,
    pub(super) webhooks: Vec<Webhook>,
    /// Attempts that wrote down their file.
    expected: BTreeSet<usize>,
    /// What ended requests looked like at first.
    pub(super) ends: BTreeMap<String, End>,
}

/// Does the operations to an empty queue; an error says where it and the model differ.
pub(super) async fn run(rig: Rig, operations: Vec<Shown>) -> Checked {
    let rig = rig.stop_clock().await;
    let gateways = [rig.open().await, rig.open().await];
    let is_shared = gateways[0].is_shared();
    for (key, limit) in LIMITS {
        add_key(&gateways[0], key, limit).await;
    }
    let mut run = Run {
        rig,
        gateways,
        model: Model { is_shared, ..Model::default() },
        accepted: Vec::new(),
        claims: Vec::new(),
        webhooks: Vec::new(),
        expected: BTreeSet::new(),
        ends: BTreeMap::new(),
    };
    for (number, Shown(operation)) in operations.iter().enumerate() {
        // Every operation has a second of its own, so that what ends first is known.
        run.advance(1).await;
        let checked = match run.apply(operation).await {
            Ok(()) => run.compare(number % 2).await,
            Err(error) => Err(error),
        };
        checked
            .map_err(|error| TestCaseError::fail(format!("operation {number}, {operation:?}: {error}")))?;
    }
    run.complete().await
}

pub(super) async fn add_key(queue: &Queue, id: &str, limit: u32) {
    let (name, concurrency) = (id.to_owned(), Some(limit));
    let new = NewKey { id: id.into(), sha256: [7; 32], name, scope: Scope::Api, concurrency };
    queue.add_key(&new).await.expect("a database");
}

/// The models that a worker serves.
fn models(worker: usize) -> Vec<String> {
    let models = if worker == 2 { &["m", "other"][..] } else { &["m"] };
    models.iter().map(ToString::to_string).collect()
}

/// The file of an attempt.
fn file_of(attempt: usize) -> String {
    format!("image {attempt}")
}

/// The one that is so far from the end of the list.
fn recent<T>(list: &[T], back: usize) -> Option<(usize, &T)> {
    let at = list.len().checked_sub(1 + back % list.len().max(1))?;
    list.get(at).map(|one| (at, one))
}

/// Awaits an operation of the queue and compares its answer with the model's.
macro_rules! same {
    ($queue:expr, $model:expr) => {
        prop_assert_eq!($queue.await.expect("a database"), $model, "the queue's answer, and the model's")
    };
}

impl Run {
    pub(super) async fn advance(&mut self, seconds: u64) {
        self.rig.advance(Duration::from_secs(seconds)).await;
        self.model.now += seconds;
    }

    fn queue(&self, gateway: usize) -> Queue {
        self.gateways[gateway].clone()
    }

    async fn apply(&mut self, operation: &Operation) -> Checked {
        match *operation {
            Operation::Submit(gateway, ref spec) => self.submit(gateway, spec).await,
            Operation::SubmitFailed(gateway, ref spec) => self.submit_failed(gateway, spec).await,
            Operation::Claim(gateway, worker) => self.claim(gateway, worker).await,
            Operation::Cancel(gateway, accepted, kind) => {
                let Some((_, id)) = recent(&self.accepted, accepted) else { return Ok(()) };
                same!(self.queue(gateway).cancel(*id, kind), self.model.cancel(*id, kind));
                Ok(())
            }
            Operation::Erase(gateway, accepted) => {
                let Some((_, id)) = recent(&self.accepted, accepted) else { return Ok(()) };
                same!(self.queue(gateway).erase(*id), self.model.erase(*id));
                Ok(())
            }
            Operation::Crash(gateway) => {
                self.gateways[gateway] = self.rig.open().await;
                Ok(())
            }
            Operation::Advance(seconds) => {
                self.advance(seconds).await;
                Ok(())
            }
            Operation::ClaimWebhooks(gateway) => self.claim_webhooks(gateway).await,
            Operation::WebhookDelivered(gateway, which) => {
                let Some((_, webhook)) = recent(&self.webhooks, which) else { return Ok(()) };
                self.queue(gateway).webhook_delivered(webhook).await.expect("a database");
                self.model.outbox.settle(webhook, None);
                Ok(())
            }
            Operation::WebhookFailed(gateway, which, again) => {
                let Some((_, webhook)) = recent(&self.webhooks, which) else { return Ok(()) };
                let failed = self.queue(gateway);
                let failed = failed.webhook_failed(webhook, again.map(Duration::from_secs), "refused");
                failed.await.expect("a database");
                self.model.outbox.settle(webhook, again.map(|seconds| self.model.now + seconds));
                Ok(())
            }
            Operation::Heartbeat(..)
            | Operation::Died(..)
            | Operation::Stopped(..)
            | Operation::VoidExpiredLeases(_)
            | Operation::ServerDied(_)
            | Operation::ExpireLate(_)
            | Operation::PruneOlder(..)
            | Operation::PruneAllBut(..) => self.maintain(operation).await,
            _ => self.report(operation).await,
        }
    }

    async fn submit(&mut self, gateway: usize, spec: &RequestSpec) -> Checked {
        let new = spec.request();
        let answer = self.queue(gateway).submit(&new).await.expect("a database");
        let id = self.accept(answer)?;
        prop_assert_eq!(answer, self.model.submit(&new, id), "the queue's answer, and the model's");
        Ok(())
    }

    async fn submit_failed(&mut self, gateway: usize, spec: &RequestSpec) -> Checked {
        let (new, kind) = (spec.request(), FailureKind::Invalid);
        let answer = self.queue(gateway).submit_failed(&new, &Failure::of(kind)).await.expect("a database");
        let id = self.accept(answer)?;
        prop_assert_eq!(
            answer,
            self.model.submit_failed(&new, kind, id),
            "the queue's answer, and the model's"
        );
        Ok(())
    }

    /// The id of a new request, if it is one.
    fn accept(&mut self, answer: Submission) -> Checked<RequestId> {
        let Submission::Accepted { id, .. } = answer else { return Ok(RequestId::new()) };
        prop_assert!(!self.accepted.contains(&id), "an id was given out twice");
        self.accepted.push(id);
        Ok(id)
    }

    pub(super) async fn claim(&mut self, gateway: usize, worker: usize) -> Checked {
        let models = models(worker);
        let next = self.model.next(&models).map(|request| request.new.body.clone());
        same!(self.queue(gateway).peek(&models), next);
        let claim = self.queue(gateway).claim(WORKERS[worker], &models).await.expect("a database");
        if let Some(claim) = &claim {
            self.claims.push(claim.clone());
        }
        prop_assert_eq!(claim, self.model.claim(WORKERS[worker], &models), "the claim, and the model's");
        Ok(())
    }

    /// What a worker says of an attempt of its own, which may be over for others.
    async fn report(&mut self, operation: &Operation) -> Checked {
        use Operation::*;
        let (Charge(gateway, attempt)
        | Progress(gateway, attempt)
        | StoreState(gateway, attempt)
        | UseState(gateway, attempt)
        | MustGiveWay(gateway, attempt)
        | ExpectFile(gateway, attempt)
        | Finish(gateway, attempt)
        | Fail(gateway, attempt, _)
        | GiveBack(gateway, attempt)
        | PutOff(gateway, attempt, _)) = *operation
        else {
            unreachable!("{operation:?} is no report of a worker")
        };
        let queue = self.queue(gateway);
        let Some((at, claim)) = recent(&self.claims, attempt) else { return Ok(()) };
        let (claim, bytes) = (&claim.clone(), format!("of {at} at {}", self.model.now));
        let model = &mut self.model;
        same!(queue.verdict(claim), model.verdict(claim));
        match *operation {
            Charge(..) => same!(queue.charge(claim), model.charge(claim)),
            Progress(..) => same!(queue.progress(claim, Level::Info, "a step"), model.progress(claim)),
            StoreState(..) => {
                // More steps than an earlier state, or not.
                let steps = (model.now % 4) as usize;
                queue.store_state(claim, steps, bytes.clone().into()).await.expect("a database");
                model.store_state(claim, steps, bytes.into());
            }
            UseState(..) => same!(queue.use_state(claim), model.use_state(claim)),
            MustGiveWay(..) => {
                same!(queue.must_give_way(claim, &models(0)), model.must_give_way(claim, &models(0)));
            }
            Finish(..) => self.finish(&queue, at, claim).await?,
            Fail(_, _, kind) => same!(queue.fail(claim, &Failure::of(kind)), model.fail(claim, kind)),
            GiveBack(..) => same!(queue.give_back(claim), model.give_back(claim)),
            PutOff(_, _, seconds) => {
                queue.put_off(claim, Duration::from_secs(seconds)).await.expect("a database");
                model.put_off(claim, seconds);
                same!(queue.give_back(claim), model.give_back(claim));
            }
            _ if !self.expected.contains(&at) => {
                let (may, file) = (self.model.verdict(claim), file_of(at));
                let may = may != latentd_queue::queue::Verdict::Fenced;
                same!(queue.expect_files(&[&file], Some(claim)), may);
                if may {
                    self.expected.insert(at);
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) async fn finish(&mut self, queue: &Queue, at: usize, claim: &Claim) -> Checked {
        let keys: Vec<_> = self.expected.contains(&at).then(|| file_of(at)).into_iter().collect();
        let file = |key: &String| StoredFile {
            key: key.clone(),
            content_type: "image/png".into(),
            bytes: 1,
            sha256: "d".into(),
        };
        let (output, files) = (json!({ "attempt": at }), keys.iter().map(file).collect::<Vec<_>>());
        same!(queue.finish(claim, &output, &files, &[]), self.model.finish(claim, &output, &keys));
        Ok(())
    }

    /// What the supervisor and the timers do.
    pub(super) async fn maintain(&mut self, operation: &Operation) -> Checked {
        use Operation::*;
        let model = &mut self.model;
        match *operation {
            Heartbeat(gateway, worker) => {
                let worker = WORKERS[worker];
                let queue = &self.gateways[gateway];
                let held = model.heartbeat(worker);
                queue.heartbeat(worker, "cpu", WorkerState::Ready, &held).await.expect("a database");
            }
            Died(gateway, worker) => {
                let lost = Lost::Died(WORKERS[worker]);
                same!(self.gateways[gateway].reclaim(lost), model.reclaim(lost));
            }
            Stopped(gateway, worker) => {
                let lost = Lost::Stopped(WORKERS[worker]);
                same!(self.gateways[gateway].reclaim(lost), model.reclaim(lost));
            }
            VoidExpiredLeases(gateway) => {
                let reclaimed = reclaim_expired(&self.gateways[gateway]).await;
                prop_assert_eq!(reclaimed, model.reclaim(Lost::Expired));
            }
            ServerDied(gateway) => {
                let lost = Lost::Everything;
                same!(self.gateways[gateway].reclaim(lost), model.reclaim(lost));
                self.gateways[gateway].release_webhooks().await.expect("a database");
                model.outbox.release();
            }
            ExpireLate(gateway) => same!(self.gateways[gateway].expire_late(), model.expire_late()),
            PruneOlder(gateway, age) => {
                let whole = Some(Duration::from_secs(age));
                let keep = Keep { results: whole, inputs: whole, ..Keep::default() };
                let pruned = self.gateways[gateway].prune(&keep).await.expect("a database");
                prop_assert_eq!(pruned.requests, model.prune(Some(age), None));
            }
            PruneAllBut(gateway, most) => {
                let keep = Keep { requests: Some(most), ..Keep::default() };
                let pruned = self.gateways[gateway].prune(&keep).await.expect("a database");
                prop_assert_eq!(pruned.requests, model.prune(None, Some(most)));
            }
            _ => unreachable!("{operation:?} is no maintenance"),
        }
        Ok(())
    }

    pub(super) async fn claim_webhooks(&mut self, gateway: usize) -> Checked {
        let claimed = self.queue(gateway).claim_webhooks(100).await.expect("a database");
        let checked = self.model.outbox.claimed(&claimed, self.model.now);
        self.webhooks.extend(claimed);
        checked.map_err(TestCaseError::fail)
    }
}
