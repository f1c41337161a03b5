//! The answer to a run that takes long: it begins before anybody knows how it ends.
//!
//! Clients that wait too long for the head of an answer send the request again. So it is sent in time, and white
//! space, which JSON allows, until the result is there. The status cannot change any more: a request that fails
//! has a body that is no JSON, on which clients raise, once. A connection that breaks they would take for bad
//! luck, and repeat the request.

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

/// Whoever stands between hears something this often.
const BREATH: Duration = Duration::from_secs(15);

/// What is still to be sent.
struct Held {
    queue: Queue,
    links: Links,
    line: ClientGuard,
    begun: bool,
}

/// Answers now, and goes on until the request is over.
pub(crate) fn answer(api: &Api, call: &Call, line: ClientGuard) -> Response {
    let held = Held { queue: api.queue.clone(), links: call.links.clone(), line, begun: false };
    let body = stream::unfold(Some(held), |held| async move { held?.next().await });
    ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(body)).into_response()
}

impl Held {
    async fn next(mut self) -> Option<(Result<String, Error>, Option<Self>)> {
        // The first breath is at once: some pass the head on with the first byte only.
        let patience = if self.begun { BREATH } else { Duration::ZERO };
        self.begun = true;
        let ended = tokio::time::timeout(patience, wait(&self.queue, self.line.id)).await;
        match ended {
            Err(_) => Some((Ok(" ".into()), Some(self))),
            Ok(Ok(ended)) => {
                self.line.close();
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
