//! A web socket as calls see it: what arrives while work is done waits in order, silence is filled with pings,
//! and work ends when its client goes.

use super::Api;
use super::error::ApiError;
use super::listener::Seat;
use axum::body::Bytes;
use axum::extract::FromRequestParts;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::http::request::Parts;
use axum::http::{Method, header};
use axum::response::Response;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tungstenite::error::Error as Broken;

/// Largest message that is taken.
pub(super) const MAX_BYTES: usize = 16 * 1024 * 1024;

/// A larger one is read to its end and refused, up to this size; beyond, the connection ends.
const MAX_READ: usize = 2 * MAX_BYTES;

/// Bytes that wait on one connection.
const MAX_WAITING_BYTES: usize = 2 * MAX_BYTES;

/// Messages that wait on one connection.
pub(super) const MAX_WAITING: usize = 60;

/// A connection on which nothing is asked for so long is closed.
const IDLE: Duration = Duration::from_secs(300);

/// Between two pings: shorter than what proxies take for silence.
const PING: Duration = Duration::from_secs(20);

/// Pings without any answer after which nobody is there.
const MAX_UNANSWERED: u32 = 3;

/// A message has this long to be taken by its client.
const PATIENCE: Duration = Duration::from_secs(120);

/// The other side has this long to say goodbye.
const FAREWELL: Duration = Duration::from_secs(2);

/// A message of the client.
#[derive(Debug)]
pub(super) enum Frame {
    Text(Utf8Bytes),
    Binary(Bytes),
    /// Thrown away.
    TooLarge,
}

impl Frame {
    fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
            Self::TooLarge => 0,
        }
    }
}

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Nobody is there.
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
    /// The client does not keep to the protocol; with the code that says how.
    Broken(u16),
}

/// What arrived and was not looked at yet.
pub(super) struct Waiting {
    frames: VecDeque<Frame>,
    bytes: usize,
    most: usize,
    drops: bool,
}

impl Waiting {
    /// Keeps the newest: older ones are dropped for them.
    pub(super) fn newest(most: usize) -> Self {
        Self { frames: VecDeque::new(), bytes: 0, most, drops: true }
    }

    /// Keeps all: while it is full nothing more is read.
    pub(super) fn all() -> Self {
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

/// `true` when the call is the handshake of a web socket.
pub(super) fn is_asked(parts: &Parts) -> bool {
    let upgrade = parts.headers.get(header::UPGRADE).map(|value| value.as_bytes());
    parts.method == Method::GET && upgrade.is_some_and(|name| name.eq_ignore_ascii_case(b"websocket"))
}

/// Turns a call into a web socket, which is served until `serve` is done with it, at most for `lasts`.
pub(super) async fn accept<F: Future<Output = ()> + Send + 'static>(
    api: &Api,
    mut parts: Parts,
    lasts: Option<Duration>,
    waiting: Waiting,
    serve: impl FnOnce(Wire) -> F + Send + 'static,
) -> Result<Response, ApiError> {
    let seat = parts.extensions.get::<Seat>().cloned();
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
    let upgrade = upgrade.map_err(|error| ApiError::BadRequest(error.body_text()))?;
    let seat = seat.ok_or_else(|| ApiError::Internal("a web socket without a connection".into()))?;
    let closing = api.closing.clone();
    let until = lasts.map(|time| Instant::now() + time);
    let upgrade = upgrade.max_message_size(MAX_READ).max_frame_size(MAX_READ);
    Ok(upgrade.on_upgrade(move |socket| {
        let mut pings = tokio::time::interval_at(Instant::now() + PING, PING);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        serve(Wire { link: Link { socket, pings, unanswered: 0 }, seat, closing, until, waiting })
    }))
}

/// A connection, with what waits on it.
pub(super) struct Wire {
    link: Link,
    seat: Seat,
    closing: watch::Receiver<bool>,
    until: Option<Instant>,
    waiting: Waiting,
}

impl Wire {
    /// The next message of the client.
    pub(super) async fn next(&mut self) -> Result<Frame, End> {
        if *self.closing.borrow() {
            return Err(if self.waiting.frames.is_empty() { End::Stopping } else { End::CutOff });
        }
        if let Some(frame) = self.waiting.pop() {
            return Ok(frame);
        }
        tokio::select! {
            biased;
            frame = self.link.hear() => frame,
            _ = self.closing.wait_for(|closing| *closing) => Err(End::Stopping),
            () = self.seat.last_call() => Err(End::Stopping),
            () = reached(self.until) => Err(End::Expired),
            () = tokio::time::sleep(IDLE) => Err(End::Idle),
        }
    }

    /// Does work for the client, which is dropped when the client goes.
    pub(super) async fn during<T>(&mut self, work: impl Future<Output = T>) -> Result<T, End> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                frame = self.link.hear(), if self.waiting.has_room() => self.waiting.push(frame?),
                () = self.seat.last_call() => return Err(End::CutOff),
            }
        }
    }

    /// Sends a text.
    pub(super) async fn say(&mut self, text: impl Into<Utf8Bytes>) -> Result<(), End> {
        self.send(Message::Text(text.into())).await
    }

    /// Sends a message.
    pub(super) async fn send(&mut self, message: Message) -> Result<(), End> {
        self.link.send(message).await
    }

    /// Closes the connection: with 1000, which clients do not report, unless something is wrong.
    pub(super) async fn close(mut self, end: End) {
        let farewell = match end {
            End::Gone => None,
            End::Idle => Some((close_code::NORMAL, "idle")),
            End::Expired => Some((close_code::NORMAL, "the token ended")),
            End::Refused => Some((close_code::POLICY, "Unauthorized")),
            End::Stopping => Some((close_code::NORMAL, "the server is stopping")),
            End::CutOff => Some((close_code::AWAY, "the server is stopping")),
            End::Broken(code) => Some((code, "the message cannot be read")),
        };
        if let Some((code, reason)) = farewell {
            let frame = CloseFrame { code, reason: reason.into() };
            // Whether it arrives or not, this is the end.
            let _ = self.send(Message::Close(Some(frame))).await;
        }
        // Reading on is what answers the other side's goodbye.
        let silence = async { while let Some(Ok(_)) = self.link.socket.recv().await {} };
        let _ = tokio::time::timeout(FAREWELL, silence).await;
    }
}

async fn reached(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The socket, kept alive.
struct Link {
    socket: WebSocket,
    pings: Interval,
    unanswered: u32,
}

impl Link {
    /// Waits for a message; may be dropped and called again.
    async fn hear(&mut self) -> Result<Frame, End> {
        loop {
            tokio::select! {
                message = self.socket.recv() => {
                    let message = message.ok_or(End::Gone)?.map_err(|error| ending(error.into_inner()))?;
                    self.unanswered = 0;
                    match message {
                        Message::Text(text) if text.len() <= MAX_BYTES => return Ok(Frame::Text(text)),
                        Message::Binary(bytes) if bytes.len() <= MAX_BYTES => return Ok(Frame::Binary(bytes)),
                        Message::Text(_) | Message::Binary(_) => return Ok(Frame::TooLarge),
                        Message::Close(_) => return Err(End::Gone),
                        Message::Ping(_) | Message::Pong(_) => {}
                    }
                }
                _ = self.pings.tick() => {
                    if self.unanswered >= MAX_UNANSWERED {
                        return Err(End::Gone);
                    }
                    self.unanswered += 1;
                    self.send(Message::Ping(Bytes::new())).await?;
                }
            }
        }
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        match tokio::time::timeout(PATIENCE, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Gone),
        }
    }
}

fn ending(error: axum::BoxError) -> End {
    match error.downcast_ref::<Broken>() {
        Some(Broken::Capacity(_)) => End::Broken(close_code::SIZE),
        Some(Broken::Utf8(_)) => End::Broken(close_code::INVALID),
        // An end without a goodbye, which is the usual one when a program ends.
        Some(Broken::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)) => End::Gone,
        Some(Broken::Protocol(_)) => End::Broken(close_code::PROTOCOL),
        _ => End::Gone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(waiting: &mut Waiting) -> Vec<usize> {
        std::iter::from_fn(|| waiting.pop()).map(|frame| frame.len()).collect()
    }

    #[test]
    fn the_newest_wait_and_the_oldest_are_dropped() {
        let mut waiting = Waiting::newest(2);
        for len in 1..=4 {
            waiting.push(Frame::Binary(vec![0; len].into()));
            assert!(waiting.has_room());
        }
        assert_eq!(kept(&mut waiting), [3, 4]);
        let mut waiting = Waiting::newest(60);
        for len in [MAX_BYTES, MAX_BYTES, 1] {
            waiting.push(Frame::Binary(vec![0; len].into()));
        }
        assert_eq!(kept(&mut waiting), [MAX_BYTES, 1]);
    }

    #[test]
    fn where_all_wait_there_is_an_end_of_room() {
        let mut waiting = Waiting::all();
        for _ in 0..MAX_WAITING {
            assert!(waiting.has_room());
            waiting.push(Frame::TooLarge);
        }
        assert!(!waiting.has_room());
        assert_eq!(kept(&mut waiting).len(), MAX_WAITING);
        assert!(waiting.has_room());
    }
}
