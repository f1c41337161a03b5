//! One fal client of many: submit, poll the status, fetch the result, over HTTP/1.1 with kept connections.
//!
//! The other end of fal's wire: it spells the names that `http` answers to, and shares nothing with it, so that a
//! mistake there is not made here again.

use crate::args::LoadArgs;
use crate::config::ConfigError;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use std::fmt;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Small enough to measure the server and not the model.
const INPUT: &str =
    r#"{"prompt":"a red house at sunset","image_size":{"width":256,"height":256},"num_inference_steps":4}"#;

/// Talks to one endpoint.
pub(super) struct FalClient {
    http: Client<HttpConnector, Full<Bytes>>,
    base: String,
    submit_url: String,
    input: Bytes,
    authorization: Option<header::HeaderValue>,
    poll: Duration,
    timeout: Duration,
}

/// Where to ask about a request.
pub(super) struct Submitted {
    status_url: String,
    response_url: String,
    cancel_url: String,
}

/// Why a request did not end well; its text is the kind that reports count by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    Connection,
    Timeout,
    /// Which call was answered with what.
    Http(&'static str, StatusCode),
    /// The answer to a call is not what fal sends.
    Answer(&'static str),
    /// The server says that the request failed.
    Request(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection => write!(out, "no connection"),
            Self::Timeout => write!(out, "no result in time"),
            Self::Http(call, status) => write!(out, "{call} answered {status}"),
            Self::Answer(call) => write!(out, "{call} answered something else than fal"),
            Self::Request(kind) => write!(out, "the request failed: {kind}"),
        }
    }
}

impl FalClient {
    pub(super) fn new(args: &LoadArgs) -> Result<Self, ConfigError> {
        let base = args.url.trim_end_matches('/').to_owned();
        match url::Url::parse(&base) {
            Ok(url) if url.scheme() == "http" && url.has_host() => {}
            Ok(url) if url.scheme() == "https" => {
                return Err(ConfigError(format!(
                    "--url {base}: load is measured over http://, without a proxy's TLS"
                )));
            }
            _ => return Err(ConfigError(format!("--url {base}: give http://HOST:PORT"))),
        }
        let input = args.input.as_deref().unwrap_or(INPUT);
        match serde_json::from_str::<Value>(input) {
            Ok(Value::Object(_)) => {}
            Ok(_) => return Err(ConfigError("--input: give a JSON object".into())),
            Err(error) => return Err(ConfigError(format!("--input: {error}"))),
        }
        let key = |keys: &String| {
            // The variable may be the server's own, which lists several.
            let key = keys.split(',').next().unwrap_or_default();
            let mut value = header::HeaderValue::try_from(format!("Key {key}"))
                .map_err(|_| ConfigError("--api-key: not a key that fits in a header".into()))?;
            value.set_sensitive(true);
            Ok(value)
        };
        Ok(Self {
            http: Client::builder(TokioExecutor::new()).build_http(),
            submit_url: format!("{base}/queue/{}", args.endpoint),
            base,
            input: Bytes::from(input.to_owned()),
            authorization: args.api_key.as_ref().map(key).transpose()?,
            poll: Duration::from_millis(args.poll_ms),
            timeout: Duration::from_secs_f64(args.timeout),
        })
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Whether anything listens.
    pub(super) async fn reach(&self) -> Result<(), Failure> {
        self.call("health", Method::GET, &format!("{}/health/live", self.base), Bytes::new()).await.map(drop)
    }

    /// Puts a request into the queue.
    pub(super) async fn submit(&self) -> Result<Submitted, Failure> {
        let (status, body) = self.call("submit", Method::POST, &self.submit_url, self.input.clone()).await?;
        if status != StatusCode::OK {
            return Err(Failure::Http("submit", status));
        }
        let url = |name: &str| body[name].as_str().map(str::to_owned).ok_or(Failure::Answer("submit"));
        let (status_url, response_url) = (url("status_url")?, url("response_url")?);
        Ok(Submitted { status_url, response_url, cancel_url: url("cancel_url")? })
    }

    /// Time between two looks at a status.
    pub(super) fn poll(&self) -> Duration {
        self.poll
    }

    /// A look at a request's status.
    pub(super) async fn status(&self, submitted: &Submitted) -> Result<Value, Failure> {
        let (status, body) = self.call("status", Method::GET, &submitted.status_url, Bytes::new()).await?;
        if status.is_success() { Ok(body) } else { Err(Failure::Http("status", status)) }
    }

    /// Gives a request up.
    pub(super) async fn cancel(&self, submitted: &Submitted) -> Result<(), Failure> {
        let (status, _) = self.call("cancel", Method::PUT, &submitted.cancel_url, Bytes::new()).await?;
        if status.is_success() { Ok(()) } else { Err(Failure::Http("cancel", status)) }
    }

    /// Waits for a request and fetches its result.
    pub(super) async fn finish(&self, submitted: &Submitted) -> Result<(), Failure> {
        timeout(self.timeout, self.wait(submitted)).await.unwrap_or(Err(Failure::Timeout))
    }

    async fn wait(&self, submitted: &Submitted) -> Result<(), Failure> {
        loop {
            let body = self.status(submitted).await?;
            match body["status"].as_str() {
                Some("COMPLETED") => match body["error_type"].as_str() {
                    Some(kind) => return Err(Failure::Request(kind.to_owned())),
                    None => break,
                },
                Some("IN_QUEUE" | "IN_PROGRESS") => sleep(self.poll).await,
                _ => return Err(Failure::Answer("status")),
            }
        }
        let (status, body) = self.call("result", Method::GET, &submitted.response_url, Bytes::new()).await?;
        match status {
            StatusCode::OK if body["images"].is_array() => Ok(()),
            StatusCode::OK => Err(Failure::Answer("result")),
            _ => Err(Failure::Http("result", status)),
        }
    }

    /// Status and JSON (null if it is none) of an answer.
    async fn call(
        &self,
        call: &'static str,
        method: Method,
        url: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Value), Failure> {
        let mut request = Request::builder().method(method).uri(url);
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(key) = &self.authorization {
            request = request.header(header::AUTHORIZATION, key);
        }
        let request = request.body(Full::new(body)).map_err(|_| Failure::Answer(call))?;
        let exchange = async {
            let answer = self.http.request(request).await.map_err(|_| Failure::Connection)?;
            let status = answer.status();
            let bytes = answer.into_body().collect().await.map_err(|_| Failure::Connection)?.to_bytes();
            Ok((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
        };
        timeout(self.timeout, exchange).await.unwrap_or(Err(Failure::Timeout))
    }
}
