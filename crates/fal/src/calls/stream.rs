//! `GET …/status/stream`: server-sent events, one per change, until the request is over.
//!
//! Lines end in LF throughout, whatever `Accept` says; each event carries only new log lines,
//! because clients append them, and a preview only when there is a new one.

use crate::calls::wait::{ended, unless_away, vanished, wait};
use crate::output::error::ApiError;
use crate::output::links::Links;
use crate::output::request_id::REQUEST_ID;
use crate::output::request_id::id_header;
use crate::output::wire::StatusBody;
use crate::routing::call::Call;
use crate::server::memory::AnswerMemory;
use crate::state::Api;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use latentd_queue::queue::events::{POLL, signal_or};
use latentd_queue::queue::{Ended, Phase, Preview, QueueError, RequestId, WATCH};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A comment is sent after this long without an event.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Streams the status.
pub(crate) async fn status(api: &Arc<Api>, call: Call, id: RequestId) -> Result<Response, ApiError> {
    if api.queue.status(id).await?.is_none() {
        return Err(ApiError::UnknownRequest);
    }
    let show = Show { logs: call.switch("logs"), previews: call.switch("preview") };
    let watcher = Watcher::new(api.clone(), call, id, show);
    let events = stream::unfold(Some(watcher), |watcher| async move {
        let mut watcher = watcher?;
        match watcher.next().await {
            Ok(body) => {
                let event = Event::default().json_data(&body);
                Some((event, (!body.is_final()).then_some(watcher)))
            }
            Err(error) => {
                tracing::error!(%error, "a status stream ends early");
                None
            }
        }
    });
    let sse = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    Ok(([(REQUEST_ID, id_header(id))], sse).into_response())
}

/// What a stream contains besides the status.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Show {
    pub(crate) logs: bool,
    pub(crate) previews: bool,
}

/// Follows a request and keeps what its stream has sent so far.
pub(crate) struct Watcher {
    api: Arc<Api>,
    call: Call,
    id: RequestId,
    moved: watch::Receiver<u64>,
    show: Show,
    last_line: i64,
    last_preview: i64,
    /// When the queue last recorded that somebody watches.
    noted: Option<Instant>,
    shown: Option<StatusBody>,
}

impl Watcher {
    pub(crate) fn new(api: Arc<Api>, call: Call, id: RequestId, show: Show) -> Self {
        let moved = api.queue.events().moved();
        Self { api, call, id, moved, show, last_line: 0, last_preview: 0, noted: None, shown: None }
    }

    /// How the client names files.
    pub(crate) fn links(&self) -> &Links {
        &self.call.links
    }

    /// How the request ended, once a status was final, with the memory that its result takes.
    pub(crate) async fn ended(&self) -> Result<(Ended, AnswerMemory), QueueError> {
        let bytes = wait(&self.api.queue, self.id).await?;
        let memory = self.api.memory.late_answer(bytes).await;
        Ok((ended(&self.api.queue, self.id).await?, memory))
    }

    /// Waits until there is something new, also while the database is away.
    pub(crate) async fn next(&mut self) -> Result<StatusBody, QueueError> {
        loop {
            self.moved.mark_unchanged();
            if let Some(body) = unless_away(self.look().await)? {
                return Ok(body);
            }
            signal_or(&mut self.moved, POLL).await;
        }
    }

    async fn look(&mut self) -> Result<Option<StatusBody>, QueueError> {
        let queue = &self.api.queue;
        let Some(status) = queue.status(self.id).await? else {
            return Err(vanished());
        };
        let lines = if self.show.logs { queue.logs(self.id, self.last_line).await? } else { Vec::new() };
        let preview = if status.phase == Phase::Running { self.preview().await? } else { None };
        let bare = StatusBody::new(&self.call.links, &status, &[]);
        if lines.is_empty() && preview.is_none() && self.shown.as_ref() == Some(&bare) {
            return Ok(None);
        }
        self.last_line = lines.last().map_or(self.last_line, |line| line.seq);
        self.shown = Some(bare);
        let body = StatusBody::new(&self.call.links, &status, &lines);
        Ok(Some(body.with_preview(preview)))
    }

    /// The next preview of a running request. The watch is recorded again before it expires.
    async fn preview(&mut self) -> Result<Option<Preview>, QueueError> {
        if !self.show.previews {
            return Ok(None);
        }
        if self.noted.is_none_or(|noted| noted.elapsed() > WATCH / 2) {
            self.api.queue.watch(self.id).await?;
            self.noted = Some(Instant::now());
        }
        let preview = self.api.queue.preview(self.id, self.last_preview).await?;
        self.last_preview = preview.as_ref().map_or(self.last_preview, |preview| preview.number);
        Ok(preview)
    }
}
