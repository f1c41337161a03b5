//! The response to a run that takes long: its head is sent before the result is known.
//!
//! Clients that wait too long for the head of an answer send the request again. So it is sent in time, and white
//! space, which JSON allows, until the result is there. The status cannot change any more: a request that fails
//! has a body that is no JSON, on which clients raise, once. They would take a broken connection for a
//! network failure, and repeat the request.

use crate::calls::wait::wait;
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
    client: ClientGuard,
    last: Box<Last>,
    begun: bool,
}

/// Makes the last part of the response: the result, or the error in its place.
type Last = dyn FnOnce(Outcome) -> Result<String, String> + Send;

/// Answers now, and goes on until the request is over.
pub(crate) fn answer(
    queue: &Queue,
    client: ClientGuard,
    last: impl FnOnce(Outcome) -> Result<String, String> + Send + 'static,
) -> Response {
    let response = EarlyResponse { queue: queue.clone(), client, last: Box::new(last), begun: false };
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
                let last = (self.last)(ended.outcome);
                let text = last.unwrap_or_else(|error| format!("The request failed: {error}\n"));
                Some((Ok(text), None))
            }
            Ok(Err(error)) => Some((Err(broken(&error)), None)),
        }
    }
}

fn broken(error: &QueueError) -> Error {
    tracing::error!(%error, "a run ends early");
    Error::other("the result cannot be read")
}
