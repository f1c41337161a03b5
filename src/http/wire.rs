//! The shapes of fal's answers, and how they are made of what the queue knows.

use super::call::Links;
use super::error::failure_words;
use crate::queue::{Level, LogLine, Phase, Preview, RequestId, Status};
use crate::request::{Output, Place, StageSeconds};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Value, json};

/// The three URLs of a request, absolute: Python clients follow them literally.
#[derive(Debug, Clone, Serialize)]
struct Urls {
    response_url: String,
    status_url: String,
    cancel_url: String,
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
#[derive(Debug, Serialize)]
pub(super) struct Submitted {
    status: &'static str,
    request_id: String,
    gateway_request_id: String,
    #[serde(flatten)]
    urls: Urls,
    logs: [(); 0],
    metrics: Value,
    queue_position: u64,
}

impl Submitted {
    pub(super) fn new(links: &Links, application: &str, id: RequestId, ahead: u64) -> Self {
        Self {
            status: "IN_QUEUE",
            request_id: id.to_string(),
            gateway_request_id: id.to_string(),
            urls: Urls::of(links, application, id),
            logs: [],
            metrics: json!({}),
            queue_position: ahead,
        }
    }
}

/// Answer to a status poll, and one event of a status stream.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct StatusBody {
    status: &'static str,
    request_id: String,
    response_url: String,
    status_url: String,
    cancel_url: String,
    /// Always a list: the published snippet maps it.
    logs: Vec<Log>,
    metrics: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_position: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_type: Option<&'static str>,
    /// A data URI of a small JPEG, on streams that asked for it and only when it is new. Not one of fal's.
    #[serde(skip_serializing_if = "Option::is_none")]
    preview: Option<String>,
}

impl StatusBody {
    pub(super) fn new(links: &Links, status: &Status, logs: &[LogLine]) -> Self {
        let Urls { response_url, status_url, cancel_url } = Urls::of(links, &status.endpoint, status.id);
        let mut body = Self {
            status: "IN_PROGRESS",
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
                body.status = "IN_QUEUE";
                body.queue_position = Some(*ahead);
            }
            Phase::Running => {}
            Phase::Done { failure } => {
                body.status = "COMPLETED";
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
    pub(super) fn is_final(&self) -> bool {
        self.status == "COMPLETED"
    }

    /// The same with a look at what is being painted.
    pub(super) fn with_preview(self, preview: Option<Preview>) -> Self {
        let jpeg = preview.map(|preview| STANDARD.encode(preview.picture));
        Self { preview: jpeg.map(|base64| format!("data:image/jpeg;base64,{base64}")), ..self }
    }
}

fn seconds_run(status: &Status) -> Option<f64> {
    let (start, end) = (status.started_at?, status.finished_at?);
    Some(end.duration_since(start).as_secs_f64())
}

/// A log line, with its fields where each of the clients looks for them.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Log {
    timestamp: String,
    message: String,
    level: &'static str,
    source: &'static str,
    labels: Labels,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Labels {
    level: &'static str,
    source: &'static str,
}

impl Log {
    fn of(line: &LogLine) -> Self {
        let level = match line.level {
            Level::Info => "INFO",
            Level::Warn => "WARN",
            Level::Error => "ERROR",
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
#[derive(Debug, Serialize)]
pub(super) struct OutputBody {
    images: Vec<Image>,
    timings: StageSeconds,
    seed: i64,
    has_nsfw_concepts: Vec<bool>,
    prompt: String,
}

#[derive(Debug, Serialize)]
struct Image {
    url: String,
    width: usize,
    height: usize,
    content_type: String,
}

impl OutputBody {
    pub(super) fn new(links: &Links, output: Output) -> Self {
        let Output { images, seconds, seed, flagged, prompt } = output;
        let image = |image: crate::request::OutputImage| Image {
            url: match image.place {
                Place::Stored(key) => links.file(&key),
                Place::Inline(base64) => format!("data:{};base64,{base64}", image.content_type),
            },
            width: image.width,
            height: image.height,
            content_type: image.content_type,
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
