//! The queue as a few lists in memory: what every operation must answer, and what is then true of every request.

use super::outbox::Outbox;
use latentd_queue::queue::{
    CancelAnswer, Claim, Erasure, FailureKind, Finish, LEASE, Lost, MAX_DEATHS, NewRequest, Origin, Outcome,
    Reclaimed, RequestId, Verdict,
};
use serde_json::Value;
use std::collections::BTreeMap;

/// Of keys, where they have one.
pub(super) const LIMITS: [(&str, u32); 2] = [("limit 1", 1), ("limit 2", 2)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Waiting,
    Running,
    Done,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum End {
    Output(Value),
    Failed(FailureKind),
    Erased,
}

impl From<Outcome> for End {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Output(output) => Self::Output(output),
            Outcome::Failed(failure) => Self::Failed(failure.kind),
            Outcome::Erased => Self::Erased,
        }
    }
}

/// A request that was accepted and not pruned. Times are in seconds.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) id: RequestId,
    pub(super) new: NewRequest,
    pub(super) state: State,
    pub(super) attempt: i64,
    pub(super) end: Option<End>,
    pub(super) ended_at: u64,
    pub(super) files: Vec<String>,
    pub(super) turn: i64,
    worker: String,
    lease_end: u64,
    deaths: i64,
    is_charged: bool,
    pub(super) is_cancelled: bool,
    pub(super) start_before: Option<u64>,
    pub(super) rests_until: u64,
    /// What an attempt saved, and by how many it was used since.
    saved: Option<(Vec<u8>, i64)>,
    /// Most steps that were saved, now and at the last death.
    progress: [usize; 2],
}

impl Request {
    pub(super) fn new(id: RequestId, new: &NewRequest, turn: i64, now: u64) -> Self {
        Self {
            id,
            new: new.clone(),
            state: State::Waiting,
            attempt: 0,
            end: None,
            ended_at: 0,
            files: Vec::new(),
            turn,
            worker: String::new(),
            lease_end: 0,
            deaths: 0,
            is_charged: false,
            is_cancelled: false,
            start_before: new.options.start_within.map(|time| now + time.as_secs()),
            rests_until: 0,
            saved: None,
            progress: [0; 2],
        }
    }

    pub(super) fn limit(&self) -> Option<u32> {
        LIMITS.iter().find(|(key, _)| self.new.api_key.as_deref() == Some(key)).map(|(_, limit)| *limit)
    }

    pub(super) fn is_direct(&self) -> bool {
        self.new.origin == Origin::Direct
    }
}

/// Requests in the order of acceptance, and the time.
#[derive(Debug, Default)]
pub(super) struct Model {
    /// Of several servers.
    pub(super) is_shared: bool,
    pub(super) now: u64,
    pub(super) requests: Vec<Request>,
    pub(super) outbox: Outbox,
    /// The earliest turn of each key's next request, by priority.
    pub(super) next_turns: BTreeMap<(i64, String), i64>,
}

impl Model {
    pub(super) fn request(&self, id: RequestId) -> Option<&Request> {
        self.requests.iter().find(|request| request.id == id)
    }

    pub(super) fn with_state(&self, state: State) -> impl Iterator<Item = &Request> {
        self.requests.iter().filter(move |request| request.state == state)
    }

    pub(super) fn count(&self, state: State) -> u64 {
        self.with_state(state).count() as u64
    }

    /// Where a request of this claim is that still runs.
    fn running(&self, claim: &Claim) -> Option<usize> {
        self.requests.iter().position(|request| {
            request.id == claim.id && request.attempt == claim.attempt && request.state == State::Running
        })
    }

    pub(super) fn claim(&mut self, worker: &str, models: &[String]) -> Option<Claim> {
        let id = self.next(models)?.id;
        let now = self.now;
        let request = self.requests.iter_mut().find(|request| request.id == id)?;
        request.state = State::Running;
        request.attempt += 1;
        request.worker = worker.to_owned();
        request.lease_end = now + LEASE.as_secs();
        request.is_charged = false;
        let NewRequest { endpoint, body, traceparent, .. } = request.new.clone();
        Some(Claim { id, attempt: request.attempt, endpoint, body, traceparent })
    }

    pub(super) fn verdict(&self, claim: &Claim) -> Verdict {
        match self.running(claim) {
            Some(at) if self.requests[at].is_cancelled => Verdict::Cancelled,
            Some(_) => Verdict::Continue { watched: false },
            None => Verdict::Fenced,
        }
    }

    pub(super) fn charge(&mut self, claim: &Claim) -> Verdict {
        if let Some(at) = self.running(claim) {
            let worker = self.requests[at].worker.clone();
            for request in self.requests.iter_mut().filter(|other| other.worker == worker) {
                request.is_charged = request.id == claim.id;
            }
        }
        self.verdict(claim)
    }

    pub(super) fn progress(&mut self, claim: &Claim) -> Verdict {
        if let Some(at) = self.running(claim) {
            self.requests[at].lease_end = self.now + LEASE.as_secs();
        }
        self.verdict(claim)
    }

    /// Renews a worker's claims; returns whose they are.
    pub(super) fn heartbeat(&mut self, worker: &str) -> Vec<RequestId> {
        let held = |request: &&mut Request| request.worker == worker && request.state == State::Running;
        let renew = |request: &mut Request| {
            request.lease_end = self.now + LEASE.as_secs();
            request.id
        };
        self.requests.iter_mut().filter(held).map(renew).collect()
    }

    pub(super) fn store_state(&mut self, claim: &Claim, steps: usize, bytes: Vec<u8>) {
        if let Some(at) = self.running(claim) {
            let request = &mut self.requests[at];
            request.saved = Some((bytes, 0));
            request.progress[0] = request.progress[0].max(steps);
        }
    }

    pub(super) fn use_state(&mut self, claim: &Claim) -> Option<Vec<u8>> {
        let at = self.running(claim).filter(|_| claim.attempt > 1)?;
        let (bytes, uses) = self.requests[at].saved.as_mut().filter(|(_, uses)| *uses < 2)?;
        *uses += 1;
        Some(bytes.clone())
    }

    pub(super) fn finish(&mut self, claim: &Claim, output: &Value, files: &[String]) -> Finish {
        let Some(at) = self.running(claim) else {
            let is_recorded = self.request(claim.id).is_some_and(|request| {
                request.attempt == claim.attempt && request.end == Some(End::Output(output.clone()))
            });
            return if is_recorded { Finish::Recorded } else { Finish::Fenced };
        };
        if self.requests[at].is_cancelled {
            self.end(at, End::Failed(FailureKind::Cancelled));
            return Finish::Cancelled;
        }
        self.end(at, End::Output(output.clone()));
        self.requests[at].files = files.to_vec();
        Finish::Recorded
    }

    pub(super) fn fail(&mut self, claim: &Claim, kind: FailureKind) -> Finish {
        let Some(at) = self.running(claim) else { return Finish::Fenced };
        self.end(at, End::Failed(kind));
        Finish::Recorded
    }

    pub(super) fn give_back(&mut self, claim: &Claim) -> Finish {
        let Some(at) = self.running(claim) else { return Finish::Fenced };
        if self.requests[at].is_cancelled {
            self.end(at, End::Failed(FailureKind::Cancelled));
            return Finish::Cancelled;
        }
        self.requests[at].state = State::Waiting;
        Finish::Recorded
    }

    pub(super) fn put_off(&mut self, claim: &Claim, seconds: u64) {
        if let Some(at) = self.running(claim) {
            self.requests[at].rests_until = self.now + seconds;
        }
    }

    pub(super) fn end(&mut self, at: usize, end: End) {
        let request = &mut self.requests[at];
        assert_ne!(request.state, State::Done, "the model ends a request once");
        (request.state, request.end, request.ended_at) = (State::Done, Some(end), self.now);
        request.saved = None;
        self.outbox.is_due(request.id, self.now);
    }

    pub(super) fn cancel(&mut self, id: RequestId, kind: FailureKind) -> CancelAnswer {
        let Some(at) = self.requests.iter().position(|request| request.id == id) else {
            return CancelAnswer::Unknown;
        };
        let request = &mut self.requests[at];
        match request.state {
            State::Done => CancelAnswer::AlreadyDone,
            _ if kind == FailureKind::ClientGone && !request.is_direct() => CancelAnswer::AlreadyDone,
            State::Running => {
                request.is_cancelled = true;
                CancelAnswer::Requested
            }
            State::Waiting => {
                self.end(at, End::Failed(kind));
                CancelAnswer::Removed
            }
        }
    }

    pub(super) fn reclaim(&mut self, lost: Lost<'_>) -> Reclaimed {
        let is_lost = |request: &Request| match lost {
            Lost::Died(worker) | Lost::Stopped(worker) => request.worker == worker,
            Lost::Expired => request.lease_end < self.now,
            Lost::Everything => true,
        };
        let lost_ones: Vec<_> = (0..self.requests.len())
            .filter(|at| self.requests[*at].state == State::Running && is_lost(&self.requests[*at]))
            .collect();
        let mut done = Reclaimed::default();
        for at in lost_ones {
            let request = &mut self.requests[at];
            let is_fault = !matches!(lost, Lost::Stopped(_));
            let killed = is_fault && request.is_charged;
            let [progress, before] = request.progress;
            if killed && progress > before {
                request.deaths = 0;
            }
            request.deaths += i64::from(killed);
            if killed {
                request.progress[1] = progress;
            }
            let end = if request.is_cancelled {
                Some(FailureKind::Cancelled)
            } else if (killed && request.deaths >= MAX_DEATHS) || (is_fault && request.new.options.no_retry) {
                Some(FailureKind::WorkerLost)
            } else {
                (lost == Lost::Everything && request.is_direct()).then_some(FailureKind::ClientGone)
            };
            if !is_fault {
                request.start_before = None;
            }
            match end {
                Some(kind) => self.end(at, End::Failed(kind)),
                None => request.state = State::Waiting,
            }
            done.waiting += u64::from(end.is_none());
            done.ended += u64::from(end.is_some());
        }
        if lost == Lost::Everything {
            done.ended += self.end_waiting(Request::is_direct, FailureKind::ClientGone);
        }
        done
    }

    pub(super) fn expire_late(&mut self) -> u64 {
        let now = self.now;
        let is_late = |request: &Request| request.start_before.is_some_and(|before| before <= now);
        self.end_waiting(is_late, FailureKind::StartTimeout)
    }

    fn end_waiting(&mut self, which: impl Fn(&Request) -> bool, kind: FailureKind) -> u64 {
        let which = |request: &Request| request.state == State::Waiting && which(request);
        let ended: Vec<_> = (0..self.requests.len()).filter(|at| which(&self.requests[*at])).collect();
        for at in &ended {
            self.end(*at, End::Failed(kind));
        }
        ended.len() as u64
    }

    pub(super) fn erase(&mut self, id: RequestId) -> Erasure {
        let Some(request) = self.requests.iter_mut().find(|request| request.id == id) else {
            return Erasure::Unknown;
        };
        if request.state != State::Done {
            return Erasure::NotOver;
        }
        if let Some(End::Output(_)) = request.end {
            request.end = Some(End::Erased);
        }
        request.new.idempotency = None;
        Erasure::Done { files: std::mem::take(&mut request.files) }
    }

    /// Removes what ended that long ago, and all but so many of those that ended.
    pub(super) fn prune(&mut self, age: Option<u64>, most: Option<u64>) -> u64 {
        let mut ends: Vec<_> = self.with_state(State::Done).map(|request| request.ended_at).collect();
        ends.sort_unstable_by(|a, b| b.cmp(a));
        let too_many = most.and_then(|most| ends.get(most as usize).copied());
        let too_old = age.and_then(|age| self.now.checked_sub(age));
        let Some(until) = too_many.max(too_old) else { return 0 };
        let before = self.requests.len();
        let outbox = &mut self.outbox;
        self.requests.retain(|request| {
            let goes = request.state == State::Done && request.ended_at <= until;
            !(goes && outbox.forget(request.id))
        });
        (before - self.requests.len()) as u64
    }
}
