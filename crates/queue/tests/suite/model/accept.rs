//! The model of acceptance: full queues, limits of keys, and names that clients give to requests.

use super::reference::{End, LIMITS, Model, Request, State};
use latentd_queue::queue::{FailureKind, NewRequest, Origin, RequestId, Submission};

impl Model {
    /// `id` is what the request is called if it is accepted.
    pub(super) fn submit(&mut self, new: &NewRequest, id: RequestId) -> Submission {
        let (known, is_freed) = self.named(new);
        if let Some(at) = known
            && !is_freed
        {
            return self.submit_again(at, new);
        }
        if let Some(refused) = self.refused(new) {
            return refused;
        }
        if let Some(at) = known {
            self.requests[at].new.idempotency = None;
        }
        let turn = self.next_turn(new);
        let place = |request: &Request| (request.new.priority as i64, request.turn);
        let first =
            self.with_state(State::Waiting).filter(|other| place(other) <= (new.priority as i64, turn));
        let ahead = first.count() as u64;
        self.accept(new, id, turn);
        Submission::Accepted { id, ahead }
    }

    pub(super) fn submit_failed(&mut self, new: &NewRequest, kind: FailureKind, id: RequestId) -> Submission {
        let (known, is_freed) = self.named(new);
        if let Some(at) = known
            && !is_freed
        {
            return self.submit_again(at, new);
        }
        let waiting = self.count(State::Waiting);
        if new.max_waiting.is_some_and(|most| waiting >= most) {
            return Submission::Full { waiting };
        }
        if let Some(at) = known {
            self.requests[at].new.idempotency = None;
        }
        self.accept(new, id, 0);
        self.end(self.requests.len() - 1, End::Failed(kind));
        Submission::Accepted { id, ahead: 0 }
    }

    fn accept(&mut self, new: &NewRequest, id: RequestId, turn: i64) {
        self.requests.push(Request::new(id, new, turn, self.now));
        if new.webhook.is_some() {
            self.outbox.add(id, new);
        }
    }

    /// The request that has this one's name, and whether it gives the name up.
    fn named(&self, new: &NewRequest) -> (Option<usize>, bool) {
        let Some(name) = &new.idempotency else { return (None, false) };
        let known = self.requests.iter().position(|request| {
            let named = request.new.idempotency.as_ref().is_some_and(|other| other.key == name.key);
            named && request.new.api_key == new.api_key
        });
        let is_freed = known.is_some_and(|at| {
            let request = &self.requests[at];
            let failure = match request.end {
                Some(End::Failed(kind)) => Some(kind),
                _ => None,
            };
            let is_stopped = request.is_cancelled || failure == Some(FailureKind::ClientGone);
            failure.is_some_and(FailureKind::is_retryable) || (request.is_direct() && is_stopped)
        });
        (known, is_freed)
    }

    fn submit_again(&mut self, at: usize, new: &NewRequest) -> Submission {
        let request = &mut self.requests[at];
        let digest = |new: &NewRequest| new.idempotency.as_ref().map(|name| name.digest.clone());
        if digest(&request.new) != digest(new) {
            return Submission::KeyTaken;
        }
        if (new.origin == Origin::Queued || self.is_shared) && request.state != State::Done {
            request.new.origin = Origin::Queued;
        }
        Submission::Known { id: request.id }
    }

    /// A key at its limit comes before a full queue: that is the cheaper of the two to find.
    fn refused(&self, new: &NewRequest) -> Option<Submission> {
        self.key_busy(new).or_else(|| {
            let waiting = self.count(State::Waiting);
            let is_full = new.max_waiting.is_some_and(|most| waiting >= most);
            is_full.then_some(Submission::Full { waiting })
        })
    }

    fn key_busy(&self, new: &NewRequest) -> Option<Submission> {
        let (_, limit) = *LIMITS.iter().find(|(key, _)| new.api_key.as_deref() == Some(key))?;
        let of_key = |request: &&Request| request.new.api_key == new.api_key;
        let waited_for = self.with_state(State::Waiting).filter(|request| request.is_direct());
        let active = self.with_state(State::Running).chain(waited_for).filter(of_key).count();
        (new.origin == Origin::Direct && active >= limit as usize).then_some(Submission::KeyBusy { limit })
    }
}
