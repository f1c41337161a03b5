//! What must be true of the queue after every operation, and at the end of all.

use super::operation::Operation;
use super::order::phase_of;
use super::reference::{End, LIMITS, State};
use super::run::{Checked, Run};
use latentd_queue::queue::{Phase, Queue, RequestId};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use std::collections::BTreeSet;

/// Long enough for every deadline, rest and retry to pass.
const LATER: u64 = 7200;

impl Run {
    /// Every request exists once and is where the model has it, as this process sees it.
    pub(super) async fn compare(&mut self, gateway: usize) -> Checked {
        let queue = self.gateways[gateway].clone();
        let mut running = Vec::new();
        for id in self.accepted.clone() {
            let status = queue.status(id).await.expect("a database");
            let Some(request) = self.model.request(id) else {
                prop_assert_eq!(status, None, "a request that was pruned");
                continue;
            };
            let Some(status) = status else { return Err(TestCaseError::fail(format!("{id} is lost"))) };
            let expected = (self.model.phase(request), request.attempt);
            let found = (status.attempt, phase_of(status));
            prop_assert_eq!((found.1.clone(), found.0), expected, "where a request is: {:?}", request);
            if found.1 == Phase::Running {
                running.push(request.new.api_key.clone());
            }
            let end = request.end.clone();
            self.compare_end(&queue, id, end).await?;
        }
        for (key, limit) in LIMITS {
            let count = running.iter().filter(|of| of.as_deref() == Some(key)).count();
            prop_assert!(count <= limit as usize, "{count} requests of the key {key:?} run");
        }
        let depth = queue.depth().await.expect("a database");
        let waiting = depth.waiting.iter().map(|(_, count)| count).sum::<u64>();
        let expected = (self.model.count(State::Waiting), self.model.count(State::Running));
        prop_assert_eq!((waiting, depth.running), expected, "requests that wait, and that run");
        let owned: BTreeSet<_> = queue.owned_files().await.expect("a database").into_iter().collect();
        let files = self.model.requests.iter().flat_map(|request| request.files.clone());
        prop_assert_eq!(owned, files.collect::<BTreeSet<_>>(), "files that belong to a result");
        Ok(())
    }

    /// A request that ended has the one end that it had before, unless that was erased.
    async fn compare_end(&mut self, queue: &Queue, id: RequestId, expected: Option<End>) -> Checked {
        let end = queue.outcome(id).await.expect("a database").map(End::from);
        prop_assert_eq!(&end, &expected, "how a request ended");
        let Some(end) = end else {
            prop_assert!(!self.ends.contains_key(&id.to_string()), "{} had ended", id);
            return Ok(());
        };
        let first = self.ends.entry(id.to_string()).or_insert_with(|| end.clone());
        prop_assert!(
            *first == end || end == End::Erased,
            "{} ended as {:?} and then as {:?}",
            id,
            first,
            end
        );
        Ok(())
    }

    /// Whatever happened, the rest of the work can be done, and every webhook is sent.
    pub(super) async fn complete(&mut self) -> Checked {
        self.advance(LATER).await;
        for worker in 0..3 {
            self.maintain(&Operation::Stopped(0, worker)).await?;
        }
        self.maintain(&Operation::ExpireLate(0)).await?;
        while self.model.next(&["m".into(), "other".into()]).is_some() {
            self.claim(0, 2).await?;
            let Some((at, claim)) = self.claims.iter().enumerate().next_back() else { break };
            let (queue, claim) = (self.gateways[0].clone(), claim.clone());
            self.finish(&queue, at, &claim).await?;
        }
        prop_assert_eq!(self.model.count(State::Done), self.model.requests.len() as u64, "all end");
        self.compare(1).await?;
        while self.model.outbox.open() > 0 {
            self.advance(LATER).await;
            let before = self.webhooks.len();
            self.claim_webhooks(0).await?;
            for webhook in &self.webhooks[before..] {
                self.gateways[0].webhook_delivered(webhook).await.expect("a database");
                self.model.outbox.settle(webhook, None);
            }
        }
        let counters = self.gateways[0].counters().await.expect("a database");
        let ended: u64 = counters.iter().filter(|of| of.metric == "requests").map(|of| of.count()).sum();
        prop_assert_eq!(ended, self.accepted.len() as u64, "ends that were counted");
        for gateway in &self.gateways {
            gateway.close().await;
        }
        Ok(())
    }
}
