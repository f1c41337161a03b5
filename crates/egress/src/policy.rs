//! Which addresses an untrusted URL may have: public ones, and those that the operator allows.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use url::{Host, Url};

/// The addresses that an untrusted URL may reach. The resolved address decides, not the host's name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Egress {
    loopback: bool,
    allowed: Vec<Allowed>,
}

/// An exception that the operator makes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Allowed {
    Net(IpNet),
    /// A name, whatever it resolves to.
    Name(String),
}

/// Blocks of IPv4 that are not the public internet (IANA's special-purpose registry).
const SPECIAL_V4: [(Ipv4Addr, u8); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Blocks inside the public part of IPv6, 2000::/3, that are not: tunnels, documentation, protocols.
const SPECIAL_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

impl Egress {
    /// The public internet and, with `loopback`, this machine: right when only this machine can call the server.
    pub fn new(loopback: bool) -> Self {
        Self { loopback, allowed: Vec::new() }
    }

    /// Adds an exception: an address, a block such as `10.0.0.0/8`, or a host name.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn allow(&mut self, text: &str) -> Result<(), String> {
        let net = text.parse().or_else(|_| text.trim_matches(['[', ']']).parse::<IpAddr>().map(IpNet::from));
        let allowed = match (net, Host::parse(text)) {
            (Ok(net), _) => Allowed::Net(net),
            (Err(_), Ok(Host::Domain(name))) => Allowed::Name(name),
            _ => return Err("give an address, a block such as 10.0.0.0/8, or a host name".into()),
        };
        self.allowed.push(allowed);
        Ok(())
    }

    /// Texts for [`Self::allow`] that make this policy of the default one, in another process.
    pub fn exceptions(&self) -> Vec<String> {
        let loopback = ["127.0.0.0/8", "::1/128"].map(str::to_owned).into_iter().filter(|_| self.loopback);
        let allowed = self.allowed.iter().map(|allowed| match allowed {
            Allowed::Net(net) => net.to_string(),
            Allowed::Name(name) => name.clone(),
        });
        loopback.chain(allowed).collect()
    }

    /// Whether the URL may be permitted, without resolving its name: `false` when it is refused for sure.
    pub fn permits_literal(&self, url: &Url) -> bool {
        match url.host() {
            Some(Host::Ipv4(ip)) => self.permits("", ip.into()),
            Some(Host::Ipv6(ip)) => self.permits("", ip.into()),
            Some(Host::Domain(name)) if name == "localhost" || name.ends_with(".localhost") => {
                self.permits(name, Ipv4Addr::LOCALHOST.into())
                    || self.permits(name, Ipv6Addr::LOCALHOST.into())
            }
            Some(Host::Domain(_)) => true,
            None => false,
        }
    }

    /// The addresses of a URL that may be connected to; the caller connects to these and no others.
    ///
    /// # Errors
    /// When the name has no address, or none that is permitted.
    pub async fn resolve(&self, url: &Url) -> Result<Vec<SocketAddr>, String> {
        let port = url.port_or_known_default().ok_or("the URL has no port")?;
        let (name, found) = match url.host().ok_or("the URL has no host")? {
            Host::Ipv4(ip) => (String::new(), vec![SocketAddr::from((ip, port))]),
            Host::Ipv6(ip) => (String::new(), vec![SocketAddr::from((ip, port))]),
            Host::Domain(name) => {
                let found = tokio::net::lookup_host((name, port)).await;
                let found = found.map_err(|error| format!("{name} has no address: {error}"))?;
                (name.to_owned(), found.collect())
            }
        };
        let permitted: Vec<_> =
            found.into_iter().filter(|address| self.permits(&name, address.ip())).collect();
        if permitted.is_empty() { Err("its address is not public".into()) } else { Ok(permitted) }
    }

    /// Whether this address may be called under this name.
    fn permits(&self, name: &str, ip: IpAddr) -> bool {
        let ip = v4_inside(ip);
        let excepted = self.allowed.iter().any(|allowed| match allowed {
            Allowed::Net(net) => net.contains(&ip),
            Allowed::Name(allowed) => allowed == name,
        });
        excepted || is_public(ip) || (self.loopback && ip.is_loopback())
    }
}

/// The IPv4 address that an IPv6 address stands for: IPv4-mapped, or behind NAT64.
fn v4_inside(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => match v6.segments() {
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                IpAddr::V4(Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low)))
            }
            _ => IpAddr::V6(v6),
        },
        v4 => v4,
    }
}

fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            !SPECIAL_V4.iter().any(|(net, bits)| ip.to_bits() >> (32 - bits) == net.to_bits() >> (32 - bits))
        }
        IpAddr::V6(ip) => {
            let within =
                |net: &Ipv6Addr, bits: u8| ip.to_bits() >> (128 - bits) == net.to_bits() >> (128 - bits);
            ip.segments()[0] >> 13 == 1 && !SPECIAL_V6.iter().any(|(net, bits)| within(net, *bits))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(host: &str) -> Url {
        Url::parse(&format!("http://{host}/hook")).expect("a URL")
    }

    #[test]
    fn only_the_public_internet_is_permitted() {
        let refused = [
            "127.0.0.1",
            "127.1",
            "0x7f.1",
            "2130706433",
            "0.0.0.0",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.100.100.200",
            "198.19.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "localhost",
            "x.localhost",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:10.0.0.1]",
            "[::7f00:1]",
            "[fe80::1]",
            "[fd00:ec2::254]",
            "[ff02::1]",
            "[64:ff9b::a9fe:a9fe]",
            "[2002:7f00:1::]",
            "[2001:db8::1]",
        ];
        let permitted = [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "[2606:4700::1111]",
            "[::ffff:1.1.1.1]",
            "[64:ff9b::101:101]",
            "example.com",
        ];
        let egress = Egress::default();
        for host in refused {
            assert!(!egress.permits_literal(&url(host)), "{host}");
        }
        for host in permitted {
            assert!(egress.permits_literal(&url(host)), "{host}");
        }
    }

    #[test]
    fn exceptions_reach_as_far_as_they_say() {
        let mut egress = Egress::default();
        for text in ["10.0.0.0/8", "192.168.1.5", "[fd00::1]", "Receiver.internal"] {
            egress.allow(text).expect(text);
        }
        for wrong in ["", "10.0.0.0/99", "http://x", "a b"] {
            assert!(egress.allow(wrong).is_err(), "{wrong}");
        }
        assert!(egress.permits_literal(&url("10.9.9.9")) && egress.permits_literal(&url("192.168.1.5")));
        assert!(
            egress.permits_literal(&url("[fd00::1]")) && egress.permits_literal(&url("[::ffff:10.0.0.1]"))
        );
        assert!(!egress.permits_literal(&url("192.168.1.6")) && !egress.permits_literal(&url("127.0.0.1")));
        assert!(egress.permits("receiver.internal", Ipv4Addr::new(192, 168, 7, 7).into()));
        assert!(!egress.permits("other.internal", Ipv4Addr::new(192, 168, 7, 7).into()));
        egress.loopback = true;
        assert!(
            egress.permits_literal(&url("127.0.0.1")) && !egress.permits_literal(&url("169.254.169.254"))
        );
    }

    #[test]
    fn another_process_can_be_given_the_policy() {
        let mut egress = Egress::new(true);
        for text in ["10.0.0.0/8", "fd00::1", "receiver.internal"] {
            egress.allow(text).expect(text);
        }
        let mut other = Egress::default();
        for text in egress.exceptions() {
            other.allow(&text).expect("an exception");
        }
        for host in
            ["127.0.0.1", "127.9.9.9", "localhost", "[::1]", "[::ffff:127.0.0.1]", "10.1.1.1", "[fd00::1]"]
        {
            assert!(egress.permits_literal(&url(host)) && other.permits_literal(&url(host)), "{host}");
        }
        assert!(other.permits("receiver.internal", Ipv4Addr::new(192, 168, 7, 7).into()));
        assert!(
            !other.permits_literal(&url("192.168.7.7")) && !other.permits_literal(&url("169.254.169.254"))
        );
    }

    #[tokio::test]
    async fn a_name_is_judged_by_the_address_it_has() {
        let mut egress = Egress::default();
        let error = egress.resolve(&url("localhost:1")).await.expect_err("refused");
        assert!(error.contains("not public"), "{error}");
        egress.loopback = true;
        let found = egress.resolve(&url("localhost:1")).await.expect("an address");
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 1), "{found:?}");
    }
}
