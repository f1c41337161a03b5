//! `POST fal.run/{application}`: hold the line until the result is there.

use super::call::Call;
use super::error::ApiError;
use super::target::Application;
use super::{Api, REQUEST_ID, id_header, input, status, submit};
use crate::queue::events::signal_or;
use crate::queue::{FailureKind, Origin, Outcome, Queue, RequestId};
use axum::body::Body;
use axum::http::HeaderMap;
use axum::response::Response;
use std::time::Duration;

/// How long to trust that a change is signalled.
const POLL: Duration = Duration::from_millis(500);

/// Runs a request of its own in the common queue; stops it when the client goes away.
pub(super) async fn run(
    api: &Api,
    call: &Call,
    application: &Application,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let input = submit::accept(api, application, body).await?;
    let request = input::read(&input, &api.limits).map_err(ApiError::Invalid)?;
    let (id, _) = submit::enqueue(api, call, application, headers, &request, Origin::Direct, None).await?;
    let line = Line::open(api.queue.clone(), id);
    let outcome = wait(&api.queue, id).await?;
    line.close();
    let mut response = status::outcome_response(call, outcome)?;
    response.headers_mut().insert(REQUEST_ID, id_header(id));
    Ok(response)
}

async fn wait(queue: &Queue, id: RequestId) -> Result<Outcome, ApiError> {
    let mut moved = queue.events().moved();
    loop {
        moved.mark_unchanged();
        queue.expire_late().await?;
        if let Some(outcome) = queue.outcome(id).await? {
            return Ok(outcome);
        }
        signal_or(&mut moved, POLL).await;
    }
}

/// Cancels the request when it is dropped open: the server drops a call whose client hung up.
pub(super) struct Line {
    queue: Queue,
    id: RequestId,
    open: bool,
}

impl Line {
    pub(super) fn open(queue: Queue, id: RequestId) -> Self {
        Self { queue, id, open: true }
    }

    /// The request is over.
    pub(super) fn close(mut self) {
        self.open = false;
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        let (queue, id) = (self.queue.clone(), self.id);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            match queue.cancel(id, FailureKind::ClientGone).await {
                Ok(answer) => tracing::info!(request = %id, ?answer, "the client hung up"),
                Err(error) => tracing::warn!(request = %id, %error, "not cancelled after its client hung up"),
            }
        });
    }
}
