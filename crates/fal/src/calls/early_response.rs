//! The response to a run that takes long: its head is sent before the result is known.
//!
//! Clients that wait too long for the head of an answer send the request again. So it is sent in time, and white
//! space, which JSON allows, until the result is there. The status cannot change any more: a request that fails
//! has a body that is no JSON, on which clients raise, once. They would take a broken connection for a
//! network failure, and repeat the request.

use crate::calls::status::late_body;
use crate::calls::wait::wait;
use crate::output::links::Links;
use crate::routing::call::Call;
use crate::state::Api;
use crate::state::waiting_clients::ClientGuard;
use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use latentd_queue::queue::{Outcome, Queue, QueueError};
use std::io::Error;
use std::time::Duration;

/// A byte is sent this often, so that no proxy takes the connection for idle.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// The rest of the response.
struct EarlyResponse {
    queue: Queue,
    links: Links,
    client: ClientGuard,
    begun: bool,
}

/// Answers now, and goes on until the request is over.
pub(crate) fn answer(api: &Api, call: &Call, client: ClientGuard) -> Response {
    let response =
        EarlyResponse { queue: api.queue.clone(), links: call.links.clone(), client, begun: false };
    let body = stream::unfold(Some(response), |response| async move { response?.next().await });
    ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(body)).into_response()
}

impl EarlyResponse {
    async fn next(mut self) -> Option<(Result<String, Error>, Option<Self>)> {
        // The first byte is sent at once: some proxies pass the head on only with it.
        let interval = if self.begun { KEEPALIVE_INTERVAL } else { Duration::ZERO };
        self.begun = true;
        let ended = tokio::time::timeout(interval, wait(&self.queue, self.client.id)).await;
        match ended {
            Err(_) => Some((Ok(" ".into()), Some(self))),
            Ok(Ok(ended)) => {
                self.client.close();
                Some((Ok(last(&self.links, ended.outcome)), None))
            }
            Ok(Err(error)) => Some((Err(broken(&error)), None)),
        }
    }
}

fn last(links: &Links, outcome: Outcome) -> String {
    match late_body(links, outcome) {
        Ok(result) => result.to_string(),
        Err(error) => format!("The request failed: {error}\n"),
    }
}

fn broken(error: &QueueError) -> Error {
    tracing::error!(%error, "a run ends early");
    Error::other("the result cannot be read")
}
