//! Reads the body of a call: bounded in size, in time, and in what all bodies together hold in memory.

use crate::input::value;
use crate::output::error::ApiError;
use crate::output::problem::Problem;
use crate::server::memory::{ConnectionMemory, Reservation, SMALL, time_for};
use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A larger body than is taken is read to its end, and thrown away, up to this size.
const MAX_DISCARDED: usize = 128 << 20;

/// A body has this long to arrive.
const PATIENCE: Duration = Duration::from_secs(60);

/// An input as it was sent.
pub(crate) enum Sent {
    /// A body that is yet to arrive.
    Stream(Body),
    /// A message that is here, and the memory that it holds.
    Whole(Bytes, Reservation),
}

/// An input, and the memory that it holds. It is held until the queue has the request.
pub(crate) struct Input {
    pub(crate) value: Value,
    pub(crate) memory: Reservation,
}

/// Refuses compressed bodies, whose size could not be bounded.
pub(crate) fn check_encoding(headers: &HeaderMap) -> Result<(), ApiError> {
    let encoding = headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes());
    match encoding.is_none_or(|encoding| encoding.eq_ignore_ascii_case(b"identity")) {
        true => Ok(()),
        false => Err(ApiError::Encoded),
    }
}

/// Reads an input of any content type as JSON; an empty one is `{}`.
pub(crate) async fn json(memory: &ConnectionMemory, sent: Sent, max: usize) -> Result<Input, ApiError> {
    let (bytes, mut reservation) = match sent {
        Sent::Stream(body) => read(memory, body, max).await?,
        Sent::Whole(bytes, reservation) => (bytes, reservation),
    };
    memory.handle(&mut reservation, bytes.len()).await;
    if value::without_mark(&bytes).trim_ascii().is_empty() {
        return Ok(Input { value: Value::Object(Map::new()), memory: reservation });
    }
    let value = value::from_json(&bytes).map_err(|error| {
        let problem = Problem::at(&[], "json_invalid", "JSON decode error", &Value::Null);
        ApiError::Invalid(vec![problem.with("error", error.to_string())])
    })?;
    Ok(Input { value, memory: reservation })
}

/// Reads a JSON body into a type.
pub(crate) async fn typed<T: DeserializeOwned>(
    memory: &ConnectionMemory,
    body: Body,
    max: usize,
    expected: &str,
) -> Result<T, ApiError> {
    let (bytes, mut reservation) = read(memory, body, max).await?;
    memory.handle(&mut reservation, bytes.len()).await;
    serde_json::from_slice(value::without_mark(&bytes))
        .map_err(|error| ApiError::BadRequest(format!("the body must be {expected}: {error}")))
}

/// Reads to the end. What is too much is thrown away, but read up to a limit all the same: a client that is still
/// sending would see a broken connection and not the answer.
pub(crate) async fn read(
    memory: &ConnectionMemory,
    mut body: Body,
    max: usize,
) -> Result<(Bytes, Reservation), ApiError> {
    let size = body.size_hint();
    let announced = size.exact().map(|size| usize::try_from(size).unwrap_or(usize::MAX));
    let reserved = match announced {
        Some(size) if size > max => 0,
        Some(size) => size,
        None => SMALL.min(max),
    };
    let mut reservation = memory.reserve_for_call(reserved).await?;
    let (mut bytes, mut seen) = (Vec::with_capacity(reserved), 0);
    let begun = Instant::now();
    loop {
        let patience = if seen > max { PATIENCE } else { PATIENCE.min(time_for(seen)) };
        let Ok(frame) = timeout_at(begun + patience, body.frame()).await else {
            return Err(ApiError::BodyTooSlow);
        };
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|_| ApiError::BadRequest("the body ended before its time".into()))?;
        let data = frame.data_ref().map_or(&[][..], |data| data);
        seen += data.len();
        if seen > MAX_DISCARDED {
            break;
        } else if seen > max {
            (bytes, reservation) = (Vec::new(), Reservation::default());
        } else {
            if seen > bytes.capacity() {
                // It did not say how much it is.
                reservation = memory.reserve_for_call(max).await?;
                bytes.reserve_exact(max - bytes.len());
            }
            bytes.extend_from_slice(data);
        }
    }
    if seen > max { Err(ApiError::BodyTooLarge(max)) } else { Ok((bytes.into(), reservation)) }
}
