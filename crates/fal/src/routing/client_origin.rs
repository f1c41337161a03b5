//! How the client reached the server: by its request, or by the headers of a proxy that the operator trusts.

use crate::hosts;
use crate::output::error::ApiError;
use crate::routing::client_address::{client_address, is_trusted, peer};
use crate::state::Api;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use std::net::IpAddr;
use url::Url;

/// Marks the calls of connections that are encrypted: their URLs are `https`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Encrypted;

/// The server as its client sees it.
#[derive(Debug, Clone)]
pub(crate) struct ClientOrigin {
    /// Host and port, in small letters.
    pub(crate) host: String,
    /// Scheme, host and prefix, without a trailing slash.
    pub(crate) origin: String,
    /// Where the client is.
    pub(crate) address: Option<IpAddr>,
}

impl ClientOrigin {
    pub(crate) fn of(api: &Api, parts: &Parts) -> Result<Self, ApiError> {
        let is_trusted = peer(parts).is_some_and(|peer| is_trusted(&api.trusted_proxies, peer));
        let forwarded =
            if is_trusted { ForwardedHeaders::read(&parts.headers)? } else { ForwardedHeaders::default() };
        let is_encrypted = parts.extensions.get::<Encrypted>().is_some();
        let scheme = forwarded.scheme.unwrap_or(if is_encrypted { "https" } else { "http" });
        let host = match forwarded.host {
            Some(host) => host,
            None => own_host(parts)?,
        };
        let host = forwarded.port.map_or(host.clone(), |port| with_port(&host, port, scheme));
        let used = format!("{scheme}://{host}{}", forwarded.prefix);
        let origin = match &api.public_url {
            // Whoever called fal's own names can follow no others.
            Some(url) if !hosts::is_fal_origin(&used) => url.as_str().trim_end_matches('/').to_owned(),
            _ => used,
        };
        Ok(Self { host, origin, address: client_address(&api.trusted_proxies, parts) })
    }

    /// The path below this server that a URL names, if it names this server.
    pub(crate) fn path_of<'a>(&self, url: &'a Url) -> Option<&'a str> {
        let place = |url: &Url| (url.host_str().map(str::to_owned), url.port_or_known_default());
        let bases = [self.origin.clone(), format!("http://{}", self.host)];
        let mut ours = bases.iter().filter_map(|base| Url::parse(base).ok());
        let base = ours.find(|base| place(base) == place(url))?;
        let below = url.path().strip_prefix(base.path().trim_end_matches('/'));
        Some(below.filter(|rest| rest.starts_with('/')).unwrap_or(url.path()))
    }
}

/// The host that the request itself names, with its port.
fn own_host(parts: &Parts) -> Result<String, ApiError> {
    let named = parts.uri.authority().map(|authority| authority.as_str());
    let named = named.or_else(|| parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()));
    host(header::HOST.as_str(), named.unwrap_or("localhost"))
}

/// The client's address and origin from a proxy's headers. Of a list the last entry is that proxy's own; those before came with the
/// request.
#[derive(Default)]
struct ForwardedHeaders {
    scheme: Option<&'static str>,
    host: Option<String>,
    port: Option<u16>,
    prefix: String,
}

impl ForwardedHeaders {
    fn read(headers: &HeaderMap) -> Result<Self, ApiError> {
        let [proto, host_, port, prefix] =
            ["x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix"]
                .map(|name| (name, last(headers, name)));
        if [proto, host_, port, prefix].iter().all(|(_, value)| value.is_none()) {
            return Self::read_standard(headers);
        }
        let host = host_.1.map(|value| host(host_.0, value)).transpose()?;
        let has_port = host.as_deref().is_some_and(|host| port_at(host).is_some());
        let port = port.1.map(|value| value.parse().map_err(|_| wrong(port.0, "a port"))).transpose()?;
        Ok(Self {
            scheme: proto.1.map(|value| scheme(proto.0, value)).transpose()?,
            port: port.filter(|_| !has_port),
            host,
            prefix: prefix.1.map(|value| path(prefix.0, value)).transpose()?.unwrap_or_default(),
        })
    }

    /// RFC 7239: `Forwarded: for=…;host=…;proto=…`.
    fn read_standard(headers: &HeaderMap) -> Result<Self, ApiError> {
        const NAME: &str = "forwarded";
        let mut forwarded = Self::default();
        for pair in last(headers, NAME).unwrap_or_default().split(';') {
            let Some((name, value)) = pair.split_once('=') else { continue };
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "proto" => forwarded.scheme = Some(scheme(NAME, value)?),
                "host" => forwarded.host = Some(host(NAME, value)?),
                _ => {}
            }
        }
        Ok(forwarded)
    }
}

fn last<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    value.rsplit(',').next().map(str::trim).filter(|value| !value.is_empty())
}

fn wrong(name: &str, what: &str) -> ApiError {
    ApiError::BadRequest(format!("the {name} header is not {what}"))
}

fn scheme(name: &str, value: &str) -> Result<&'static str, ApiError> {
    match value.to_ascii_lowercase().as_str() {
        "http" | "ws" => Ok("http"),
        "https" | "wss" => Ok("https"),
        _ => Err(wrong(name, "http or https")),
    }
}

fn host(name: &str, value: &str) -> Result<String, ApiError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    match !value.is_empty() && value.bytes().all(plain) {
        true => Ok(value.to_ascii_lowercase()),
        false => Err(wrong(name, "a host name")),
    }
}

fn path(name: &str, value: &str) -> Result<String, ApiError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    match value.starts_with('/') && !value.starts_with("//") && value.bytes().all(plain) {
        true => Ok(value.trim_end_matches('/').to_owned()),
        false => Err(wrong(name, "a path such as /fal")),
    }
}

/// Where the port of a host begins, its colon included.
fn port_at(host: &str) -> Option<usize> {
    let at = host.rfind(':')?;
    host[at + 1..].bytes().all(|byte| byte.is_ascii_digit()).then_some(at)
}

/// The host with another port, which is left out where it is the default of the scheme.
fn with_port(host: &str, port: u16, scheme: &str) -> String {
    let bare = port_at(host).map_or(host, |at| &host[..at]);
    match (scheme, port) {
        ("http", 80) | ("https", 443) => bare.to_owned(),
        _ => format!("{bare}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    /// Scheme, host, port and prefix.
    type Read = (Option<&'static str>, Option<String>, Option<u16>, String);

    fn read(headers: &[(&'static str, &'static str)]) -> Result<Read, ()> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        ForwardedHeaders::read(&map)
            .map(|forwarded| (forwarded.scheme, forwarded.host, forwarded.port, forwarded.prefix))
            .map_err(|_| ())
    }

    #[test]
    fn the_last_word_of_a_list_counts() {
        let headers = [
            ("x-forwarded-host", "evil.example, Real.example"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-prefix", "/fal/"),
            ("forwarded", "host=evil"),
        ];
        let expected = (Some("https"), Some("real.example".into()), None, "/fal".into());
        assert_eq!(read(&headers), Ok(expected));
        let standard = [("forwarded", r#"for=1.2.3.4;host=evil, for="[::1]"; Proto=https; host="a:8443""#)];
        assert_eq!(read(&standard), Ok((Some("https"), Some("a:8443".into()), None, String::new())));
        assert_eq!(read(&[]), Ok((None, None, None, String::new())));
    }

    #[test]
    fn a_port_counts_unless_the_host_has_one() {
        let port = |host| {
            read(&[("x-forwarded-host", host), ("x-forwarded-port", "8443")]).map(|forwarded| forwarded.2)
        };
        assert_eq!((port("a"), port("[::1]"), port("a:1")), (Ok(Some(8443)), Ok(Some(8443)), Ok(None)));
        assert_eq!(with_port("[::1]", 8443, "https"), "[::1]:8443");
        assert_eq!(with_port("a:80", 443, "https"), "a");
        assert_eq!(with_port("a:8080", 443, "http"), "a:443");
    }

    #[test]
    fn what_makes_no_url_is_refused() {
        for (name, value) in [
            ("x-forwarded-proto", "ftp"),
            ("x-forwarded-host", "a/b"),
            ("x-forwarded-port", "70000"),
            ("x-forwarded-prefix", "fal"),
            ("x-forwarded-prefix", "//evil.example"),
            ("x-forwarded-prefix", "/a?b"),
            ("forwarded", "host=a@b"),
        ] {
            assert_eq!(read(&[(name, value)]), Err(()), "{name}: {value}");
        }
    }
}
