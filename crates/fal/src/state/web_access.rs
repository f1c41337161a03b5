//! Which host names a server without keys answers to, and which web pages may call it: the operator's lists, and what
//! needs no list because only this machine has it.

use std::net::IpAddr;
use url::{Host, Url};

/// Subdomains that select an API below any name of the server.
const API_SUBDOMAINS: [&str; 2] = ["queue.", "ws."];

/// Allows pages of every origin.
const ANY: &str = "*";

/// The origin of pages that have none: local files, sandboxed frames.
const OPAQUE: &str = "null";

/// Host names and origins that are allowed beside those of this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WebAccess {
    hosts: Vec<Host>,
    origins: Vec<String>,
}

impl WebAccess {
    /// Adds a host name or address that clients may call the server by.
    ///
    /// # Errors
    /// When it is neither.
    pub fn allow_host(&mut self, text: &str) -> Result<(), String> {
        match host_of(text) {
            Some(host) => self.hosts.push(host),
            None => return Err("give a host name or an address, such as gpu.lan".into()),
        }
        Ok(())
    }

    /// Adds an address that the server listens on.
    pub fn allow_address(&mut self, address: IpAddr) {
        self.hosts.push(match address {
            IpAddr::V4(ip) => Host::Ipv4(ip),
            IpAddr::V6(ip) => Host::Ipv6(ip),
        });
    }

    /// Adds an origin whose pages may call: `https://app.example`, `null`, or `*` for every page.
    ///
    /// # Errors
    /// When it is no origin.
    pub fn allow_origin(&mut self, text: &str) -> Result<(), String> {
        let known = if text == ANY { Some(ANY.to_owned()) } else { origin_of(text) };
        match known {
            Some(origin) => self.origins.push(origin),
            None => return Err("give an origin such as https://app.example, without a path, or `*`".into()),
        }
        Ok(())
    }

    /// May clients call the server by this host, given with or without a port?
    ///
    /// Names of the loopback interface and the lists are permitted, and `queue.` or `ws.` before any of them. A page
    /// whose own name was made to point here (DNS rebinding) sends that name, which is not among them.
    pub fn permits_host(&self, host: &str) -> bool {
        let listed =
            |text: &str| host_of(text).is_some_and(|host| is_loopback(&host) || self.hosts.contains(&host));
        listed(host) || API_SUBDOMAINS.iter().any(|sub| host.strip_prefix(sub).is_some_and(listed))
    }

    /// May pages of this origin call? Those of this machine's own servers may, so that browser applications work while
    /// they are developed.
    pub fn permits_origin(&self, origin: &str) -> bool {
        let Some(known) = origin_of(origin) else { return false };
        let is_local = Url::parse(&known).is_ok_and(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.host_str().and_then(host_of).is_some_and(|host| is_loopback(&host))
        });
        is_local || self.origins.iter().any(|allowed| *allowed == known || allowed == ANY)
    }
}

/// The host of an authority, whose port does not matter.
fn host_of(authority: &str) -> Option<Host> {
    let bare = match authority.rfind(':') {
        Some(at) if authority[at + 1..].bytes().all(|byte| byte.is_ascii_digit()) => &authority[..at],
        _ => authority,
    };
    match Host::parse(bare.strip_suffix('.').unwrap_or(bare)).ok()? {
        Host::Domain(name) => Some(Host::Domain(name.to_ascii_lowercase())),
        address => Some(address),
    }
}

fn is_loopback(host: &Host) -> bool {
    match host {
        Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => IpAddr::V6(*ip).to_canonical().is_loopback(),
    }
}

/// An origin in one spelling; `None` for what is not one.
fn origin_of(text: &str) -> Option<String> {
    if text == OPAQUE {
        return Some(OPAQUE.into());
    }
    let url = Url::parse(text).ok()?;
    let is_bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    let host = url.host_str().filter(|_| is_bare && url.username().is_empty())?;
    let port = url.port().map_or(String::new(), |port| format!(":{port}"));
    Some(format!("{}://{host}{port}", url.scheme()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(hosts: &[&str], origins: &[&str]) -> WebAccess {
        let mut access = WebAccess::default();
        hosts.iter().for_each(|host| access.allow_host(host).expect(host));
        origins.iter().for_each(|origin| access.allow_origin(origin).expect(origin));
        access
    }

    #[test]
    fn a_host_is_this_machine_or_listed() {
        let access = access(&["GPU.lan", "10.1.2.3", "[fd00::5]"], &[]);
        for host in [
            "localhost",
            "localhost:8080",
            "LOCALHOST.",
            "app.localhost:1",
            "queue.localhost",
            "127.0.0.1:8080",
            "127.8.8.8",
            "[::1]:8080",
            "[::ffff:127.0.0.1]",
            "gpu.lan:8080",
            "queue.gpu.lan",
            "ws.gpu.lan",
            "10.1.2.3",
            "[fd00::5]:1",
        ] {
            assert!(access.permits_host(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil-localhost",
            "queue.evil.example",
            "queue.",
            "sub.gpu.lan",
            "10.1.2.4",
            "169.254.169.254",
            "0.0.0.0:8080",
            "[::]",
        ] {
            assert!(!access.permits_host(host), "{host}");
        }
    }

    #[test]
    fn an_origin_is_local_or_listed() {
        let access =
            access(&[], &["https://App.example/", "https://port.example:444", "chrome-extension://abc"]);
        for origin in [
            "http://localhost:3000",
            "https://app.localhost",
            "http://127.0.0.1:1",
            "http://[::1]:5173",
            "https://app.example",
            "https://app.example:443",
            "https://port.example:444",
            "chrome-extension://abc",
        ] {
            assert!(access.permits_origin(origin), "{origin}");
        }
        for origin in [
            "null",
            "",
            "*",
            "http://app.example",
            "https://port.example",
            "https://sub.app.example",
            "http://localhost.evil.example",
            "http://evil.example",
            "chrome-extension://localhost",
            "file://",
        ] {
            assert!(!access.permits_origin(origin), "{origin}");
        }
        assert!(super::tests::access(&[], &["null"]).permits_origin("null"));
        assert!(super::tests::access(&[], &["*"]).permits_origin("https://anything.example"));
    }

    #[test]
    fn what_is_no_host_or_origin_is_refused() {
        for wrong in ["", "a b", "http://x/y"] {
            assert!(WebAccess::default().allow_host(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "app.example", "https://app.example/path", "https://u@app.example", "https://a?b"] {
            assert!(WebAccess::default().allow_origin(wrong).is_err(), "{wrong}");
        }
    }
}
