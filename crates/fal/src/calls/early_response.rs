//! The response to a run that takes long: its head is sent before the result is known.
//!
//! Clients that wait too long for the head of an answer send the request again. So it is sent in time, and white
//! space, which JSON allows, until the result is there. The status cannot change any more: a request that fails
//! has a body that is no JSON, on which clients raise, once. They would take a broken connection for a
//! network failure, and repeat the request.

use crate::calls::wait::{ended, wait};
use crate::server::memory::AnswerMemory;
use crate::state::Api;
use crate::state::waiting_clients::ClientGuard;
use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use latentd_queue::queue::{Outcome, QueueError};
use std::io::Error;
use std::sync::Arc;
use std::time::Duration;

/// A byte is sent this often, so that no proxy takes the connection for idle.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// The rest of the response.
enum EarlyResponse {
    /// Its request is waited for.
    Waiting(Box<Waiting>),
    /// All was said; the memory is kept until the client has read it.
    Said { _memory: AnswerMemory },
}

/// A response whose request is not over.
struct Waiting {
    api: Arc<Api>,
    client: ClientGuard,
    last: Box<Last>,
    begun: bool,
}

/// Makes the last part of the response: the result, or the error in its place.
type Last = dyn FnOnce(Outcome) -> Result<String, String> + Send;

/// Answers now, and goes on until the request is over.
pub(crate) fn answer(
    api: &Arc<Api>,
    client: ClientGuard,
    last: impl FnOnce(Outcome) -> Result<String, String> + Send + 'static,
) -> Response {
    let waiting = Waiting { api: api.clone(), client, last: Box::new(last), begun: false };
    let body = stream::unfold(EarlyResponse::Waiting(Box::new(waiting)), EarlyResponse::next);
    ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(body)).into_response()
}

impl EarlyResponse {
    async fn next(self) -> Option<(Result<String, Error>, Self)> {
        match self {
            Self::Waiting(waiting) => Some(waiting.next().await),
            Self::Said { .. } => None,
        }
    }
}

impl Waiting {
    async fn next(mut self: Box<Self>) -> (Result<String, Error>, EarlyResponse) {
        // The first byte is sent at once: some proxies pass the head on only with it.
        let interval = if self.begun { KEEPALIVE_INTERVAL } else { Duration::ZERO };
        self.begun = true;
        match tokio::time::timeout(interval, wait(&self.api.queue, self.client.id)).await {
            Err(_) => (Ok(" ".into()), EarlyResponse::Waiting(self)),
            Ok(Ok(bytes)) => self.end(bytes).await,
            Ok(Err(error)) => (Err(broken(&error)), EarlyResponse::Said { _memory: AnswerMemory::default() }),
        }
    }

    async fn end(self: Box<Self>, bytes: u64) -> (Result<String, Error>, EarlyResponse) {
        let Self { api, client, last, .. } = *self;
        let id = client.id;
        client.close();
        let memory = api.memory.late_answer(bytes).await;
        match ended(&api.queue, id).await {
            Ok(ended) => {
                let text =
                    last(ended.outcome).unwrap_or_else(|error| format!("The request failed: {error}\n"));
                (Ok(text), EarlyResponse::Said { _memory: memory.made() })
            }
            Err(error) => (Err(broken(&error)), EarlyResponse::Said { _memory: memory }),
        }
    }
}

fn broken(error: &QueueError) -> Error {
    tracing::error!(%error, "a run ends early");
    Error::other("the result cannot be read")
}
