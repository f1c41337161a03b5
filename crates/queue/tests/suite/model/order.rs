//! The model of the order: whose turn it is, what a claim takes, and how many requests are ahead of one.

use super::reference::{End, Model, Request, State};
use latentd_queue::queue::{Claim, NewRequest, Phase, Status};

impl Model {
    /// A key's requests have consecutive turns, but none before the turn that the queue is at.
    pub(super) fn next_turn(&mut self, new: &NewRequest) -> i64 {
        let of_priority = |request: &&Request| request.new.priority == new.priority;
        let started = self.requests.iter().filter(of_priority).filter(|request| request.attempt > 0);
        let started = started.map(|request| request.turn).max();
        let waiting = self.with_state(State::Waiting).filter(of_priority).map(|request| request.turn).min();
        let of_priority = self.next_turns.iter().filter(|((of, _), _)| *of == new.priority as i64);
        let idle = of_priority.map(|(_, next)| *next).max().unwrap_or(0);
        let current = started.unwrap_or(0).max(waiting.unwrap_or(idle));
        let key = (new.priority as i64, new.api_key.clone().unwrap_or_default());
        let next = self.next_turns.entry(key).or_insert(0);
        let turn = current.max(*next);
        *next = turn + 1;
        turn
    }

    /// The request that a claim for these models takes.
    pub(super) fn next(&self, models: &[String]) -> Option<&Request> {
        let may_start = |request: &&Request| {
            let running =
                self.with_state(State::Running).filter(|other| other.new.api_key == request.new.api_key);
            request.new.model.as_ref().is_none_or(|model| models.contains(model))
                && request.start_before.is_none_or(|before| before > self.now)
                && request.rests_until <= self.now
                && request.limit().is_none_or(|limit| running.count() < limit as usize)
        };
        let waiting = self.with_state(State::Waiting).filter(may_start);
        waiting.min_by_key(|request| (request.new.priority as i64, request.turn)) // the first of equal ones
    }

    pub(super) fn must_give_way(&self, claim: &Claim, models: &[String]) -> bool {
        let priority = |request: &Request| request.new.priority as i64;
        let own = self.request(claim.id).map(priority);
        self.next(models).is_some_and(|next| own.is_some_and(|own| priority(next) < own))
    }

    /// What a client must be told of a request.
    pub(super) fn phase(&self, request: &Request) -> Phase {
        match (request.state, &request.end) {
            (State::Waiting, _) => {
                let place = |of: &Request| (of.new.priority as i64, of.turn);
                let waiting = self.with_state(State::Waiting);
                let mut order: Vec<_> = waiting.map(|request| (place(request), request.id)).collect();
                order.sort_by_key(|(place, _)| *place); // stable: equal ones in the order of acceptance
                let ahead = order.iter().take_while(|(_, id)| *id != request.id).count();
                Phase::Waiting { ahead: ahead as u64 }
            }
            (State::Running, _) => Phase::Running,
            (State::Done, Some(End::Failed(kind))) => Phase::Done { failure: Some((*kind, String::new())) },
            (State::Done, _) => Phase::Done { failure: None },
        }
    }
}

/// The phase without the text of a failure.
pub(super) fn phase_of(status: Status) -> Phase {
    match status.phase {
        Phase::Done { failure: Some((kind, _)) } => Phase::Done { failure: Some((kind, String::new())) },
        phase => phase,
    }
}
