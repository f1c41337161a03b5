//! The memory that all connections together may hold: bodies of calls and messages of web sockets as they come, and
//! large results as they go.
//!
//! Bytes are reserved before they are read from a connection, so that what does not fit waits in the client's own
//! system. Large inputs never hold up small ones: each have a part of their own.

use crate::output::error::ApiError;
use crate::server::guarded_body::GuardedBody;
use axum::body::{Body, HttpBody};
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

    /// Memory for a large answer until its client has read it, if there is some.
    pub(crate) fn try_answer(&self, bytes: usize) -> Option<AnswerMemory> {
        let permit = self.answers.clone().try_acquire_many_owned(units(bytes.min(ANSWERS)));
        permit.ok().map(AnswerMemory)
    }

    /// The same, waiting for it: whoever calls this holds no answer meanwhile.
    pub(crate) async fn answer(&self, bytes: usize) -> Result<AnswerMemory, ApiError> {
        let permit = self.answers.clone().acquire_many_owned(units(bytes.min(ANSWERS)));
        let permit = tokio::time::timeout(PATIENCE, permit).await;
        permit.ok().and_then(Result::ok).map(AnswerMemory).ok_or(ApiError::Busy)
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

/// Memory that a large answer takes.
pub(crate) struct AnswerMemory(OwnedSemaphorePermit);

impl AnswerMemory {
    /// Keeps it until the answer was sent.
    pub(crate) fn hold(self, response: Response) -> Response {
        response.map(|body| Body::new(GuardedBody { body, _guard: self.0 }))
    }
}

/// Bytes of an answer that is large.
pub(crate) fn large(response: &Response) -> Option<usize> {
    let size = response.body().size_hint().exact().and_then(|size| usize::try_from(size).ok());
    size.filter(|size| *size > SMALL)
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
        let response = Response::new(Body::from(vec![0; SMALL + 1]));
        assert_eq!(large(&response), Some(SMALL + 1));
        assert_eq!(large(&Response::new(Body::from(vec![0; SMALL]))), None);
        let reservation = memory.try_answer(ANSWERS).expect("room").hold(response);
        assert!(memory.try_answer(SMALL + 1).is_none());
        let mut second = std::pin::pin!(memory.answer(SMALL + 1));
        assert!(second.as_mut().now_or_never().is_none());
        drop(reservation);
        assert!(second.await.is_ok());
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
