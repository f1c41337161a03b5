//! The address of a client: that of the connection, or behind proxies that the operator trusts the one that they name.

use crate::server::peer::Peer;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// The client's address; `None` for a call that came over no connection.
pub(crate) fn client_address(trusted: &[IpNet], parts: &Parts) -> Option<IpAddr> {
    let peer = peer(parts)?;
    if !is_trusted(trusted, peer) {
        return Some(peer);
    }
    Some(named(trusted, &parts.headers).unwrap_or(peer))
}

/// The other end of the connection.
pub(crate) fn peer(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<Peer>().map(|peer| peer.0.to_canonical())
}

pub(crate) fn is_trusted(trusted: &[IpNet], address: IpAddr) -> bool {
    trusted.iter().any(|net| net.contains(&address))
}

/// Each proxy adds the address that called it at the end: the last one that is no trusted proxy's is the client's, since
/// what stands before it may be the client's own invention.
fn named(trusted: &[IpNet], headers: &HeaderMap) -> Option<IpAddr> {
    let mut client = None;
    for address in listed(headers).iter().rev() {
        client = Some(address.as_deref().and_then(parse)?);
        if client.is_some_and(|client| !is_trusted(trusted, client)) {
            break;
        }
    }
    client
}

/// The addresses of `X-Forwarded-For`, or else those of `Forwarded` (RFC 7239), as they are written.
fn listed(headers: &HeaderMap) -> Vec<Option<String>> {
    let all = |name: &str| {
        let lines = headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default().to_owned());
        lines.collect::<Vec<_>>().join(",")
    };
    let entries = |text: &str| text.split(',').map(|entry| entry.trim().to_owned()).collect::<Vec<_>>();
    if headers.contains_key("x-forwarded-for") {
        return entries(&all("x-forwarded-for")).into_iter().map(Some).collect();
    }
    if !headers.contains_key("forwarded") {
        return Vec::new();
    }
    let node = |entry: String| {
        let mut pairs = entry.split(';').filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
        Some(value.trim().trim_matches('"').to_owned())
    };
    entries(&all("forwarded")).into_iter().map(node).collect()
}

/// An address, with or without a port.
fn parse(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()))?;
    Some(IpAddr::to_canonical(&address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderValue, Request};

    fn address(peer: &str, headers: &[(&'static str, &'static str)]) -> String {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.extensions.insert(Peer(peer.parse().expect("an address")));
        for (name, value) in headers {
            parts.headers.append(*name, HeaderValue::from_static(value));
        }
        let trusted = ["10.0.0.0/8", "::1/128"].map(|net| net.parse().expect("a network"));
        client_address(&trusted, &parts).expect("a connection").to_string()
    }

    #[test]
    fn the_last_address_that_is_no_trusted_proxys_is_the_clients() {
        let list = "x-forwarded-for";
        for (peer, headers, client) in [
            ("192.0.2.1", &[][..], "192.0.2.1"),
            ("::ffff:192.0.2.1", &[], "192.0.2.1"),
            ("192.0.2.1", &[(list, "198.51.100.1")], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &[(list, "198.51.100.1")], "198.51.100.1"),
            ("10.0.0.1", &[(list, "1.1.1.1, 198.51.100.1, 10.0.0.2")], "198.51.100.1"),
            ("10.0.0.1", &[(list, "1.1.1.1"), (list, "198.51.100.1:443")], "198.51.100.1"),
            ("10.0.0.1", &[(list, "10.0.0.3, 10.0.0.2")], "10.0.0.3"),
            ("10.0.0.1", &[(list, "198.51.100.1, nobody")], "10.0.0.1"),
            ("::1", &[("forwarded", "for=1.1.1.1, For=\"[2001:db8::1]:80\";proto=https")], "2001:db8::1"),
            ("::1", &[("forwarded", "for=unknown")], "::1"),
            ("::1", &[("forwarded", "proto=https")], "::1"),
        ] {
            assert_eq!(address(peer, headers), client, "{peer} {headers:?}");
        }
    }
}
