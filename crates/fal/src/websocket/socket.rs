//! A web socket as calls see it: what arrives while work is done waits in order, silence is filled with pings,
//! and work ends when its client goes.

mod handshake;
mod link;

use crate::output::error::ApiError;
use crate::server::connections::ConnectionPermit;
use crate::server::memory::{ConnectionMemory, Reservation};
use crate::state::Api;
use axum::body::Bytes;
use axum::http::request::Parts;
use axum::response::Response;
use hyper::upgrade::OnUpgrade;
use link::{Link, reached};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, Utf8Bytes};

/// Bytes that wait on one connection: one of the largest messages.
const MAX_WAITING_BYTES: usize = 16 * 1024 * 1024;

/// Messages that wait on one connection.
pub(crate) const MAX_WAITING: usize = 60;

/// A connection on which nothing is asked for so long is closed.
const IDLE: Duration = Duration::from_secs(300);

/// How long the client has to answer a close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A message of the client, and the memory that it holds.
#[derive(Debug)]
pub(crate) enum Frame {
    Text(Utf8Bytes, Reservation),
    Binary(Bytes, Reservation),
    /// Thrown away, and why.
    Refused(ApiError),
}

impl Frame {
    fn len(&self) -> usize {
        match self {
            Self::Text(text, _) => text.len(),
            Self::Binary(bytes, _) => bytes.len(),
            Self::Refused(_) => 0,
        }
    }

    /// The same, to wait behind the work of its connection: refused where too much waits on all of them.
    fn queued(mut self, memory: &ConnectionMemory) -> Self {
        let len = self.len();
        let counted = match &mut self {
            Self::Text(_, reservation) | Self::Binary(_, reservation) => memory.queue(reservation, len),
            Self::Refused(_) => Ok(()),
        };
        counted.map_or_else(Self::Refused, |()| self)
    }
}

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The client is gone.
    Gone,
    /// Nothing was asked for a while.
    Idle,
    /// The right to be here ended.
    Expired,
    /// There was none.
    Refused,
    /// The server stops; what was asked for before is done.
    Stopping,
    /// The server stops, and work for the client with it.
    CutOff,
    /// A message holds memory that others wait for, and does not come.
    Slow,
    /// The client violates the protocol; with the close code.
    Broken(CloseCode),
}

/// What arrived and was not looked at yet.
pub(crate) struct Waiting {
    frames: VecDeque<Frame>,
    bytes: usize,
    most: usize,
    drops: bool,
}

impl Waiting {
    /// Keeps the newest: older ones are dropped for them.
    pub(crate) fn newest(most: usize) -> Self {
        Self { frames: VecDeque::new(), bytes: 0, most, drops: true }
    }

    /// Keeps all: while it is full nothing more is read.
    pub(crate) fn all() -> Self {
        Self { frames: VecDeque::new(), bytes: 0, most: MAX_WAITING, drops: false }
    }

    fn has_room(&self) -> bool {
        self.drops || (self.frames.len() < self.most && self.bytes < MAX_WAITING_BYTES)
    }

    fn push(&mut self, frame: Frame) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
        let too_many = |it: &Self| it.frames.len() > it.most || it.bytes > MAX_WAITING_BYTES;
        while self.drops && self.frames.len() > 1 && too_many(self) {
            self.pop();
        }
    }

    fn pop(&mut self) -> Option<Frame> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.len();
        Some(frame)
    }
}

/// How a web socket is served.
pub(crate) struct SocketOptions {
    /// How long the right to be here lasts.
    pub(crate) lasts: Option<Duration>,
    pub(crate) waiting: Waiting,
    /// Bytes of the largest message that is taken.
    pub(crate) max_bytes: usize,
}

/// Turns a call into a web socket, which is served until `serve` is done with it.
pub(crate) async fn accept<F: Future<Output = ()> + Send + 'static>(
    api: &Api,
    mut parts: Parts,
    options: SocketOptions,
    serve: impl FnOnce(Wire) -> F + Send + 'static,
) -> Result<Response, ApiError> {
    let key = handshake::answer(&parts.headers)?;
    let upgrade = parts.extensions.remove::<OnUpgrade>();
    let upgrade =
        upgrade.ok_or_else(|| ApiError::BadRequest("this connection cannot become a web socket".into()))?;
    let permit = parts.extensions.get::<ConnectionPermit>().cloned();
    let permit = permit.ok_or_else(|| ApiError::Internal("a web socket without a connection".into()))?;
    let (closing, memory) = (api.closing.clone(), api.memory.clone());
    let call = permit.begin_call();
    tokio::spawn(async move {
        let _call = call;
        let Ok(upgraded) = upgrade.await else { return };
        let until = options.lasts.map(|time| Instant::now() + time);
        let link = Link::new(upgraded, memory, options.max_bytes).await;
        serve(Wire { link, permit, closing, until, waiting: options.waiting }).await;
    });
    Ok(handshake::response(key))
}

/// A connection, with what waits on it.
pub(crate) struct Wire {
    link: Link,
    permit: ConnectionPermit,
    closing: watch::Receiver<bool>,
    until: Option<Instant>,
    waiting: Waiting,
}

impl Wire {
    /// The next message of the client.
    pub(crate) async fn next(&mut self) -> Result<Frame, End> {
        if *self.closing.borrow() {
            return Err(if self.waiting.frames.is_empty() { End::Stopping } else { End::CutOff });
        }
        if let Some(frame) = self.waiting.pop() {
            return Ok(frame);
        }
        tokio::select! {
            biased;
            frame = self.link.receive() => frame,
            _ = self.closing.wait_for(|closing| *closing) => Err(End::Stopping),
            () = self.permit.draining() => Err(End::Stopping),
            () = reached(self.until) => Err(End::Expired),
            () = tokio::time::sleep(IDLE) => Err(End::Idle),
        }
    }

    /// Does work for the client, which is dropped when the client goes.
    pub(crate) async fn during<T>(&mut self, work: impl Future<Output = T>) -> Result<T, End> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                frame = self.link.receive(), if self.waiting.has_room() => self.waiting.push(frame?.queued(self.link.memory())),
                () = self.permit.draining() => return Err(End::CutOff),
            }
        }
    }

    /// Sends a text.
    pub(crate) async fn send_text(&mut self, text: impl Into<Utf8Bytes>) -> Result<(), End> {
        self.send(Message::Text(text.into())).await
    }

    /// Sends a message.
    pub(crate) async fn send(&mut self, message: Message) -> Result<(), End> {
        self.link.send(message).await
    }

    /// Closes the connection: with 1000, which clients do not report, unless something is wrong.
    pub(crate) async fn close(mut self, end: End) {
        let close = match end {
            End::Gone => None,
            End::Idle => Some((CloseCode::Normal, "idle")),
            End::Expired => Some((CloseCode::Normal, "the token ended")),
            End::Refused => Some((CloseCode::Policy, "Unauthorized")),
            End::Stopping => Some((CloseCode::Normal, "the server is stopping")),
            End::CutOff => Some((CloseCode::Away, "the server is stopping")),
            End::Slow => Some((CloseCode::Policy, "the message came too slowly")),
            End::Broken(code) => Some((code, "the message cannot be read")),
        };
        if let Some((code, reason)) = close {
            let frame = CloseFrame { code, reason: reason.into() };
            // Whether it arrives or not, this is the end.
            let _ = self.send(Message::Close(Some(frame))).await;
        }
        // Reading on is what answers the client's close frame.
        let silence = async { while self.link.receive().await.is_ok() {} };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, silence).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(len: usize) -> Frame {
        Frame::Binary(vec![0; len].into(), Reservation::default())
    }

    fn kept(waiting: &mut Waiting) -> Vec<usize> {
        std::iter::from_fn(|| waiting.pop()).map(|frame| frame.len()).collect()
    }

    #[test]
    fn the_newest_wait_and_the_oldest_are_dropped() {
        let mut waiting = Waiting::newest(2);
        for len in 1..=4 {
            waiting.push(binary(len));
            assert!(waiting.has_room());
        }
        assert_eq!(kept(&mut waiting), [3, 4]);
        let mut waiting = Waiting::newest(60);
        let most = MAX_WAITING_BYTES - 1;
        for len in [most, most, 1] {
            waiting.push(binary(len));
        }
        assert_eq!(kept(&mut waiting), [most, 1]);
    }

    #[test]
    fn where_all_wait_there_is_an_end_of_room() {
        let mut waiting = Waiting::all();
        for _ in 0..MAX_WAITING {
            assert!(waiting.has_room());
            waiting.push(Frame::Refused(ApiError::Busy));
        }
        assert!(!waiting.has_room());
        assert_eq!(kept(&mut waiting).len(), MAX_WAITING);
        assert!(waiting.has_room());
    }
}
