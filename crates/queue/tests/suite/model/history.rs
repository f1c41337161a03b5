//! What tasks that worked at once saw, and whether it fits together.

use super::run::Checked;
use latentd_queue::queue::{
    Claim, Failure, FailureKind, NewRequest, Origin, Outcome, Phase, Queue, RequestId, Submission, Webhook,
};
use proptest::prelude::*;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// How somebody was told that a request ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ending {
    Output(Value),
    Failed(FailureKind),
}

#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) submissions: Vec<(NewRequest, Submission)>,
    pub(super) claims: Vec<Claim>,
    pub(super) endings: Vec<(RequestId, Ending)>,
    /// Requests that ran when they were cancelled.
    pub(super) cancelled: Vec<RequestId>,
    pub(super) webhooks: Vec<Webhook>,
    pub(super) delivered: Vec<RequestId>,
}

impl History {
    pub(super) fn extend(&mut self, other: Self) {
        self.submissions.extend(other.submissions);
        self.claims.extend(other.claims);
        self.endings.extend(other.endings);
        self.cancelled.extend(other.cancelled);
        self.webhooks.extend(other.webhooks);
        self.delivered.extend(other.delivered);
    }

    fn accepted(&self) -> impl Iterator<Item = (RequestId, &NewRequest)> {
        self.submissions.iter().filter_map(|(new, answer)| match answer {
            Submission::Accepted { id, .. } => Some((*id, new)),
            _ => None,
        })
    }

    pub(super) async fn check(&self, queue: &Queue) -> Checked {
        let ids: BTreeSet<_> = self.accepted().map(|(id, _)| id.to_string()).collect();
        prop_assert_eq!(ids.len(), self.accepted().count(), "an id was given out twice");
        let depth = queue.depth().await.expect("a database");
        let mut in_state = (0, 0, 0);
        for (id, _) in self.accepted() {
            let status = queue.status(id).await.expect("a database");
            prop_assert!(status.is_some(), "{} is lost", id);
            let Some(status) = status else { continue };
            match status.phase {
                Phase::Waiting { .. } => in_state.0 += 1,
                Phase::Running => in_state.1 += 1,
                Phase::Done { .. } => in_state.2 += 1,
            }
            let mut attempts: Vec<_> =
                self.claims.iter().filter(|of| of.id == id).map(|of| of.attempt).collect();
            attempts.sort_unstable();
            let expected: Vec<_> = (1..=status.attempt).collect();
            prop_assert_eq!(attempts, expected, "every attempt of {} was made once", id);
            self.check_end(queue, id).await?;
        }
        let waiting: u64 = depth.waiting.iter().map(|(_, count)| count).sum();
        prop_assert_eq!((in_state.0, in_state.1), (waiting, depth.running), "no request but those accepted");
        let counters = queue.counters().await.expect("a database");
        let ended: u64 = counters.iter().filter(|of| of.metric == "requests").map(|of| of.count()).sum();
        prop_assert_eq!(ended, in_state.2, "every end is counted once");
        self.check_names(queue).await?;
        self.check_webhooks()
    }

    async fn check_end(&self, queue: &Queue, id: RequestId) -> Checked {
        let outcome = queue.outcome(id).await.expect("a database");
        let told: Vec<_> =
            self.endings.iter().filter(|(of, _)| *of == id).map(|(_, ending)| ending).collect();
        prop_assert!(told.len() <= 1, "{} ended more than once: {:?}", id, told);
        let ended = match outcome {
            Some(Outcome::Output(output)) => Some(Ending::Output(output)),
            Some(Outcome::Failed(failure)) => Some(Ending::Failed(failure.kind)),
            Some(Outcome::Erased) | None => None,
        };
        if let Some(told) = told.first() {
            prop_assert_eq!(Some(*told), ended.as_ref(), "{} ended otherwise than was said", id);
        }
        let has_output = matches!(ended, Some(Ending::Output(_)));
        prop_assert!(!(has_output && self.cancelled.contains(&id)), "{} has an output though cancelled", id);
        prop_assert!(!has_output || !told.is_empty(), "{} has an output that nobody recorded", id);
        Ok(())
    }

    /// One name of a client stands for one request, unless that one was not done for a reason that may pass.
    async fn check_names(&self, queue: &Queue) -> Checked {
        let mut named: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (id, new) in self.accepted() {
            if let Some(name) = &new.idempotency {
                named.entry((new.api_key.clone(), name.key.clone())).or_default().push((id, new));
            }
        }
        for (name, requests) in &named {
            let mut keep = 0;
            for (id, new) in requests {
                // A client that cancels what runs gives its name up, however that then ends.
                let is_direct = new.origin == Origin::Direct;
                let is_freed = (is_direct && self.cancelled.contains(id))
                    || match queue.outcome(*id).await.expect("a database") {
                        Some(Outcome::Failed(Failure { kind, .. })) => {
                            let is_stopped = matches!(kind, FailureKind::Cancelled | FailureKind::ClientGone);
                            kind.is_retryable() || (is_direct && is_stopped)
                        }
                        _ => false,
                    };
                keep += usize::from(!is_freed);
            }
            prop_assert!(keep <= 1, "{} requests are called {:?}", keep, name);
        }
        for (new, answer) in &self.submissions {
            let Some(name) = &new.idempotency else { continue };
            let of_name = named.get(&(new.api_key.clone(), name.key.clone())).map_or(&[][..], |of| &of[..]);
            let digest = |other: &NewRequest| other.idempotency.as_ref().map(|other| other.digest.clone());
            let same = |other: &NewRequest| digest(other) == digest(new);
            match answer {
                Submission::Known { id } => {
                    let is_known = of_name.iter().any(|(of, other)| of == id && same(other));
                    prop_assert!(is_known, "{:?} is not {}", new, id);
                }
                Submission::KeyTaken => {
                    prop_assert!(
                        of_name.iter().any(|(_, other)| !same(other)),
                        "nothing else is called {:?}",
                        name
                    );
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn check_webhooks(&self) -> Checked {
        let mut sent = BTreeSet::new();
        for webhook in &self.webhooks {
            prop_assert!(
                sent.insert((webhook.request.to_string(), webhook.attempt)),
                "{:?} was claimed twice",
                webhook
            );
        }
        Ok(())
    }

    pub(super) async fn check_all_ended(&self, queue: &Queue) -> Checked {
        for (id, new) in self.accepted() {
            prop_assert!(queue.outcome(id).await.expect("a database").is_some(), "{} has no end", id);
            let is_delivered = self.delivered.contains(&id);
            prop_assert_eq!(is_delivered, new.webhook.is_some(), "a webhook of {}", id);
        }
        Ok(())
    }
}
