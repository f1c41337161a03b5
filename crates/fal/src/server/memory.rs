//! The memory that all connections together may hold: bodies of calls and messages of web sockets as they come, and
//! large results as they go.
//!
//! Bytes are reserved before they are read from a connection, so that what does not fit waits in the client's own
//! system. Large inputs never hold up small ones: each have a part of their own.

use crate::output::error::ApiError;
use crate::server::guarded_body::GuardedBody;
use axum::body::Body;
use axum::response::Response;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of the largest input that counts as small.
pub(crate) const SMALL: usize = 64 * 1024;

/// Bytes of small inputs that are read at once.
const SMALL_INPUTS: usize = 32 << 20;

/// Bytes of large inputs that are held at once: two of the largest.
const LARGE_INPUTS: usize = 32 << 20;

/// Bytes of messages that wait behind the work of their own connections. Work may take minutes, and what waits for it
/// must not keep all others from sending.
const QUEUED_MESSAGES: usize = 32 << 20;

/// Files that are received at once, each through a buffer of its own.
const UPLOADS: usize = 768;

/// Bytes of large results, with images inside, whose clients are yet to read them.
const ANSWERS: usize = 64 << 20;

/// Large inputs that are parsed and put into the queue at once: each is copied several times on the way.
const HANDLED: usize = 1;

/// Large answers that are made at once: each is copied several times on the way.
const MADE: usize = 2;

/// Bytes that are counted as one.
const UNIT: usize = 1024;

/// An input waits this long for memory.
const PATIENCE: Duration = Duration::from_secs(30);

/// The free memory; clones share it.
#[derive(Debug, Clone)]
pub struct ConnectionMemory {
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
    queued: Arc<Semaphore>,
    handled: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
    answers: Arc<Semaphore>,
    made: Arc<Semaphore>,
}

impl Default for ConnectionMemory {
    fn default() -> Self {
        let bytes = |bytes: usize| Arc::new(Semaphore::new(bytes / UNIT));
        Self {
            small: bytes(SMALL_INPUTS),
            large: bytes(LARGE_INPUTS),
            queued: bytes(QUEUED_MESSAGES),
            handled: Arc::new(Semaphore::new(HANDLED)),
            uploads: Arc::new(Semaphore::new(UPLOADS)),
            answers: bytes(ANSWERS),
            made: Arc::new(Semaphore::new(MADE)),
        }
    }
}

/// Memory that one input holds until this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Reservation {
    arrived: Option<OwnedSemaphorePermit>,
    queued: Option<OwnedSemaphorePermit>,
    handled: Option<OwnedSemaphorePermit>,
}

impl ConnectionMemory {
    /// Waits until so many bytes may be read.
    pub(crate) async fn reserve(&self, bytes: usize) -> Reservation {
        let (pool, most) =
            if bytes <= SMALL { (&self.small, SMALL_INPUTS) } else { (&self.large, LARGE_INPUTS) };
        let arrived = pool.clone().acquire_many_owned(units(bytes.min(most))).await.ok();
        Reservation { arrived, ..Reservation::default() }
    }

    /// The same for a call, which is refused when that takes too long.
    pub(crate) async fn reserve_for_call(&self, bytes: usize) -> Result<Reservation, ApiError> {
        tokio::time::timeout(PATIENCE, self.reserve(bytes)).await.map_err(|_| ApiError::Busy)
    }

    /// Waits until another file may be received.
    pub(crate) async fn reserve_for_upload(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let permit = tokio::time::timeout(PATIENCE, self.uploads.clone().acquire_owned()).await;
        permit.ok().and_then(Result::ok).ok_or(ApiError::Busy)
    }

    /// Memory for an answer of so many bytes, before it is read from the queue, until its client has read it. Refused when
    /// that takes too long.
    pub(crate) async fn answer(&self, bytes: u64) -> Result<AnswerMemory, ApiError> {
        tokio::time::timeout(PATIENCE, self.late_answer(bytes)).await.map_err(|_| ApiError::Busy)
    }

    /// The same for an answer whose head was sent: it waits as long as that takes.
    pub(crate) async fn late_answer(&self, bytes: u64) -> AnswerMemory {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        if bytes <= SMALL {
            return AnswerMemory::default();
        }
        let answers = self.answers.clone().acquire_many_owned(units(bytes.min(ANSWERS)));
        AnswerMemory { answer: answers.await.ok(), made: self.made.clone().acquire_owned().await.ok() }
    }

    /// Counts a message as one that waits behind work; refuses it where too much does.
    pub(crate) fn queue(&self, reservation: &mut Reservation, bytes: usize) -> Result<(), ApiError> {
        let permit = self.queued.clone().try_acquire_many_owned(units(bytes)).map_err(|_| ApiError::Busy)?;
        reservation.queued = Some(permit);
        Ok(())
    }

    /// Waits until an input of this size may be parsed, which multiplies what it takes. Nothing that is waited for
    /// here waits for a client.
    pub(crate) async fn handle(&self, reservation: &mut Reservation, bytes: usize) {
        reservation.queued = None;
        if bytes > SMALL {
            reservation.handled = self.handled.clone().acquire_owned().await.ok();
        }
    }
}

impl Reservation {
    /// Releases what was reserved beyond so many bytes.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        if let Some(permit) = &mut self.arrived {
            let excess = permit.num_permits().saturating_sub(units(bytes) as usize);
            drop(permit.split(excess));
        }
    }
}

/// Memory that an answer takes; of a small one none is counted.
#[derive(Debug, Default)]
pub(crate) struct AnswerMemory {
    answer: Option<OwnedSemaphorePermit>,
    made: Option<OwnedSemaphorePermit>,
}

impl AnswerMemory {
    /// The answer is there; what it was made from is not any more.
    pub(crate) fn made(mut self) -> Self {
        self.made = None;
        self
    }

    /// Keeps it until a response was sent.
    pub(crate) fn hold(self, response: Response) -> Response {
        match self.made().answer {
            Some(answer) => response.map(|body| Body::new(GuardedBody { body, _guard: answer })),
            None => response,
        }
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

/// How long an input of which so much has arrived may take: it holds memory that others wait for.
pub(crate) fn time_for(arrived: usize) -> Duration {
    /// Bytes a second that its sender must send on average.
    const SLOWEST: usize = 128 * 1024;
    Duration::from_secs(20) + Duration::from_millis((arrived / (SLOWEST / 1000)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test(start_paused = true)]
    async fn large_inputs_wait_for_each_other_and_small_ones_do_not() {
        let memory = ConnectionMemory::default();
        let mut first = memory.reserve(LARGE_INPUTS).await;
        assert!(matches!(memory.reserve_for_call(SMALL + 1).await, Err(ApiError::Busy)));
        assert!(memory.reserve_for_call(SMALL).await.is_ok());
        first.shrink(LARGE_INPUTS - 2 * SMALL);
        assert!(memory.reserve_for_call(SMALL + 1).await.is_ok());
    }

    #[tokio::test]
    async fn large_answers_wait_for_their_readers() {
        let memory = ConnectionMemory::default();
        let response = memory.answer(ANSWERS as u64).await.expect("room").hold(Response::new(Body::empty()));
        let mut second = std::pin::pin!(memory.answer(SMALL as u64 + 1));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(memory.answer(SMALL as u64).now_or_never().is_some());
        drop(response);
        assert!(second.await.is_ok());
    }

    #[tokio::test]
    async fn few_large_answers_are_made_at_once() {
        let memory = ConnectionMemory::default();
        let answer = async || memory.answer(SMALL as u64 + 1).await.expect("room");
        let made: Vec<_> = futures_util::future::join_all((0..MADE).map(|_| answer())).await;
        let mut next = std::pin::pin!(answer());
        assert!(next.as_mut().now_or_never().is_none());
        let made: Vec<_> = made.into_iter().map(AnswerMemory::made).collect();
        next.await;
        drop(made);
    }

    #[tokio::test]
    async fn what_waits_behind_work_is_bounded() {
        let memory = ConnectionMemory::default();
        let mut waiting = Vec::new();
        for _ in 0..QUEUED_MESSAGES / SMALL {
            let mut reservation = Reservation::default();
            memory.queue(&mut reservation, SMALL).expect("room");
            waiting.push(reservation);
        }
        assert!(memory.queue(&mut Reservation::default(), 1).is_err());
        let mut last = waiting.pop().expect("one that waits");
        memory.handle(&mut last, SMALL).await;
        assert!(memory.queue(&mut Reservation::default(), SMALL).is_ok());
    }
}
