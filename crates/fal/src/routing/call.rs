//! A call whose route was found: its target, its query and the URLs of its response.

use crate::hosts;
use crate::output::error::ApiError;
use crate::output::links::Links;
use crate::routing::call_span;
use crate::routing::client_origin::ClientOrigin;
use crate::routing::resolve::{Found, resolve, resolve_socket};
use crate::routing::table::Access;
use crate::routing::target::Target;
use crate::state::Api;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use latentd_queue::keys::Caller;
use latentd_queue::storage::FileKey;
use latentd_trace::Span;
use std::borrow::Cow;
use std::net::IpAddr;
use url::Url;

/// Carries the URL that a client would have called, were it not set to call us.
const TARGET_URL: &str = "x-fal-target-url";

/// A call whose target is known. Has no `Debug`: the query may carry a token.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) target: Target,
    /// Who may make it while the server has keys.
    pub(crate) access: Access,
    pub(crate) method: Method,
    pub(crate) links: Links,
    /// Who calls; no user until the call was authenticated.
    pub(crate) caller: Caller,
    /// Of a call that makes requests; on a web socket each message has one.
    pub(crate) span: Span,
    client: ClientOrigin,
    query: String,
}

impl Call {
    /// Understands a call: by its own URL, or on the proxy path by the URL in its header.
    pub(crate) fn resolve(api: &Api, parts: &Parts) -> Result<Self, ApiError> {
        let client = ClientOrigin::of(api, parts)?;
        let found = match asks_for_web_socket(parts) {
            true => resolve_socket(&client.host, parts.uri.path())?,
            false => resolve(&parts.method, &client.host, parts.uri.path())?,
        };
        if found.target == Target::Proxy {
            return Self::proxied(parts, client);
        }
        let query = parts.uri.query().unwrap_or_default().to_owned();
        Ok(Self::of(found, parts, client, query))
    }

    /// The header decides; it is read and never dialled.
    fn proxied(parts: &Parts, client: ClientOrigin) -> Result<Self, ApiError> {
        let url = target_url(&parts.headers)?;
        let named = url.host_str().unwrap_or_default();
        let (prefix, host, path, fal) = match (named, client.path_of(&url)) {
            ("queue.fal.run", _) => ("/queue", client.host.as_str(), url.path(), true),
            ("fal.run", _) => ("/run", client.host.as_str(), url.path(), true),
            ("rest.fal.ai" | "rest.alpha.fal.ai" | "v3.fal.media" | "api.fal.ai", _) => {
                ("", named, url.path(), true)
            }
            (_, Some(path)) => ("", client.host.as_str(), path, false),
            (other, None) => {
                return Err(ApiError::BadRequest(format!(
                    "{TARGET_URL} names {other}, which is not served here"
                )));
            }
        };
        let found = resolve(&parts.method, host, &format!("{prefix}{path}"))?;
        if found.target == Target::Proxy
            || (fal && matches!(found.target, Target::Live | Target::Ready | Target::Metrics))
        {
            return Err(ApiError::BadRequest(format!("{TARGET_URL} names the proxy itself")));
        }
        let query = url.query().unwrap_or_default().to_owned();
        Ok(Self::of(found, parts, client, query))
    }

    fn of(found: Found, parts: &Parts, client: ClientOrigin, query: String) -> Self {
        let Found { target, mount, route } = found;
        let (method, links) = (parts.method.clone(), Links { origin: client.origin.clone(), mount });
        let (access, caller, span) = (route.access, Caller::user(None), Span::default());
        Self { target, access, method, links, caller, span, client, query }
    }

    /// The same call for a body that comes after the handshake, which was a GET.
    pub(crate) fn posted(self) -> Self {
        Self { method: Method::POST, ..self }
    }

    /// The same call with its span, which begins here.
    pub(crate) fn traced(self, headers: &HeaderMap) -> Self {
        Self { span: call_span::begin(&self.target, &self.method, headers), ..self }
    }

    /// Where the client is.
    pub(crate) fn client_address(&self) -> Option<IpAddr> {
        self.client.address
    }

    /// The file that a URL of this server names, `Some(None)` where it names none; `None` for a URL of another server.
    pub(crate) fn own_file(&self, url: &Url) -> Option<Option<FileKey>> {
        let is_fals = url.host_str().is_some_and(hosts::is_fal);
        let path = if is_fals { url.path() } else { self.client.path_of(url)? };
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        Some(match segments.as_slice() {
            ["files", name] => FileKey::parse(name),
            _ => None,
        })
    }

    /// The value of a query parameter, decoded.
    pub(crate) fn parameter(&self, name: &str) -> Option<Cow<'_, str>> {
        self.parameters().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The parameters of the query, decoded.
    pub(crate) fn parameters(&self) -> url::form_urlencoded::Parse<'_> {
        url::form_urlencoded::parse(self.query.as_bytes())
    }

    /// Does a switch in the query read `1` or `true`?
    pub(crate) fn switch(&self, name: &str) -> bool {
        self.parameter(name).is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "1" | "true"))
    }
}

fn target_url(headers: &HeaderMap) -> Result<Url, ApiError> {
    let Some(value) = headers.get(TARGET_URL) else {
        return Err(ApiError::BadRequest(format!("the {TARGET_URL} header is missing")));
    };
    let url = value.to_str().ok().and_then(|text| Url::parse(text).ok());
    match url.filter(|url| matches!(url.scheme(), "http" | "https")) {
        Some(url) => Ok(url),
        None => Err(ApiError::BadRequest(format!("the {TARGET_URL} header is not a URL"))),
    }
}

/// `true` when the call is the handshake of a web socket.
fn asks_for_web_socket(parts: &Parts) -> bool {
    let upgrade = parts.headers.get(header::UPGRADE).map(|value| value.as_bytes());
    parts.method == Method::GET && upgrade.is_some_and(|name| name.eq_ignore_ascii_case(b"websocket"))
}
