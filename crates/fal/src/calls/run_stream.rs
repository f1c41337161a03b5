//! `POST fal.run/{application}/stream`: server-sent events of a request's statuses, the result last.
//!
//! Clients take the last event for the result. A request that fails has its error as an event, and
//! then the connection breaks: that is how clients learn that the last event is no result.

use crate::calls::run::open;
use crate::calls::status::late_body;
use crate::calls::stream::{KEEP_ALIVE, Show, Watcher};
use crate::input::body::Sent;
use crate::output::error::{ApiError, INTERNAL};
use crate::output::request_id::REQUEST_ID;
use crate::output::request_id::id_header;
use crate::routing::call::Call;
use crate::routing::target::Application;
use crate::server::memory::AnswerMemory;
use crate::state::Api;
use crate::state::waiting_clients::ClientGuard;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use latentd_queue::queue::{Outcome, QueueError};
use serde_json::json;
use std::sync::Arc;

/// Runs a request as [`crate::calls::run`] does, and sends its statuses.
pub(crate) async fn run(
    api: &Arc<Api>,
    call: &Call,
    application: &Application,
    headers: &HeaderMap,
    sent: Sent,
) -> Result<Response, ApiError> {
    let client = open(api, call, application, headers, sent).await?;
    let id = client.id;
    // Of a request that was sent before the result may be gone. Once a stream has begun, it could only break.
    if let Some(Outcome::Erased) = api.queue.outcome(id).await? {
        client.close();
        return Err(ApiError::Erased);
    }
    let watcher = Watcher::new(api.clone(), call.clone(), id, Show { logs: true, previews: true });
    let events = stream::unfold(Next::Status(watcher, client), Next::take);
    let sse = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    Ok(([(REQUEST_ID, id_header(id))], sse).into_response())
}

/// What the stream sends next.
enum Next {
    Status(Watcher, ClientGuard),
    Outcome(Watcher, ClientGuard),
    Break,
    /// The memory is kept until the client has read the result.
    End {
        _memory: AnswerMemory,
    },
}

impl Next {
    async fn take(self) -> Option<(std::io::Result<Event>, Self)> {
        match self {
            Self::Status(mut watcher, client) => match watcher.next().await {
                Ok(body) if body.is_final() => Some((event(&body), Self::Outcome(watcher, client))),
                Ok(body) => Some((event(&body), Self::Status(watcher, client))),
                Err(error) => broken(&error),
            },
            Self::Outcome(watcher, client) => match last(&watcher).await {
                Ok(last) => {
                    client.close();
                    Some(last)
                }
                Err(error) => broken(&error),
            },
            Self::Break => {
                // While the stream is silent the server writes out what it said, here the error.
                tokio::task::yield_now().await;
                Some((
                    Err(std::io::Error::other("the request failed")),
                    Self::End { _memory: AnswerMemory::default() },
                ))
            }
            Self::End { .. } => None,
        }
    }
}

fn broken(error: &QueueError) -> Option<(std::io::Result<Event>, Next)> {
    tracing::error!(%error, "a stream ends early");
    Some((event(&json!({ "detail": INTERNAL })), Next::Break))
}

/// The last event, and what comes after it: nothing if it is the result.
async fn last(watcher: &Watcher) -> Result<(std::io::Result<Event>, Next), QueueError> {
    let (ended, memory) = watcher.ended().await?;
    Ok(match late_body(watcher.links(), ended.outcome) {
        Ok(result) => (event(&result), Next::End { _memory: memory.made() }),
        Err(error) => (event(&error), Next::Break),
    })
}

fn event(body: &impl serde::Serialize) -> std::io::Result<Event> {
    Event::default().json_data(body).map_err(std::io::Error::other)
}
