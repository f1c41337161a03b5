//! Calls to the hub about one repository: where redirects lead, what refusals mean, and when to try again.

use super::connect::{self, Http};
use super::error::{Failure, HubError};
use crate::config::HubConfig;
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

/// Longest pause between two tries that is not the server's wish.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Longest pause that a server is granted.
const MAX_WISH: Duration = Duration::from_secs(600);

/// Who asks about which repository.
pub(super) struct Client {
    pub(super) repository: String,
    pub(super) revision: String,
    pub(super) stall: Duration,
    http: Http,
    endpoint: Url,
    backoff: Duration,
    token: Option<Token>,
}

/// What the hub knows the user by.
struct Token {
    header: HeaderValue,
    /// Where it was found, for people.
    place: String,
}

impl Client {
    pub(super) fn new(hub: &HubConfig, repository: &str, revision: &str) -> Result<Self, HubError> {
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
    pub(super) fn url<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// The hub's host, for people.
    pub(super) fn host(&self) -> String {
        self.endpoint.host_str().unwrap_or_default().to_owned()
    }

    /// The answer to a GET, from a byte on, wherever redirects lead. The token goes to the hub alone.
    pub(super) async fn get(&self, url: &Url, from: u64) -> Result<Response<Incoming>, Failure> {
        let mut url = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.once(&url, from).await?;
            let status = response.status();
            let place = response.headers().get(LOCATION).filter(|_| status.is_redirection());
            let Some(place) =
                place.and_then(|place| url.join(&String::from_utf8_lossy(place.as_bytes())).ok())
            else {
                return if status.is_success() { Ok(response) } else { Err(self.refused(&url, &response)) };
            };
            if url.scheme() == "https" && place.scheme() != "https" {
                return Err(self.answer(&url, "a redirect out of TLS").into());
            }
            url = place;
        }
        Err(self.answer(&url, "one redirect after the other").into())
    }

    async fn once(&self, url: &Url, from: u64) -> Result<Response<Incoming>, Failure> {
        let mut request = Request::get(url.as_str())
            .header(USER_AGENT, concat!("latentd/", env!("CARGO_PKG_VERSION")))
            // What is packed has another length, and cannot be gone on with.
            .header(ACCEPT_ENCODING, "identity");
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        if let Some(token) = self.token.as_ref().filter(|_| url.origin() == self.endpoint.origin()) {
            request = request.header(AUTHORIZATION, token.header.clone());
        }
        let request = request.body(Empty::<Bytes>::new());
        let request = request.map_err(|_| self.answer(url, "a URL that cannot be called"))?;
        match tokio::time::timeout(self.stall, self.http.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(broken(url, &error)),
            Err(_) => Err(self.silent(url)),
        }
    }

    /// A small answer, whole.
    pub(super) async fn read(&self, url: &Url, limit: usize) -> Result<Vec<u8>, Failure> {
        let mut body = self.get(url, 0).await?.into_body();
        let mut bytes = Vec::new();
        loop {
            let frame = tokio::time::timeout(self.stall, body.frame()).await;
            let Some(frame) = frame.map_err(|_| self.silent(url))? else { return Ok(bytes) };
            let frame = frame.map_err(|error| broken(url, &error))?;
            bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
            if bytes.len() > limit {
                return Err(self.answer(url, "more than it should").into());
            }
        }
    }

    /// Tries, and tries again what may pass, with growing pauses.
    pub(super) async fn retry<T>(
        &self,
        tries: u32,
        mut attempt: impl AsyncFnMut() -> Result<T, Failure>,
    ) -> Result<T, HubError> {
        let mut failed = 0;
        loop {
            match attempt().await {
                Ok(value) => return Ok(value),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing { error, .. }) if failed + 1 >= tries => return Err(error),
                Err(Failure::Passing { wait, .. }) => {
                    failed += 1;
                    tokio::time::sleep(self.pause(failed, wait)).await;
                }
            }
        }
    }

    /// How long to wait after so many failures in a row.
    pub(super) fn pause(&self, failed: u32, wish: Option<Duration>) -> Duration {
        let doubled = self.backoff.saturating_mul(1 << failed.saturating_sub(1).min(10));
        wish.map_or(doubled.min(MAX_PAUSE), |wish| wish.min(MAX_WISH))
    }

    pub(super) fn silent(&self, url: &Url) -> Failure {
        unreachable(url, format!("not a byte for {} s", self.stall.as_secs_f32()))
    }

    pub(super) fn answer(&self, url: &Url, said: &str) -> HubError {
        HubError::Answer { host: host(url), said: said.into() }
    }

    /// What an answer means that is no success.
    fn refused(&self, url: &Url, response: &Response<Incoming>) -> Failure {
        use StatusCode as S;
        let (status, headers) = (response.status(), response.headers());
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (code, said) = (header("x-error-code"), header("x-error-message"));
        if [S::REQUEST_TIMEOUT, S::TOO_MANY_REQUESTS].contains(&status) || status.is_server_error() {
            let error = HubError::Unreachable { host: host(url), why: format!("it answered {status}") };
            return Failure::Passing { error, wait: wish(headers) };
        }
        let repository = self.repository.clone();
        let page = self.url(self.repository.split('/')).to_string();
        let tokens = self.url(["settings", "tokens"]).to_string();
        let place = self.token.as_ref().map(|token| token.place.clone());
        let is_gate = code == "GatedRepo";
        Failure::Final(match (status, code, place) {
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
            (S::UNAUTHORIZED, _, place) | (S::NOT_FOUND, "RepoNotFound", place) => {
                HubError::NotFound { repository, hub: self.host(), has_token: place.is_some() }
            }
            _ => self.answer(url, [status.as_str(), code, said].join(" ").trim_end()),
        })
    }
}

/// The variable's, or that of the file which `hf auth login` writes.
fn token(hub: &HubConfig) -> Result<Option<Token>, HubError> {
    let path = &hub.token_path;
    let (text, place) = match &hub.token {
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
        return Err(HubError::BadToken { token: place, tokens });
    };
    header.set_sensitive(true);
    Ok(Some(Token { header, place }))
}

/// How long a server asks to wait: `Retry-After`, or the `t` of `RateLimit: "api";r=0;t=12`.
fn wish(headers: &HeaderMap) -> Option<Duration> {
    let seconds = |name: &str, read: fn(&str) -> Option<u64>| read(headers.get(name)?.to_str().ok()?);
    let retry_after = seconds(RETRY_AFTER.as_str(), |text| text.trim().parse().ok());
    let rate_limit = || {
        seconds("ratelimit", |text| {
            text.split(';').find_map(|part| part.trim().strip_prefix("t=")?.parse().ok())
        })
    };
    retry_after.or_else(rate_limit).map(Duration::from_secs)
}

/// A connection that was not made, or that ended.
pub(super) fn broken(url: &Url, error: &(dyn Error + 'static)) -> Failure {
    let mut words: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        // Many errors repeat the one below them.
        if !words.last().is_some_and(|last| last.contains(&text)) {
            words.push(text);
        }
        next = error.source();
    }
    let is_name = words.iter().any(|word| word.contains("dns error"));
    match words.pop() {
        Some(why) if is_name => {
            Failure::Passing { error: HubError::NoName { host: host(url), why }, wait: None }
        }
        why => unreachable(url, why.unwrap_or_default()),
    }
}

pub(super) fn unreachable(url: &Url, why: impl Into<String>) -> Failure {
    Failure::Passing { error: HubError::Unreachable { host: host(url), why: why.into() }, wait: None }
}

fn host(url: &Url) -> String {
    url.host_str().unwrap_or_default().to_owned()
}
