//! `POST fal.run/{application}`: hold the line until the result is there.

use super::call::Call;
use super::error::ApiError;
use super::target::Application;
use super::{Api, REQUEST_ID, id_header, input, status, submit};
use crate::queue::events::{POLL, signal_or};
use crate::queue::{FailureKind, Origin, Outcome, Queue, RequestId};
use axum::body::Body;
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::Value;
use std::sync::Arc;

/// Runs a request of its own in the common queue; stops it when the client goes away.
pub(super) async fn run(
    api: &Arc<Api>,
    call: &Call,
    application: &Application,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let line = Line::open(api, call, application, headers, body).await?;
    let id = line.id;
    let outcome = line.outcome().await?;
    let mut response = status::outcome_response(call, outcome)?;
    response.headers_mut().insert(REQUEST_ID, id_header(id));
    Ok(response)
}

/// Cancels the request when it is dropped open: the server drops a call whose client hung up.
pub(super) struct Line {
    queue: Queue,
    pub(super) id: RequestId,
    open: bool,
}

impl Line {
    /// Puts a request into the queue whose client waits here.
    pub(super) async fn open(
        api: &Arc<Api>,
        call: &Call,
        application: &Application,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Self, ApiError> {
        let input = submit::accept(api, application, body).await?;
        Self::open_with(api, call, application, headers, &input).await
    }

    /// The same with an input that was read already.
    pub(super) async fn open_with(
        api: &Arc<Api>,
        call: &Call,
        application: &Application,
        headers: &HeaderMap,
        input: &Value,
    ) -> Result<Self, ApiError> {
        let request = input::read(input, &api.limits).map_err(ApiError::Invalid)?;
        let new = submit::new_request(api, call, application, headers, Origin::Direct)?;
        let (api, call) = (api.clone(), call.clone());
        // A task of its own, which ends even if the client goes meanwhile: what was accepted is then cancelled.
        let accepted = tokio::spawn(async move {
            let (id, _) = submit::enqueue(&api, &call, new, &request).await?;
            Ok(Self { queue: api.queue.clone(), id, open: true })
        });
        accepted.await.map_err(|error| ApiError::Internal(format!("a request was not accepted: {error}")))?
    }

    /// Waits for the end of the request.
    pub(super) async fn outcome(self) -> Result<Outcome, ApiError> {
        let mut moved = self.queue.events().moved();
        loop {
            moved.mark_unchanged();
            if let Some(outcome) = self.queue.outcome(self.id).await? {
                self.close();
                return Ok(outcome);
            }
            signal_or(&mut moved, POLL).await;
        }
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
