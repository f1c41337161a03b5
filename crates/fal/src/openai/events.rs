//! `stream`: server-sent events with partial images, and with each image when it is complete.

use super::output::{OPAQUE, Wanted, size};
use crate::calls::stream::{KEEP_ALIVE, Show, Watcher};
use crate::endpoint::Task;
use crate::output::error::ApiError;
use crate::output::openai_error::{ErrorBody, Refused};
use crate::output::request_id::{REQUEST_ID, id_header};
use crate::routing::call::Call;
use crate::server::memory::AnswerMemory;
use crate::state::Api;
use crate::state::waiting_clients::ClientGuard;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use latentd_queue::queue::{Outcome, QueueError};
use latentd_request::{Output, OutputImage, Place};
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::Arc;
use utoipa::ToSchema;

/// Previews of a whole request, which are spread over its steps.
const PREVIEWS: usize = 8;

/// A preview of the first image.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PartialImage {
    /// `image_generation.partial_image` or `image_edit.partial_image`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// A small JPEG file in base64.
    b64_json: String,
    /// Counts from 0.
    partial_image_index: usize,
    /// In seconds since 1970.
    created_at: i64,
    /// `jpeg`, whatever the format of the image.
    output_format: &'static str,
    /// Of the image.
    size: String,
    /// Of the image.
    quality: &'static str,
    /// `opaque`.
    background: &'static str,
}

/// A complete image.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CompletedImage {
    /// `image_generation.completed` or `image_edit.completed`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The file in base64.
    b64_json: String,
    /// In seconds since 1970.
    created_at: i64,
    /// `png`, `jpeg` or `webp`.
    output_format: &'static str,
    /// Width and height, such as `1024x1024`.
    size: String,
    /// `low`, `medium`, `high` or `max`.
    quality: &'static str,
    /// `opaque`.
    background: &'static str,
    usage: Usage,
}

/// Tokens, which nothing is counted in here.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct Usage {
    input_tokens: u32,
    input_tokens_details: TokenDetails,
    output_tokens: u32,
    total_tokens: u32,
}

/// Tokens by their kind.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct TokenDetails {
    image_tokens: u32,
    text_tokens: u32,
}

/// Follows a request whose client waits, with so many partial images at most.
pub(super) async fn follow(
    api: &Arc<Api>,
    call: &Call,
    wanted: Wanted,
    partial_images: usize,
    client: ClientGuard,
) -> Result<Response, ApiError> {
    let id = client.id;
    // Of a request that was sent before the result may be gone.
    if let Some(Outcome::Erased) = api.queue.outcome(id).await? {
        client.close();
        return Err(ApiError::Erased);
    }
    let show = Show { logs: false, previews: partial_images > 0 };
    let events = Events {
        watcher: Watcher::new(api.clone(), call.clone(), id, show),
        api: api.clone(),
        wanted,
        previews: Spread { wanted: partial_images, ..Spread::default() },
        ready: VecDeque::new(),
        client: Some(client),
        memory: AnswerMemory::default(),
    };
    let events = stream::unfold(events, |mut events| async move { Some((events.next().await?, events)) });
    let sse = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    Ok(([(REQUEST_ID, id_header(id))], sse).into_response())
}

/// The rest of a stream.
struct Events {
    watcher: Watcher,
    api: Arc<Api>,
    wanted: Wanted,
    previews: Spread,
    /// What is sent next.
    ready: VecDeque<Result<Event, axum::Error>>,
    /// `None` once the request is over.
    client: Option<ClientGuard>,
    /// Of the images, until the client has read them.
    memory: AnswerMemory,
}

impl Events {
    async fn next(&mut self) -> Option<Result<Event, axum::Error>> {
        while self.ready.is_empty() && self.client.is_some() {
            if let Err(error) = self.wait().await {
                tracing::error!(%error, "a stream ends early");
                self.fail(&Refused::internal().body);
                self.client = None;
            }
        }
        self.ready.pop_front()
    }

    /// Waits for the next status.
    async fn wait(&mut self) -> Result<(), QueueError> {
        let status = self.watcher.next().await?;
        if !status.is_final() {
            self.show_preview(status.into_preview());
            return Ok(());
        }
        let (ended, memory) = self.watcher.ended().await?;
        if let Some(client) = self.client.take() {
            client.close();
        }
        let output = self.wanted.output(ended.outcome);
        self.memory = memory.made();
        match output {
            Ok(Output { images, .. }) => images.into_iter().for_each(|image| self.complete(image)),
            Err(refused) => self.fail(&refused.body),
        }
        Ok(())
    }

    fn show_preview(&mut self, preview: Option<String>) {
        let Some(b64_json) = preview else { return };
        let Some(partial_image_index) = self.previews.next() else { return };
        let kind = match self.wanted.task {
            Task::TextToImage => "image_generation.partial_image",
            Task::ImageToImage | Task::Inpaint => "image_edit.partial_image",
        };
        let partial = PartialImage {
            kind,
            b64_json,
            partial_image_index,
            created_at: self.now(),
            output_format: "jpeg",
            size: self.wanted.size.clone(),
            quality: self.wanted.quality,
            background: OPAQUE,
        };
        self.ready.push_back(Event::default().event(kind).json_data(partial));
    }

    fn complete(&mut self, image: OutputImage) {
        let kind = match self.wanted.task {
            Task::TextToImage => "image_generation.completed",
            Task::ImageToImage | Task::Inpaint => "image_edit.completed",
        };
        let size = size(&image);
        let Place::Inline(b64_json) = image.place else { return };
        let completed = CompletedImage {
            kind,
            b64_json,
            created_at: self.now(),
            output_format: self.wanted.format(),
            size,
            quality: self.wanted.quality,
            background: OPAQUE,
            usage: Usage::default(),
        };
        self.ready.push_back(Event::default().event(kind).json_data(completed));
    }

    /// Clients raise the error of such an event.
    fn fail(&mut self, error: &ErrorBody) {
        self.ready.push_back(Event::default().event("error").json_data(error));
    }

    fn now(&self) -> i64 {
        self.api.queue.now().as_second()
    }
}

/// Chooses the previews that become partial images, so that they are spread over the request.
#[derive(Default)]
struct Spread {
    wanted: usize,
    seen: usize,
    sent: usize,
}

impl Spread {
    /// The index of the next preview, if it becomes a partial image.
    fn next(&mut self) -> Option<usize> {
        self.seen += 1;
        let is_due = self.seen * (self.wanted + 1) >= PREVIEWS * (self.sent + 1);
        (self.sent < self.wanted && is_due).then(|| {
            self.sent += 1;
            self.sent - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_images_are_spread_over_the_previews() {
        let chosen = |wanted| {
            let mut spread = Spread { wanted, ..Spread::default() };
            (1..=PREVIEWS).filter(|_| spread.next().is_some()).collect::<Vec<_>>()
        };
        assert_eq!(chosen(0), [0; 0]);
        assert_eq!(chosen(1), [4]);
        assert_eq!(chosen(2), [3, 6]);
        assert_eq!(chosen(3), [2, 4, 6]);
    }
}
