//! The stream of a web socket: messages that arrive within what memory and time allow, pings that keep it alive, and
//! buffers that do not stay as large as the largest message was.

use super::{End, Frame};
use crate::output::error::ApiError;
use crate::server::memory::{ConnectionMemory, Reservation, SMALL, time_for};
use crate::websocket::frames::{Frames, Gate};
use axum::body::Bytes;
use futures_util::{FutureExt, SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_tungstenite::WebSocketStream;
use tungstenite::Message;
use tungstenite::error::{Error as Broken, ProtocolError};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{Role, WebSocketConfig};

/// A message that is too large by no more than this is read to its end and refused; beyond, the connection ends.
const MAX_EXCESS: usize = 1024 * 1024;

/// Bytes that are read at once.
const READ_BUFFER: usize = 16 * 1024;

/// Between two pings: shorter than what proxies take for silence.
const PING: Duration = Duration::from_secs(20);

/// Unanswered pings after which the client counts as gone.
const MAX_UNANSWERED: u32 = 3;

/// A message has this long to be taken by its client.
const PATIENCE: Duration = Duration::from_secs(120);

/// A message has this long to arrive once there is memory for it.
const ARRIVAL: Duration = Duration::from_secs(60);

type Socket = WebSocketStream<Frames<TokioIo<Upgraded>>>;

/// The socket, kept alive.
pub(crate) struct Link {
    /// Always there, but while it is renewed.
    socket: Option<Socket>,
    gate: Arc<Gate>,
    memory: ConnectionMemory,
    /// Reserved for the message that is coming, and when.
    reservation: Option<(Reservation, Instant)>,
    max_bytes: usize,
    pings: Interval,
    unanswered: u32,
}

impl Link {
    pub(crate) async fn new(upgraded: Upgraded, memory: ConnectionMemory, max_bytes: usize) -> Self {
        let (frames, gate) = Frames::new(TokioIo::new(upgraded), max_bytes + MAX_EXCESS);
        let mut pings = tokio::time::interval_at(Instant::now() + PING, PING);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let socket = Some(over(frames, max_bytes).await);
        Self { socket, gate, memory, reservation: None, max_bytes, pings, unanswered: 0 }
    }

    pub(crate) fn memory(&self) -> &ConnectionMemory {
        &self.memory
    }

    /// Waits for a message; may be dropped and called again.
    pub(crate) async fn receive(&mut self) -> Result<Frame, End> {
        loop {
            let socket = self.socket.as_mut().ok_or(End::Gone)?;
            let deadline = self
                .reservation
                .as_ref()
                .map(|(_, since)| *since + ARRIVAL.min(time_for(self.gate.arrived())));
            let (gate, memory) = (&self.gate, &self.memory);
            let wanted = async { memory.reserve(gate.wanted().await).await };
            tokio::select! {
                message = socket.next() => {
                    let message = message.ok_or(End::Gone)?.map_err(|error| ending(&error))?;
                    self.unanswered = 0;
                    match message {
                        Message::Text(text) => {
                            return Ok(self.arrived(text.len()).await.map_or_else(Frame::Refused, |reservation| Frame::Text(text, reservation)));
                        }
                        Message::Binary(bytes) => {
                            return Ok(self.arrived(bytes.len()).await.map_or_else(Frame::Refused, |reservation| Frame::Binary(bytes, reservation)));
                        }
                        Message::Close(_) => return Err(End::Gone),
                        Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
                    }
                }
                reservation = wanted, if self.reservation.is_none() => {
                    self.gate.grant();
                    self.reservation = Some((reservation, Instant::now()));
                }
                () = reached(deadline) => {
                    let late = |(_, since): &(Reservation, Instant)| since.elapsed() >= ARRIVAL.min(time_for(self.gate.arrived()));
                    if self.reservation.as_ref().is_some_and(late) {
                        return Err(End::Slow);
                    }
                }
                _ = self.pings.tick() => {
                    // Answers lie behind the message that waits for memory.
                    if !self.gate.is_shut() {
                        if self.unanswered >= MAX_UNANSWERED {
                            return Err(End::Gone);
                        }
                        self.unanswered += 1;
                    }
                    self.send(Message::Ping(Bytes::new())).await?;
                }
            }
        }
    }

    /// A message of so many bytes is whole: what it holds. Does not wait.
    async fn arrived(&mut self, bytes: usize) -> Result<Reservation, ApiError> {
        self.gate.finish();
        let reservation = self.reservation.take().map(|(reservation, _)| reservation);
        if reservation.is_some() {
            self.renew().await;
        }
        if bytes > self.max_bytes {
            return Err(ApiError::BodyTooLarge(self.max_bytes));
        }
        let mut reservation = reservation.unwrap_or_default();
        reservation.shrink(bytes);
        Ok(reservation)
    }

    pub(crate) async fn send(&mut self, message: Message) -> Result<(), End> {
        let is_large = message.len() > SMALL;
        let socket = self.socket.as_mut().ok_or(End::Gone)?;
        match tokio::time::timeout(PATIENCE, socket.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Err(End::Gone),
        }
        if is_large && socket.get_ref().is_between_messages() {
            self.renew().await;
        }
        Ok(())
    }

    /// Begins anew on the same stream, between two messages: the buffers of a web socket stay as large as the largest
    /// message that went through them. Does not wait.
    async fn renew(&mut self) {
        if let Some(mut socket) = self.socket.take() {
            let _ = socket.flush().now_or_never();
            self.socket = Some(over(socket.into_inner(), self.max_bytes).await);
        }
    }
}

async fn over(frames: Frames<TokioIo<Upgraded>>, max_bytes: usize) -> Socket {
    let most = Some(max_bytes + MAX_EXCESS);
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(READ_BUFFER)
        .max_message_size(most)
        .max_frame_size(most);
    WebSocketStream::from_raw_socket(frames, Role::Server, Some(config)).await
}

fn ending(error: &Broken) -> End {
    match error {
        Broken::Capacity(_) => End::Broken(CloseCode::Size),
        Broken::Utf8(_) => End::Broken(CloseCode::Invalid),
        // An end without a close frame, as usual when a program ends.
        Broken::Protocol(ProtocolError::ResetWithoutClosingHandshake) => End::Gone,
        Broken::Protocol(_) => End::Broken(CloseCode::Protocol),
        _ => End::Gone,
    }
}

pub(crate) async fn reached(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
