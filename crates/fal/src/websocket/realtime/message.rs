//! The two framings of a message: msgpack in binary frames, JSON in text frames.

use crate::input::body::Input;
use crate::input::value;
use crate::output::error::ApiError;
use crate::server::memory::ConnectionMemory;
use crate::websocket::socket::Frame;
use serde::ser::Serialize;
use std::fmt;
use tungstenite::Message;

/// How a message came and its answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Json,
    Msgpack,
}

/// Reads an input.
pub(crate) async fn read(memory: &ConnectionMemory, frame: Frame) -> Result<(Framing, Input), ApiError> {
    let not = |what: &str, error: &dyn fmt::Display| {
        ApiError::BadRequest(format!("the message is not {what}: {error}"))
    };
    match frame {
        Frame::Refused(error) => Err(error),
        Frame::Text(text, mut reservation) => {
            memory.handle(&mut reservation, text.len()).await;
            let value = value::from_json(text.as_bytes()).map_err(|error| not("JSON", &error))?;
            Ok((Framing::Json, Input { value, memory: reservation }))
        }
        Frame::Binary(bytes, mut reservation) => {
            memory.handle(&mut reservation, bytes.len()).await;
            let value = value::from_msgpack(&bytes).map_err(|error| not("msgpack", &error))?;
            Ok((Framing::Msgpack, Input { value, memory: reservation }))
        }
    }
}

/// Writes a result.
pub(crate) fn write(framing: Framing, body: &impl Serialize) -> Result<Message, ApiError> {
    let failed =
        |error: &dyn fmt::Display| ApiError::Internal(format!("a result cannot be written: {error}"));
    match framing {
        Framing::Json => serde_json::to_string(body).map(Message::from).map_err(|error| failed(&error)),
        Framing::Msgpack => rmp_serde::to_vec_named(body).map(Message::from).map_err(|error| failed(&error)),
    }
}
