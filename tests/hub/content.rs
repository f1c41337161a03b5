//! A file's bytes on their way, and what can go wrong with them.

use super::repository::File;
use super::{Hub, refusal};
use axum::body::Body;
use axum::http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, ETAG, RANGE, RETRY_AFTER};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes sent at a time.
const PIECE: usize = 64 * 1024;

/// What to do with the next request for a file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Act {
    /// Send so many bytes, and then nothing for as long as the client waits.
    Stall(usize),
    /// Send so many bytes and break the connection.
    Break(usize),
    /// Send so many bytes and end as if that were all.
    End(usize),
    /// Send one byte wrong.
    Spoil,
    /// Answer this status, with these seconds to wait.
    Refuse(u16, Option<u64>),
    /// Send the whole file, whatever part was asked for.
    Whole,
}

/// A file's bytes, or part of them, or the scripted misbehaviour.
pub(super) fn content(
    hub: &Arc<Hub>,
    path: &str,
    file: &File,
    method: &Method,
    headers: &HeaderMap,
) -> Response {
    let act = match *method {
        Method::GET => hub.acts.lock().expect("acts").get_mut(path).and_then(VecDeque::pop_front),
        _ => None,
    };
    if let Some(Act::Refuse(status, wait)) = act {
        let mut response = refusal(status, "", "not now").into_response();
        if let Some(seconds) = wait {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        return response;
    }
    let size = file.bytes.len();
    let range = headers.get(RANGE).and_then(|range| range.to_str().ok()?.strip_prefix("bytes="));
    let from: usize = range
        .filter(|_| !matches!(act, Some(Act::Whole)))
        .and_then(|range| range.split('-').next()?.parse().ok())
        .unwrap_or(0);
    if from > 0 && from >= size {
        return (StatusCode::RANGE_NOT_SATISFIABLE, [(CONTENT_RANGE, format!("bytes */{size}"))])
            .into_response();
    }
    let mut response = Response::new(body(hub, path, file.bytes.slice(from..), act));
    let answer = response.headers_mut();
    if !matches!(act, Some(Act::End(_))) {
        answer.insert(CONTENT_LENGTH, (size - from).into());
    }
    answer.insert(ACCEPT_RANGES, "bytes".parse().expect("a header"));
    answer.insert(ETAG, format!("\"{}\"", file.etag()).parse().expect("a header"));
    if from > 0 {
        let range = format!("bytes {from}-{}/{size}", size - 1);
        answer.insert(CONTENT_RANGE, range.parse().expect("a header"));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    response
}

fn body(hub: &Arc<Hub>, path: &str, bytes: Bytes, act: Option<Act>) -> Body {
    let (hub, path) = (hub.clone(), path.to_owned());
    let least = match act {
        Some(Act::Stall(count) | Act::Break(count) | Act::End(count)) => count.min(bytes.len()),
        _ => bytes.len(),
    };
    let next = move |at: usize| {
        let (hub, path, bytes) = (hub.clone(), path.clone(), bytes.clone());
        async move {
            if at >= least {
                return match act {
                    Some(Act::Stall(_)) => std::future::pending().await,
                    Some(Act::Break(_)) => {
                        tokio::task::yield_now().await; // what was sent is flushed when there is no more for now
                        Some((Err(std::io::Error::other("scripted")), usize::MAX))
                    }
                    _ => None,
                };
            }
            let mut piece = bytes.slice(at..least.min(at + PIECE));
            if matches!(act, Some(Act::Spoil)) && at == 0 {
                let mut spoiled = piece.to_vec();
                spoiled[0] ^= 1;
                piece = spoiled.into();
            }
            let end = at + piece.len();
            *hub.sent.lock().expect("sent").entry(path).or_default() += piece.len() as u64;
            Some((Ok(piece), end))
        }
    };
    Body::from_stream(stream::unfold(0, next))
}
