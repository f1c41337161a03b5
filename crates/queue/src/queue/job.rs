//! The queue's types: a request when it is submitted, claimed by a worker, and completed.

use super::store::Row;
use super::{Idempotency, NewWebhook, QueueError};
use jiff::Timestamp;
use serde_json::Value;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};
use uuid::Uuid;

/// Names a request; sorts by time of acceptance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(Uuid);

impl RequestId {
    /// A fresh id.
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// When it was made: at acceptance.
    pub fn time(&self) -> SystemTime {
        let (seconds, nanos) = self.0.get_timestamp().map_or((0, 0), |time| time.to_unix());
        SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos)
    }

    /// The column `id` of a row.
    pub(super) fn of_row(row: &Row) -> Result<Self, QueueError> {
        let id: &str = row.try_get("id")?;
        id.parse().map_err(|_| QueueError::Corrupt(format!("the request id {id:?}")))
    }
}

impl Default for RequestId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(out)
    }
}

impl FromStr for RequestId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::try_parse(text).map(Self)
    }
}

/// Declares an enum that the tables store as a word.
macro_rules! stored_word {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// The word the tables store.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            pub(super) fn from_word(word: &str) -> Result<Self, QueueError> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    other => Err(QueueError::Corrupt(format!("the unknown {} {other:?}", stringify!($name)))),
                }
            }
        }
    };
}
pub(super) use stored_word;

stored_word! {
    /// How the client waits for the result.
    Origin {
        /// Submitted to the queue: it is completed whether or not the client asks for it.
        Queued = "queued",
        /// The client waits for the answer: cancelled when that client is gone.
        Direct = "direct",
    }
}

stored_word! {
    /// Why a request has no output.
    FailureKind {
        /// The input cannot be served; the detail says why.
        Invalid = "invalid",
        /// Its initial image cannot be used; the detail says why.
        InitImage = "picture",
        /// Its mask cannot be used; the detail says why.
        Mask = "mask",
        /// A LoRA adapter of it cannot be used; the detail says why.
        Lora = "lora",
        /// Its ControlNet cannot be used; the detail says why.
        ControlNet = "controlnet",
        /// Its control image cannot be used; the detail says why.
        ControlImage = "control_image",
        /// Its IP-Adapter cannot be used; the detail says why.
        IpAdapter = "ip_adapter",
        /// The image encoder of its IP-Adapter cannot be used; the detail says why.
        ImageEncoder = "image_encoder",
        /// The image prompt of its IP-Adapter cannot be used; the detail says why.
        ImagePrompt = "image_prompt",
        /// The client cancelled it.
        Cancelled = "cancelled",
        /// The client that waited for the result went away.
        ClientGone = "client_gone",
        /// The engine could not generate its images.
        Engine = "engine",
        /// The device has no memory for it, also after everything else was freed.
        OutOfMemory = "out_of_memory",
        /// It did not start by the time that the client set.
        StartTimeout = "start_timeout",
        /// Too many workers died while they ran it.
        WorkerLost = "worker_lost",
    }
}

stored_word! {
    /// How much a log line matters.
    Level {
        /// Progress.
        Info = "info",
        /// Something was repaired.
        Warn = "warn",
        /// Something failed.
        Error = "error",
    }
}

/// Priority in the queue; within one, the keys' turns and then the order of acceptance decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// The usual.
    Normal = 2,
    /// After everything normal.
    Low = 3,
}

/// What a client asks of the queue beside its input; by default nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestOptions {
    /// Fail unless an attempt starts this soon after acceptance, retries included.
    pub start_within: Option<Duration>,
    /// Fail instead of starting again when the worker is lost.
    pub no_retry: bool,
    /// How long its files live once it is over; `None`: for good.
    pub result_life: Option<Duration>,
    /// Erase its input when it is over, and its output with its files.
    pub forget: bool,
}

/// A request to accept.
#[derive(Debug, Clone)]
pub struct NewRequest {
    /// The application it was sent to.
    pub endpoint: String,
    /// How the client waits for the result.
    pub origin: Origin,
    /// Its priority.
    pub priority: Priority,
    /// The request for the worker, opaque to the queue.
    pub body: Value,
    /// The model that it is for; `None`: whichever a worker has.
    pub model: Option<String>,
    /// Refuse when at least this many requests wait already.
    pub max_waiting: Option<u64>,
    /// Further options of the client.
    pub options: RequestOptions,
    /// The webhook to call when it is over.
    pub webhook: Option<NewWebhook>,
    /// Id of the API key that it was sent with, whose concurrency limit applies.
    pub api_key: Option<String>,
    /// Address of the client, which is stored until the request ends.
    pub client: Option<String>,
    /// The span of the call that submits it, as W3C Trace Context writes it; opaque to the queue.
    pub traceparent: Option<String>,
    /// The key by which it is found when the client sends it again.
    pub idempotency: Option<Idempotency>,
}

/// One attempt of a request, claimed by a worker. Every write with it is refused once another attempt was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// The request.
    pub id: RequestId,
    /// 1 for the first try.
    pub attempt: i64,
    /// The application it was sent to.
    pub endpoint: String,
    /// As submitted.
    pub body: Value,
    /// As submitted.
    pub traceparent: Option<String>,
}

/// Why a request has no output, for people and programs.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// The class.
    pub kind: FailureKind,
    /// One line.
    pub message: String,
    /// More, opaque to the queue.
    pub detail: Option<Value>,
}

impl FailureKind {
    /// May the same request succeed another time? What the engine refuses or cannot do, it never can.
    pub fn is_retryable(self) -> bool {
        match self {
            Self::StartTimeout | Self::WorkerLost => true,
            Self::Invalid
            | Self::InitImage
            | Self::Mask
            | Self::Lora
            | Self::ControlNet
            | Self::ControlImage
            | Self::IpAdapter
            | Self::ImageEncoder
            | Self::ImagePrompt
            | Self::Cancelled
            | Self::ClientGone
            | Self::Engine
            | Self::OutOfMemory => false,
        }
    }

    /// One line for people, where nothing more precise is known.
    pub fn message(self) -> &'static str {
        match self {
            Self::Invalid => "the input cannot be served",
            Self::InitImage => "the initial image cannot be used",
            Self::Mask => "the mask cannot be used",
            Self::Lora => "a LoRA adapter cannot be used",
            Self::ControlNet => "the ControlNet cannot be used",
            Self::ControlImage => "the control image cannot be used",
            Self::IpAdapter => "the IP-Adapter cannot be used",
            Self::ImageEncoder => "the image encoder cannot be used",
            Self::ImagePrompt => "the image prompt cannot be used",
            Self::Cancelled => "the request was cancelled by the client",
            Self::ClientGone => "the client went away before the result was ready",
            Self::Engine => "the engine failed",
            Self::OutOfMemory => "the device has too little memory for the request",
            Self::StartTimeout => "the request did not start within the time that the client allows",
            Self::WorkerLost => "the worker died every time it ran this request; it is not tried again",
        }
    }
}

impl Failure {
    /// A failure with the usual message of its class.
    pub fn of(kind: FailureKind) -> Self {
        Self { kind, message: kind.message().to_owned(), detail: None }
    }
}

/// The phase of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Phase {
    /// In the queue, with this many requests before it.
    Waiting {
        /// Requests that start first.
        ahead: u64,
    },
    /// Claimed by a worker.
    Running,
    /// Over, with an output unless it failed.
    Done {
        /// The class and its line, when it failed.
        failure: Option<(FailureKind, String)>,
    },
}

/// What is known of a request without loading its output.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// The request.
    pub id: RequestId,
    /// The application it was sent to.
    pub endpoint: String,
    /// Where it is.
    pub phase: Phase,
    /// Claims so far.
    pub attempt: i64,
    /// Accepted at.
    pub created_at: Timestamp,
    /// Start of the latest attempt.
    pub started_at: Option<Timestamp>,
    /// End.
    pub finished_at: Option<Timestamp>,
}

/// How a finished request ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The worker's output, opaque to the queue.
    Output(Value),
    /// Why there is none.
    Failed(Failure),
    /// It had an output, which was not to be kept.
    Erased,
}

/// The end of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// The worker that had it last, if any.
    pub worker: Option<String>,
}

/// One line of a request's log.
#[derive(Debug, Clone, PartialEq)]
pub struct LogLine {
    /// Grows with every line of the database; ask for the lines after it.
    pub seq: i64,
    /// When.
    pub at: Timestamp,
    /// How much it matters.
    pub level: Level,
    /// The text.
    pub message: String,
}
