//! The check of every call, preflight requests included: it must name one host, and while the server has no keys, its host
//! and web page must be allowed.
//!
//! A browser sends requests to this machine for any page, and names their origin to the server alone. A call that is
//! refused here gets no CORS headers, so that no page can read even the refusal.

use crate::hosts;
use crate::output::barred::Barred;
use crate::output::error::ApiError;
use crate::output::openai_error;
use crate::output::request_id::name_answer;
use crate::routing::client_origin::ClientOrigin;
use crate::routing::resolve::resolve;
use crate::routing::table::Access;
use crate::state::Api;
use crate::state::web_access::WebAccess;
use axum::body::Body;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, Method, Request, Version, header};
use axum::middleware::Next;
use axum::response::Response;
use std::sync::Arc;

/// The relation of the calling page to the server, as browsers send it.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// `navigate`: the answer becomes a page, and no other page can read it.
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
/// `document`: the whole tab, not a frame of another page.
const FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// Content types that a page can send to any server without asking it first (Fetch, CORS-safelisted request headers).
const SAFELISTED: [&str; 3] = ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"];

/// Refuses a call, or hands it on.
pub(crate) async fn guard(State(api): State<Arc<Api>>, request: Request<Body>, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match check(&api, &parts) {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(error) => {
            api.refusals.count(&error);
            if let ApiError::Barred(barred) = &error {
                api.refusals.warn_once(barred);
            }
            let path = parts.uri.path();
            openai_error::name_answer(path, name_answer(openai_error::answer(path, error)))
        }
    }
}

fn check(api: &Api, parts: &Parts) -> Result<(), ApiError> {
    let host = one_host(parts)?;
    if !api.keys.is_open() {
        return Ok(());
    }
    let client = ClientOrigin::of(api, parts)?;
    let named = host.unwrap_or(&client.host).to_ascii_lowercase();
    let hosts = [named.as_str(), client.host.as_str()];
    decide(&api.web, hosts, &parts.method, parts.uri.path(), &parts.headers).map_err(ApiError::Barred)
}

/// The host that a request names: exactly one (RFC 9112, 3.2). Only HTTP/1.0 may leave it out.
fn one_host(parts: &Parts) -> Result<Option<&str>, ApiError> {
    let wrong = |what: &str| Err(ApiError::BadRequest(format!("the request has {what} Host header")));
    let mut sent = parts.headers.get_all(header::HOST).iter();
    match (sent.next(), sent.next()) {
        (Some(_), Some(_)) => wrong("more than one"),
        (Some(host), None) => match host.to_str() {
            Ok(host) if !host.is_empty() => Ok(Some(host)),
            _ => wrong("an empty or unreadable"),
        },
        (None, _) if parts.version <= Version::HTTP_10 || parts.uri.authority().is_some() => Ok(None),
        (None, _) => wrong("no"),
    }
}

/// May this call use a server without keys? `hosts` are those that the request itself and a trusted proxy name.
fn decide(
    web: &WebAccess,
    hosts: [&str; 2],
    method: &Method,
    path: &str,
    headers: &HeaderMap,
) -> Result<(), Barred> {
    if let Some(host) = hosts.iter().find(|host| !hosts::is_fal_host(host) && !web.permits_host(host)) {
        return Err(Barred::Host((*host).to_owned()));
    }
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let (origin, site) = (text(header::ORIGIN), text(FETCH_SITE));
    let is_own = match origin {
        Some(origin) => origin.split_once("://").is_some_and(|(_, authority)| hosts.contains(&authority)),
        None => site == Some("same-origin"),
    };
    let is_foreign = match (origin, site) {
        (Some(origin), _) => !is_own && !web.permits_origin(origin),
        // `none`: somebody typed the address. Without the header it is no browser, or one of before 2023.
        (None, site) => !matches!(site, None | Some("same-origin" | "none")),
    };
    if is_foreign && !may_be_read_by_all(hosts[1], method, path, headers) {
        return Err(Barred::Origin(origin.map(str::to_owned)));
    }
    let is_browser = origin.is_some()
        || site.is_some()
        || text(header::USER_AGENT).is_some_and(|agent| agent.starts_with("Mozilla/"));
    if is_browser && !is_own && *method == Method::POST && is_safelisted(text(header::CONTENT_TYPE)) {
        return Err(Barred::ContentType);
    }
    Ok(())
}

/// Files, to whoever knows their name; and public pages, when a link elsewhere opens them.
fn may_be_read_by_all(host: &str, method: &Method, path: &str, headers: &HeaderMap) -> bool {
    let is_preflight = *method == Method::OPTIONS;
    let asked = headers.get(header::ACCESS_CONTROL_REQUEST_METHOD).filter(|_| is_preflight);
    let method = match asked.map(|name| Method::from_bytes(name.as_bytes())) {
        None => method.clone(),
        Some(Ok(method)) => method,
        Some(Err(_)) => return false,
    };
    let Ok(found) = resolve(&method, host, path) else { return false };
    let is = |name: HeaderName, value: &str| headers.get(name).is_some_and(|sent| sent == value);
    let is_opened = is(FETCH_MODE, "navigate") && is(FETCH_DEST, "document");
    let is_read = matches!(method, Method::GET | Method::HEAD);
    match found.route.access {
        Access::File => is_read,
        Access::Public => is_read && is_opened && !headers.contains_key(header::ORIGIN),
        _ => false,
    }
}

/// Can a page send a body of this type, or without one, to any server?
fn is_safelisted(content_type: Option<&str>) -> bool {
    let essence =
        content_type.map(|text| text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    essence.is_none_or(|essence| essence.is_empty() || SAFELISTED.contains(&essence.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    const PNG: &str = "/files/0123456789abcdef0123456789abcdef.png";
    const RUN: &str = "/run/a/b";
    const JSON: (&str, &str) = ("content-type", "application/json");
    const LINK: [(&str, &str); 3] =
        [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];

    /// The decision on a call to `host`: "ok", or the reason of the refusal.
    fn decided(host: &str, method: Method, path: &str, headers: &[(&'static str, &str)]) -> &'static str {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        let mut web = WebAccess::default();
        web.allow_origin("https://app.example").expect("an origin");
        web.allow_host("gpu.lan").expect("a host");
        decide(&web, [host, host], &method, path, &map).err().map_or("ok", |barred| barred.reason())
    }

    #[test]
    fn programs_that_are_no_browsers_are_let_in_by_every_name_of_the_server() {
        for host in [
            "localhost:8080",
            "127.0.0.1:8080",
            "gpu.lan",
            "queue.fal.run",
            "rest.fal.ai:443",
            "queue.gpu.lan",
        ] {
            assert_eq!(decided(host, Method::POST, RUN, &[JSON]), "ok", "{host}");
        }
        // What curl -d, Node and httpx send.
        for headers in [
            &[("content-type", "application/x-www-form-urlencoded"), ("user-agent", "curl/8")][..],
            &[("sec-fetch-mode", "cors"), ("user-agent", "node"), JSON][..],
            &[][..],
        ] {
            assert_eq!(decided("127.0.0.1:8080", Method::POST, RUN, headers), "ok", "{headers:?}");
        }
    }

    #[test]
    fn a_name_that_was_made_to_point_here_is_not_the_servers() {
        for host in
            ["evil.example", "evil.example:8080", "queue.evil.example", "fal.run.evil.example", "10.0.0.1"]
        {
            for (method, path) in
                [(Method::GET, "/"), (Method::GET, PNG), (Method::POST, RUN), (Method::OPTIONS, RUN)]
            {
                assert_eq!(
                    decided(host, method, path, &[("sec-fetch-site", "same-origin")]),
                    "unknown_host",
                    "{host}"
                );
            }
        }
        let forwarded = decide(
            &WebAccess::default(),
            ["127.0.0.1", "evil.example"],
            &Method::GET,
            "/",
            &HeaderMap::new(),
        );
        assert_eq!(forwarded, Err(Barred::Host("evil.example".into())));
    }

    #[test]
    fn pages_are_distinguished_by_their_origin() {
        let own = ("origin", "http://gpu.lan:8080");
        let cases: [(&[(&'static str, &str)], &str); 12] = [
            (&[own, JSON], "ok"),
            (&[own, ("content-type", "text/plain")], "ok"),
            (&[("origin", "https://gpu.lan:8080"), JSON], "ok"),
            (&[("origin", "http://localhost:3000"), ("sec-fetch-site", "cross-site"), JSON], "ok"),
            (&[("origin", "https://app.example"), ("sec-fetch-site", "cross-site"), JSON], "ok"),
            (
                &[("origin", "https://app.example"), ("content-type", "text/plain;charset=UTF-8")],
                "content_type",
            ),
            (&[("origin", "http://localhost:3000")], "content_type"),
            (&[("origin", "https://evil.example"), JSON], "foreign_origin"),
            (
                &[("origin", "https://evil.example"), ("sec-fetch-site", "same-origin"), JSON],
                "foreign_origin",
            ),
            (&[("origin", "http://gpu.lan:9090"), ("sec-fetch-site", "same-site"), JSON], "foreign_origin"),
            (&[("origin", "null"), JSON], "foreign_origin"),
            (&[("user-agent", "Mozilla/5.0"), ("content-type", "text/plain")], "content_type"),
        ];
        for (headers, expected) in cases {
            assert_eq!(decided("gpu.lan:8080", Method::POST, RUN, headers), expected, "{headers:?}");
        }
    }

    #[test]
    fn what_a_foreign_page_may_still_do_is_show_files_and_link_to_pages() {
        let site = ("sec-fetch-site", "cross-site");
        let evil = ("origin", "https://evil.example");
        type Case<'a> = (Method, &'a str, &'a [(&'static str, &'a str)], &'a str);
        let cases: [Case<'_>; 14] = [
            (Method::GET, PNG, &[site], "ok"),
            (Method::GET, PNG, &[evil], "ok"),
            (Method::OPTIONS, PNG, &[evil, ("access-control-request-method", "GET")], "ok"),
            (Method::OPTIONS, PNG, &[evil, ("access-control-request-method", "PUT")], "foreign_origin"),
            (Method::GET, "/", &LINK, "ok"),
            (Method::GET, "/docs", &LINK, "ok"),
            (Method::GET, "/", &[site], "foreign_origin"),
            (Method::GET, "/health", &[evil], "foreign_origin"),
            (Method::GET, "/metrics", &[evil], "foreign_origin"),
            (Method::GET, "/run/a/b?prompt=x", &LINK, "foreign_origin"),
            (Method::GET, RUN, &[site], "foreign_origin"),
            (Method::GET, "/a/b/realtime", &[evil, ("upgrade", "websocket")], "foreign_origin"),
            (Method::OPTIONS, RUN, &[evil, ("access-control-request-method", "POST")], "foreign_origin"),
            (Method::PUT, "/storage/upload/00000000-0000-4000-8000-000000000000", &[evil], "foreign_origin"),
        ];
        for (method, path, headers, expected) in cases {
            assert_eq!(
                decided("127.0.0.1:8080", method.clone(), path, headers),
                expected,
                "{method} {path} {headers:?}"
            );
        }
    }
}
