//! The name servers of the system, asked for names that are not fal's with `--allow-network`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// A name server has this long, as resolvers give it.
const PATIENCE: Duration = Duration::from_secs(5);

const DOMAIN: u16 = 53;

/// Bytes of a datagram at most.
const MOST: usize = 65_535;

/// The system's name servers, the first to ask first.
pub(super) struct Upstream(Vec<SocketAddr>);

impl Upstream {
    /// Those of this machine, which the relay sees: it is outside of the namespaces.
    pub(super) fn of_the_system() -> Self {
        Self::parse(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
    }

    fn parse(resolv_conf: &str) -> Self {
        let address = |line: &str| {
            let mut words = line.split_whitespace();
            let name = words.next().filter(|word| *word == "nameserver").and(words.next())?;
            name.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, DOMAIN))
        };
        Self(resolv_conf.lines().filter_map(address).collect())
    }

    /// The answer of the first name server that gives one.
    pub(super) async fn ask(&self, query: &[u8], by_tcp: bool) -> Option<Vec<u8>> {
        for server in &self.0 {
            let asked = async {
                if by_tcp { Self::by_tcp(*server, query).await } else { Self::by_udp(*server, query).await }
            };
            if let Ok(Ok(answer)) = tokio::time::timeout(PATIENCE, asked).await {
                return Some(answer);
            }
        }
        None
    }

    async fn by_udp(server: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
        let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(server).await?;
        socket.send(query).await?;
        let mut answer = vec![0; MOST];
        let length = socket.recv(&mut answer).await?;
        answer.truncate(length);
        Ok(answer)
    }

    async fn by_tcp(server: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(server).await?;
        stream.write_u16(query.len().try_into().map_err(std::io::Error::other)?).await?;
        stream.write_all(query).await?;
        let mut answer = vec![0; stream.read_u16().await?.into()];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_those_of_the_file() {
        let Upstream(servers) = Upstream::parse(
            "# nameserver 1.1.1.1\nnameserver 10.0.0.1\noptions edns0\nnameserver ::1 \nnameserver x\n",
        );
        let expected: Vec<SocketAddr> =
            ["10.0.0.1:53", "[::1]:53"].map(|address| address.parse().expect("an address")).into();
        assert_eq!(servers, expected);
    }
}
