//! The two framings of a message: msgpack in binary frames, JSON in text frames.

use crate::http::error::ApiError;
use crate::http::socket::{Frame, MAX_BYTES};
use axum::extract::ws::Message;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::ser::Serialize;
use serde_json::{Map, Number, Value};
use std::fmt;

/// Lists and maps within each other; serde_json has the same limit.
const MAX_DEPTH: usize = 128;

/// How a message came and its answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Json,
    Msgpack,
}

/// Reads an input.
pub(super) fn read(frame: &Frame) -> Result<(Framing, Value), ApiError> {
    let not = |what: &str, error: &dyn fmt::Display| {
        ApiError::BadRequest(format!("the message is not {what}: {error}"))
    };
    match frame {
        Frame::TooLarge => Err(ApiError::BodyTooLarge(MAX_BYTES)),
        Frame::Text(text) => {
            let value = serde_json::from_str(text).map_err(|error| not("JSON", &error))?;
            Ok((Framing::Json, value))
        }
        Frame::Binary(bytes) => {
            let mut reader = rmp_serde::Deserializer::new(&bytes[..]);
            reader.set_max_depth(MAX_DEPTH);
            let Loose(value) = Loose::deserialize(&mut reader).map_err(|error| not("msgpack", &error))?;
            match reader.get_ref().len() {
                0 => Ok((Framing::Msgpack, value)),
                left => Err(not("msgpack", &format!("{left} bytes follow its end"))),
            }
        }
    }
}

/// Writes a result.
pub(super) fn write(framing: Framing, body: &impl Serialize) -> Result<Message, ApiError> {
    let failed =
        |error: &dyn fmt::Display| ApiError::Internal(format!("a result cannot be written: {error}"));
    match framing {
        Framing::Json => serde_json::to_string(body).map(Message::from).map_err(|error| failed(&error)),
        Framing::Msgpack => rmp_serde::to_vec_named(body).map(Message::from).map_err(|error| failed(&error)),
    }
}

/// A msgpack value as JSON. Bytes become a data URI, which is what images are sent as otherwise; extensions,
/// such as dates, become nothing.
struct Loose(Value);

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LooseVisitor).map(Self)
    }
}

struct LooseVisitor;

impl<'de> Visitor<'de> for LooseVisitor {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a msgpack value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_bytes<E: Error>(self, value: &[u8]) -> Result<Value, E> {
        Ok(format!("data:application/octet-stream;base64,{}", STANDARD.encode(value)).into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Loose(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((Loose(key), Loose(value))) = entries.next_entry()? {
            let Value::String(key) = key else { return Err(A::Error::custom("a key that is no string")) };
            map.insert(key, value);
        }
        Ok(map.into())
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Loose::deserialize(deserializer)?;
        Ok(Value::Null)
    }
}
