//! Requests to the hub about one repository: redirects, the meaning of refusals, and retries.

use crate::HubConfig;
use crate::connect::{self, Http};
use crate::error::{Failure, HubError};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RANGE, RETRY_AFTER, USER_AGENT,
};
use hyper::{Request, Response, StatusCode};
use std::error::Error;
use std::time::Duration;
use url::Url;

/// Redirects that are followed.
const MAX_REDIRECTS: usize = 10;

/// Longest pause between two attempts that the server did not ask for.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Longest pause that a server may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);

/// An HTTP client for one repository.
pub(crate) struct Client {
    pub(crate) repository: String,
    pub(crate) revision: String,
    pub(crate) stall: Duration,
    http: Http,
    endpoint: Url,
    backoff: Duration,
    token: Option<Token>,
}

/// The user's access token.
struct Token {
    header: HeaderValue,
    /// Where it was found, for messages.
    origin: String,
}

impl Client {
    pub(crate) fn new(hub: &HubConfig, repository: &str, revision: &str) -> Result<Self, HubError> {
        Ok(Self {
            repository: repository.into(),
            revision: revision.into(),
            stall: hub.stall,
            http: connect::client(&hub.endpoint, hub.stall)?,
            endpoint: hub.endpoint.clone(),
            backoff: hub.backoff,
            token: token(hub)?,
        })
    }

    /// A URL below the hub's.
    pub(crate) fn url<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// The hub's host, for messages.
    pub(crate) fn host(&self) -> String {
        self.endpoint.host_str().unwrap_or_default().to_owned()
    }

    /// The response to a GET, from a byte on, after redirects. The token is sent to the hub alone.
    pub(crate) async fn get(&self, url: &Url, from: u64) -> Result<Response<Incoming>, Failure> {
        let mut url = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.once(&url, from).await?;
            let status = response.status();
            let location = response.headers().get(LOCATION).filter(|_| status.is_redirection());
            let Some(next) =
                location.and_then(|location| url.join(&String::from_utf8_lossy(location.as_bytes())).ok())
            else {
                return if status.is_success() { Ok(response) } else { Err(self.refused(&url, &response)) };
            };
            if url.scheme() == "https" && next.scheme() != "https" {
                return Err(self.bad_answer(&url, "a redirect out of TLS").into());
            }
            url = next;
        }
        Err(self.bad_answer(&url, "one redirect after the other").into())
    }

    async fn once(&self, url: &Url, from: u64) -> Result<Response<Incoming>, Failure> {
        let mut request = Request::get(url.as_str())
            .header(USER_AGENT, concat!("latentd/", env!("CARGO_PKG_VERSION")))
            // A compressed response has another length, and cannot be resumed.
            .header(ACCEPT_ENCODING, "identity");
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        if let Some(token) = self.token.as_ref().filter(|_| url.origin() == self.endpoint.origin()) {
            request = request.header(AUTHORIZATION, token.header.clone());
        }
        let request = request.body(Empty::<Bytes>::new());
        let request = request.map_err(|_| self.bad_answer(url, "a URL that cannot be called"))?;
        match tokio::time::timeout(self.stall, self.http.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(broken(url, &error)),
            Err(_) => Err(self.stalled(url)),
        }
    }

    /// A small response, all of it.
    pub(crate) async fn read(&self, url: &Url, limit: usize) -> Result<Vec<u8>, Failure> {
        let mut body = self.get(url, 0).await?.into_body();
        let mut bytes = Vec::new();
        loop {
            let frame = tokio::time::timeout(self.stall, body.frame()).await;
            let Some(frame) = frame.map_err(|_| self.stalled(url))? else { return Ok(bytes) };
            let frame = frame.map_err(|error| broken(url, &error))?;
            bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
            if bytes.len() > limit {
                return Err(self.bad_answer(url, "more than it should").into());
            }
        }
    }

    /// Attempts a request, and repeats it with growing pauses where the failure may be temporary.
    pub(crate) async fn retry<T>(
        &self,
        attempts: u32,
        mut attempt: impl AsyncFnMut() -> Result<T, Failure>,
    ) -> Result<T, HubError> {
        let mut failed = 0;
        loop {
            match attempt().await {
                Ok(value) => return Ok(value),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Temporary { error, .. }) if failed + 1 >= attempts => return Err(error),
                Err(Failure::Temporary { wait, .. }) => {
                    failed += 1;
                    tokio::time::sleep(self.pause(failed, wait)).await;
                }
            }
        }
    }

    /// How long to wait after `failed` failures in a row; `retry_after` is what the server asked for.
    pub(crate) fn pause(&self, failed: u32, retry_after: Option<Duration>) -> Duration {
        let doubled = self.backoff.saturating_mul(1 << failed.saturating_sub(1).min(10));
        retry_after.map_or(doubled.min(MAX_PAUSE), |wait| wait.min(MAX_RETRY_AFTER))
    }

    pub(crate) fn stalled(&self, url: &Url) -> Failure {
        unreachable(url, format!("not a byte for {} s", self.stall.as_secs_f32()))
    }

    pub(crate) fn bad_answer(&self, url: &Url, said: &str) -> HubError {
        HubError::Answer { host: host(url), said: said.into() }
    }

    /// The meaning of a response that is no success.
    fn refused(&self, url: &Url, response: &Response<Incoming>) -> Failure {
        use StatusCode as S;
        let (status, headers) = (response.status(), response.headers());
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (code, said) = (header("x-error-code"), header("x-error-message"));
        if [S::REQUEST_TIMEOUT, S::TOO_MANY_REQUESTS].contains(&status) || status.is_server_error() {
            let error = HubError::Unreachable { host: host(url), why: format!("it answered {status}") };
            return Failure::Temporary { error, wait: retry_after(headers) };
        }
        let repository = self.repository.clone();
        let page = self.url(self.repository.split('/')).to_string();
        let tokens = self.url(["settings", "tokens"]).to_string();
        let origin = self.token.as_ref().map(|token| token.origin.clone());
        let is_gate = code == "GatedRepo";
        Failure::Final(match (status, code, origin) {
            (S::UNAUTHORIZED | S::FORBIDDEN, _, None) if is_gate => {
                HubError::NoToken { repository, page, tokens }
            }
            (S::FORBIDDEN, _, Some(token)) if is_gate => HubError::NotAccepted { repository, page, token },
            (S::FORBIDDEN, _, Some(token)) => {
                HubError::Forbidden { repository, token, said: said.into(), tokens }
            }
            (_, "RevisionNotFound", _) => {
                HubError::NoRevision { repository, revision: self.revision.clone() }
            }
            (S::UNAUTHORIZED, code, Some(token)) if code != "RepoNotFound" => {
                HubError::BadToken { token, tokens }
            }
            (S::UNAUTHORIZED, _, origin) | (S::NOT_FOUND, "RepoNotFound", origin) => {
                HubError::NotFound { repository, hub: self.host(), has_token: origin.is_some() }
            }
            _ => self.bad_answer(url, [status.as_str(), code, said].join(" ").trim_end()),
        })
    }
}

/// The token of the variable, or else that of the file which `hf auth login` writes.
fn token(hub: &HubConfig) -> Result<Option<Token>, HubError> {
    let path = &hub.token_path;
    let (text, origin) = match &hub.token {
        Some(token) => (token.0.clone(), "HF_TOKEN".to_owned()),
        None => match std::fs::read_to_string(path) {
            Ok(text) => (text.trim().to_owned(), path.display().to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(HubError::io(path)(error)),
        },
    };
    if text.is_empty() {
        return Ok(None);
    }
    let Ok(mut header) = HeaderValue::try_from(format!("Bearer {text}")) else {
        let tokens = hub.endpoint.join("settings/tokens").map(String::from).unwrap_or_default();
        return Err(HubError::BadToken { token: origin, tokens });
    };
    header.set_sensitive(true);
    Ok(Some(Token { header, origin }))
}

/// How long a server asks the client to wait: `Retry-After`, or the `t` of `RateLimit: "api";r=0;t=12`.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = |name: &str, read: fn(&str) -> Option<u64>| read(headers.get(name)?.to_str().ok()?);
    let from_header = seconds(RETRY_AFTER.as_str(), |text| text.trim().parse().ok());
    let rate_limit = || {
        seconds("ratelimit", |text| {
            text.split(';').find_map(|part| part.trim().strip_prefix("t=")?.parse().ok())
        })
    };
    from_header.or_else(rate_limit).map(Duration::from_secs)
}

/// The failure of a connection that could not be made, or that ended.
pub(crate) fn broken(url: &Url, error: &(dyn Error + 'static)) -> Failure {
    let mut messages: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        // Many errors repeat the message of their source.
        if !messages.last().is_some_and(|last| last.contains(&text)) {
            messages.push(text);
        }
        next = error.source();
    }
    let is_dns = messages.iter().any(|message| message.contains("dns error"));
    match messages.pop() {
        Some(why) if is_dns => {
            Failure::Temporary { error: HubError::NoName { host: host(url), why }, wait: None }
        }
        why => unreachable(url, why.unwrap_or_default()),
    }
}

pub(crate) fn unreachable(url: &Url, why: impl Into<String>) -> Failure {
    Failure::Temporary { error: HubError::Unreachable { host: host(url), why: why.into() }, wait: None }
}

fn host(url: &Url) -> String {
    url.host_str().unwrap_or_default().to_owned()
}
