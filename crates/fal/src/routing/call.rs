//! One call, understood: its target, its query, and how its answer names URLs.

use crate::hosts;
use crate::output::error::ApiError;
use crate::routing::client_origin::Outside;
use crate::routing::target::{self, Mount, Target};
use crate::state::Api;
use crate::websocket::socket;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use latentd_queue::keys::Caller;
use latentd_queue::queue::RequestId;
use latentd_queue::storage::FileKey;
use std::borrow::Cow;
use url::Url;

/// Carries the URL that a client would have called, were it not set to call us.
const TARGET_URL: &str = "x-fal-target-url";

/// A call whose target is known. Has no `Debug`: the query may carry a token.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) target: Target,
    pub(crate) method: Method,
    pub(crate) links: Links,
    /// Who calls; nobody known until the call was let in.
    pub(crate) caller: Caller,
    outside: Outside,
    query: String,
}

/// Renders the URLs of an answer below the scheme, host and prefix that the client used.
#[derive(Debug, Clone)]
pub(crate) struct Links {
    origin: String,
    mount: Mount,
}

impl Call {
    /// Understands a call: by its own URL, or on the proxy path by the URL in its header.
    pub(crate) fn resolve(api: &Api, parts: &Parts) -> Result<Self, ApiError> {
        let outside = Outside::of(api, parts)?;
        let (target, mount) = match socket::is_asked(parts) {
            true => target::resolve_socket(&outside.host, parts.uri.path())?,
            false => target::resolve(&parts.method, &outside.host, parts.uri.path())?,
        };
        if target == Target::Proxy {
            return Self::proxied(parts, outside);
        }
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let (method, links) = (parts.method.clone(), Links { origin: outside.origin.clone(), mount });
        Ok(Self { target, method, links, caller: Caller::user(None), outside, query })
    }

    /// The header decides; it is read and never dialled.
    fn proxied(parts: &Parts, outside: Outside) -> Result<Self, ApiError> {
        let url = target_url(&parts.headers)?;
        let named = url.host_str().unwrap_or_default();
        let (prefix, host, path, fal) = match (named, outside.path_of(&url)) {
            ("queue.fal.run", _) => ("/queue", outside.host.as_str(), url.path(), true),
            ("fal.run", _) => ("/run", outside.host.as_str(), url.path(), true),
            ("rest.fal.ai" | "rest.alpha.fal.ai" | "v3.fal.media" | "api.fal.ai", _) => {
                ("", named, url.path(), true)
            }
            (_, Some(path)) => ("", outside.host.as_str(), path, false),
            (other, None) => {
                return Err(ApiError::BadRequest(format!(
                    "{TARGET_URL} names {other}, which is not served here"
                )));
            }
        };
        let (target, mount) = target::resolve(&parts.method, host, &format!("{prefix}{path}"))?;
        if target == Target::Proxy
            || (fal && matches!(target, Target::Live | Target::Ready | Target::Metrics))
        {
            return Err(ApiError::BadRequest(format!("{TARGET_URL} names the proxy itself")));
        }
        let query = url.query().unwrap_or_default().to_owned();
        let (method, links) = (parts.method.clone(), Links { origin: outside.origin.clone(), mount });
        Ok(Self { target, method, links, caller: Caller::user(None), outside, query })
    }

    /// The same call for a body that comes after the handshake, which was a GET.
    pub(crate) fn posted(self) -> Self {
        Self { method: Method::POST, ..self }
    }

    /// The file that a URL of this server names, or `None` inside where there can be none; outside, the URL is another's.
    pub(crate) fn own_file(&self, url: &Url) -> Option<Option<FileKey>> {
        let is_fals = url.host_str().is_some_and(hosts::is_fal);
        let path = if is_fals { url.path() } else { self.outside.path_of(url)? };
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

impl Links {
    /// The URL of a request; its other URLs lie below it.
    pub(crate) fn request(&self, application: &str, id: RequestId) -> String {
        format!("{}{}/{application}/requests/{id}", self.origin, self.mount.prefix())
    }

    /// Links below an origin that was written down when a client submitted.
    pub(crate) fn below(origin: String) -> Self {
        Self { origin, mount: Mount::Bare }
    }

    /// Where the client reached the server, without a trailing slash: what a path is put after.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// The path that the server's own paths lie below, for pages: without a trailing slash.
    pub(crate) fn root(&self) -> &str {
        let host = self.origin.find("://").map_or(0, |at| at + 3);
        self.origin[host..].find('/').map_or("", |at| &self.origin[host + at..])
    }

    /// Where the bytes of a file are sent.
    pub(crate) fn upload(&self, ticket: uuid::Uuid) -> String {
        format!("{}/storage/upload/{}", self.origin, ticket.simple())
    }

    /// The URL of a stored file.
    pub(crate) fn file(&self, key: &str) -> String {
        format!("{}/files/{key}", self.file_origin())
    }

    /// What the path of a file is put after: on fal, files have a host of their own.
    pub(crate) fn file_origin(&self) -> &str {
        if hosts::is_fal_origin(&self.origin) { hosts::FILE_ORIGIN } else { &self.origin }
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

/// `true` for calls that need no key.
pub(crate) fn is_public(method: &Method, target: &Target) -> bool {
    if let Target::Upload(upload) = target {
        return upload.brings_its_own_right();
    }
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let told_to_all =
        matches!(target, Target::Playground(_) | Target::Document | Target::Docs | Target::DocsAsset(_));
    let open = matches!(target, Target::File(_) | Target::SigningKeys | Target::Live | Target::Ready);
    reads && (told_to_all || open)
}
