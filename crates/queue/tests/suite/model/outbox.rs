//! The outbox as a list in memory: one webhook a request, due with its end.

use latentd_queue::queue::{NewRequest, RequestId, Webhook};
use std::collections::BTreeMap;

/// How long a webhook that was claimed is left alone, in seconds.
pub(super) const HOLD: u64 = 30;

/// How many a receiver gets at once.
const PER_RECEIVER: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    WaitsForEnd,
    Due,
    Settled,
}

#[derive(Debug)]
struct Entry {
    request: RequestId,
    receiver: String,
    state: State,
    attempts: i64,
    next_at: u64,
    held_until: u64,
}

#[derive(Debug, Default)]
pub(super) struct Outbox(Vec<Entry>);

impl Outbox {
    pub(super) fn add(&mut self, request: RequestId, new: &NewRequest) {
        let receiver = new.webhook.as_ref().map(|webhook| webhook.receiver.clone()).unwrap_or_default();
        let state = State::WaitsForEnd;
        self.0.push(Entry { request, receiver, state, attempts: 0, next_at: 0, held_until: 0 });
    }

    /// The request ended.
    pub(super) fn is_due(&mut self, request: RequestId, now: u64) {
        for entry in self.0.iter_mut().filter(|entry| entry.request == request) {
            assert_eq!(entry.state, State::WaitsForEnd, "the model ends a request once");
            (entry.state, entry.next_at) = (State::Due, now);
        }
    }

    /// Removes a request's webhook with it, unless it is still to be delivered. Is it gone?
    pub(super) fn forget(&mut self, request: RequestId) -> bool {
        self.0.retain(|entry| entry.request != request || entry.state != State::Settled);
        self.0.iter().all(|entry| entry.request != request)
    }

    /// Checks what a call got that looked for due webhooks: which of equally old ones it gets is open.
    pub(super) fn claimed(&mut self, claimed: &[Webhook], now: u64) -> Result<(), String> {
        let (mut at_once, mut due) = (BTreeMap::new(), BTreeMap::new());
        for entry in self.0.iter().filter(|entry| entry.state == State::Due && entry.next_at <= now) {
            let count = if entry.held_until > now { &mut at_once } else { &mut due };
            *count.entry(entry.receiver.clone()).or_insert(0_usize) += 1;
        }
        let expected: BTreeMap<_, _> = due
            .into_iter()
            .map(|(receiver, due)| {
                let free = PER_RECEIVER - at_once.get(&receiver).copied().unwrap_or(0);
                (receiver, due.min(free))
            })
            .filter(|(_, count)| *count > 0)
            .collect();
        let mut got = BTreeMap::new();
        for webhook in claimed {
            let entry = self.0.iter_mut().find(|entry| entry.request == webhook.request);
            let entry = entry.ok_or(format!("{webhook:?} is of no request that has one"))?;
            let is_due = entry.state == State::Due && entry.next_at <= now && entry.held_until <= now;
            if !is_due || webhook.attempt != entry.attempts + 1 {
                return Err(format!("{webhook:?} is not to be sent: {entry:?} at {now}"));
            }
            (entry.attempts, entry.held_until) = (webhook.attempt, now + HOLD);
            *got.entry(entry.receiver.clone()).or_insert(0) += 1;
        }
        if got == expected { Ok(()) } else { Err(format!("{got:?} webhooks were claimed, not {expected:?}")) }
    }

    /// An attempt is over: it is sent again at a time, or never.
    pub(super) fn settle(&mut self, webhook: &Webhook, again_at: Option<u64>) {
        let entry = self.0.iter_mut().find(|entry| {
            let is_attempts = entry.request == webhook.request && entry.attempts == webhook.attempt;
            is_attempts && entry.state == State::Due
        });
        let Some(entry) = entry else { return };
        entry.held_until = 0;
        match again_at {
            Some(at) => entry.next_at = at,
            None => entry.state = State::Settled,
        }
    }

    /// The process that held all of them is gone.
    pub(super) fn release(&mut self) {
        for entry in &mut self.0 {
            entry.held_until = 0;
        }
    }

    /// Webhooks that are not settled.
    pub(super) fn open(&self) -> usize {
        self.0.iter().filter(|entry| entry.state != State::Settled).count()
    }
}
