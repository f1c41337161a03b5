//! The bodies of fal's responses, made of the queue's rows.

use crate::output::error::failure_words;
use crate::output::links::Links;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use latentd_queue::queue::{Level, LogLine, Phase, Preview, RequestId, Status};
use latentd_request::{Output, Place, Seed, StageSeconds};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

/// The three URLs of a request, absolute: Python clients follow them literally.
struct Urls {
    response_url: String,
    status_url: String,
    cancel_url: String,
}

/// Where a request stands; a failed one is completed too.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum State {
    InQueue,
    InProgress,
    Completed,
}

impl Urls {
    fn of(links: &Links, application: &str, id: RequestId) -> Self {
        let response_url = links.request(application, id);
        Self {
            status_url: format!("{response_url}/status"),
            cancel_url: format!("{response_url}/cancel"),
            response_url,
        }
    }
}

/// Answer to a submit.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Submitted {
    #[schema(inline)]
    status: State,
    /// Names the request from now on.
    request_id: String,
    /// The same.
    gateway_request_id: String,
    /// Where the result is.
    response_url: String,
    /// Where the status is.
    status_url: String,
    /// Where the request is cancelled, with PUT.
    cancel_url: String,
    /// Empty yet.
    #[schema(value_type = Vec<Log>)]
    logs: [(); 0],
    /// Empty yet.
    #[schema(value_type = Object)]
    metrics: Value,
    /// Requests that are generated before this one.
    queue_position: u64,
}

impl Submitted {
    pub(crate) fn new(links: &Links, application: &str, id: RequestId, ahead: u64) -> Self {
        let Urls { response_url, status_url, cancel_url } = Urls::of(links, application, id);
        Self {
            status: State::InQueue,
            request_id: id.to_string(),
            gateway_request_id: id.to_string(),
            response_url,
            status_url,
            cancel_url,
            logs: [],
            metrics: json!({}),
            queue_position: ahead,
        }
    }
}

/// Where a request stands: the answer to a poll, and one event of a stream.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = QueueStatus)]
pub(crate) struct StatusBody {
    #[schema(inline)]
    status: State,
    /// Names the request.
    request_id: String,
    /// Where the result is.
    response_url: String,
    /// Where the status is.
    status_url: String,
    /// Where the request is cancelled, with PUT.
    cancel_url: String,
    /// What was logged, where it was asked for; in a stream what is new. Always a list.
    logs: Vec<Log>,
    /// Once completed, `inference_time` in seconds.
    #[schema(value_type = Object)]
    metrics: Value,
    /// Requests that are generated before this one; while it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    queue_position: Option<u64>,
    /// Why there is no output; of a request that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error: Option<String>,
    /// The class of the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error_type: Option<&'static str>,
    /// A data URI of a small JPEG, on streams that asked for it and only when it is new. Not one of fal's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    preview: Option<String>,
}

/// What the data URI of a preview begins with.
const PREVIEW: &str = "data:image/jpeg;base64,";

impl StatusBody {
    pub(crate) fn new(links: &Links, status: &Status, logs: &[LogLine]) -> Self {
        let Urls { response_url, status_url, cancel_url } = Urls::of(links, &status.endpoint, status.id);
        let mut body = Self {
            status: State::InProgress,
            request_id: status.id.to_string(),
            response_url,
            status_url,
            cancel_url,
            logs: logs.iter().map(Log::of).collect(),
            metrics: json!({}),
            queue_position: None,
            error: None,
            error_type: None,
            preview: None,
        };
        match &status.phase {
            Phase::Waiting { ahead } => {
                body.status = State::InQueue;
                body.queue_position = Some(*ahead);
            }
            Phase::Running => {}
            Phase::Done { failure } => {
                body.status = State::Completed;
                body.metrics = json!({ "inference_time": seconds_run(status) });
                if let Some((kind, message)) = failure {
                    let (class, line) = failure_words(*kind, message);
                    (body.error, body.error_type) = (Some(line), Some(class));
                }
            }
        }
        body
    }

    /// Is this the last word on the request?
    pub(crate) fn is_final(&self) -> bool {
        self.status == State::Completed
    }

    /// The preview in base64, if there is a new one.
    pub(crate) fn into_preview(self) -> Option<String> {
        self.preview.map(|uri| uri.strip_prefix(PREVIEW).map(str::to_owned).unwrap_or(uri))
    }

    /// The same with a preview of what is being generated.
    pub(crate) fn with_preview(self, preview: Option<Preview>) -> Self {
        let jpeg = preview.map(|preview| STANDARD.encode(preview.image));
        Self { preview: jpeg.map(|base64| format!("{PREVIEW}{base64}")), ..self }
    }
}

fn seconds_run(status: &Status) -> Option<f64> {
    let (start, end) = (status.started_at?, status.finished_at?);
    Some(end.duration_since(start).as_secs_f64())
}

/// A log line, with its fields where each of the clients looks for them.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
struct Log {
    /// When, in UTC.
    #[schema(format = DateTime)]
    timestamp: String,
    /// What happened.
    message: String,
    #[schema(inline)]
    level: Severity,
    source: &'static str,
    labels: Labels,
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
struct Labels {
    #[schema(inline)]
    level: Severity,
    source: &'static str,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
enum Severity {
    Info,
    Warn,
    Error,
}

impl Log {
    fn of(line: &LogLine) -> Self {
        let level = match line.level {
            Level::Info => Severity::Info,
            Level::Warn => Severity::Warn,
            Level::Error => Severity::Error,
        };
        Self {
            timestamp: line.at.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
            message: line.message.clone(),
            level,
            source: "USER",
            labels: Labels { level, source: "USER" },
        }
    }
}

/// The output of the model.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StableDiffusionV35LargeOutput, title = "Output")]
pub(crate) struct OutputBody {
    /// The images, in order.
    images: Vec<Image>,
    /// Seconds that each stage took, and what was left out where the operator asked for it.
    #[schema(value_type = std::collections::HashMap<String, f64>)]
    timings: StageSeconds,
    /// The seed that was used: the request's own, or the one that was drawn for it.
    #[schema(value_type = i64)]
    seed: Seed,
    /// For each image: was it found unsafe, and so made black?
    has_nsfw_concepts: Vec<bool>,
    /// The prompt that was used.
    prompt: String,
}

/// An image.
#[derive(Debug, Serialize, ToSchema)]
#[schema(title = "Image")]
struct Image {
    /// Where the file is, or the file itself as a data URI.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required, nullable = false)]
    url: Option<String>,
    /// Takes the place of the URL in realtime, where bytes were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    content: Option<Raw>,
    /// In pixels.
    width: usize,
    /// In pixels.
    height: usize,
    /// `image/jpeg` or `image/png`.
    content_type: String,
}

/// The bytes of an image, for formats that have bytes.
#[derive(Debug)]
struct Raw(Vec<u8>);

impl Serialize for Raw {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl OutputBody {
    pub(crate) fn new(links: &Links, output: Output) -> Self {
        Self::with(output, |place, content_type| match place {
            Place::Stored(key) => (Some(links.file(&key)), None),
            Place::Inline(base64) => (Some(format!("data:{content_type};base64,{base64}")), None),
        })
    }

    /// The same with the bytes themselves in place of data URIs.
    pub(crate) fn with_bytes(links: &Links, output: Output) -> Self {
        Self::with(output, |place, _| match place {
            Place::Stored(key) => (Some(links.file(&key)), None),
            Place::Inline(base64) => (None, STANDARD.decode(base64).ok().map(Raw)),
        })
    }

    fn with(output: Output, place: impl Fn(Place, &str) -> (Option<String>, Option<Raw>)) -> Self {
        let Output { images, seconds, seed, flagged, scores: _, prompt } = output;
        let image = |image: latentd_request::OutputImage| {
            let (url, content) = place(image.place, &image.content_type);
            let (width, height) = (image.width, image.height);
            Image { url, content, width, height, content_type: image.content_type }
        };
        Self {
            images: images.into_iter().map(image).collect(),
            timings: seconds,
            seed,
            has_nsfw_concepts: flagged,
            prompt,
        }
    }
}

/// Answer to a cancellation.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Cancelled {
    #[schema(inline)]
    status: CancelWord,
    /// `true`: the request will not be generated to its end. fal's documents know this field alone.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    success: bool,
}

impl Cancelled {
    pub(crate) fn new(status: CancelWord) -> Self {
        let success = !matches!(status, CancelWord::AlreadyCompleted);
        Self { status, success }
    }
}

/// What became of a cancellation.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum CancelWord {
    /// It waited, and is gone.
    Ok,
    /// It is being generated, and stops after the current step.
    CancellationRequested,
    /// There was nothing left to cancel.
    AlreadyCompleted,
}
