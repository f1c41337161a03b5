//! The name server inside: fal's names have one address. Other names have none, or are forwarded to the system's servers.

use super::network::{ACCEPT_RETRY_DELAY, FAL};
use super::upstream::Upstream;
use latentd_fal::is_fal;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// Seconds that a program may remember an address.
const TIME_TO_LIVE: u32 = 60;

/// Bytes of a query or an answer at most.
const MOST: usize = 4096;

/// A connection may be quiet for so long between queries.
const IDLE: Duration = Duration::from_secs(30);

/// Answers datagrams until the socket breaks.
pub(super) async fn datagrams(socket: UdpSocket, upstream: Option<Arc<Upstream>>) {
    let socket = Arc::new(socket);
    let mut query = [0; MOST];
    // An error of the socket may mean only that an earlier answer did not arrive, so the loop goes on.
    loop {
        let Ok((length, from)) = socket.recv_from(&mut query).await else { continue };
        let (query, socket, upstream) = (query[..length].to_vec(), socket.clone(), upstream.clone());
        tokio::spawn(async move {
            if let Some(answer) = answer(&query, upstream.as_deref(), false).await {
                let _ = socket.send_to(&answer, from).await;
            }
        });
    }
}

/// Answers connections, of queries whose answers are long.
pub(super) async fn connections(listener: TcpListener, upstream: Option<Arc<Upstream>>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            continue;
        };
        let upstream = upstream.clone();
        tokio::spawn(async move { connection(stream, upstream.as_deref()).await });
    }
}

async fn connection(mut stream: TcpStream, upstream: Option<&Upstream>) -> io::Result<()> {
    loop {
        let length = tokio::time::timeout(IDLE, stream.read_u16()).await??;
        let mut query = vec![0; length.into()];
        stream.read_exact(&mut query).await?;
        let Some(answer) = answer(&query, upstream, true).await else { return Ok(()) };
        stream.write_u16(answer.len().try_into().map_err(io::Error::other)?).await?;
        stream.write_all(&answer).await?;
    }
}

/// The answer to a query, if it is one.
async fn answer(query: &[u8], upstream: Option<&Upstream>, by_tcp: bool) -> Option<Vec<u8>> {
    let asked = Query::parse(query)?;
    match upstream {
        _ if is_fal(&asked.name) => Some(asked.answer(NO_ERROR, asked.wants_address().then_some(FAL))),
        Some(upstream) => upstream.ask(query, by_tcp).await,
        None => Some(asked.answer(NAME_ERROR, None)),
    }
}

// Of RFC 1035, section 4.1.1: flags of the header.
const RESPONSE: u16 = 1 << 15;
const OPERATION: u16 = 15 << 11;
const AUTHORITATIVE: u16 = 1 << 10;
const RECURSION_DESIRED: u16 = 1 << 8;
const RECURSION_AVAILABLE: u16 = 1 << 7;
const NO_ERROR: u16 = 0;
const NAME_ERROR: u16 = 3;

// Types and the class of addresses; and where the name of the question is, for the answer to mean the same.
const A: u16 = 1;
const ANY: u16 = 255;
const IN: u16 = 1;
const NAME_OF_QUESTION: u16 = 0xC000 | HEADER as u16;

/// Bytes of a header.
const HEADER: usize = 12;

/// Bytes of a label at most; larger numbers mean something else.
const LABEL: u8 = 63;

/// A query for one name. Its type may be any: programs ask for types that are younger than this code, and wait for as long as
/// they have patience where none answers.
struct Query<'a> {
    id: [u8; 2],
    flags: u16,
    name: String,
    kind: u16,
    question: &'a [u8],
}

impl<'a> Query<'a> {
    fn parse(query: &'a [u8]) -> Option<Self> {
        let number = |at: usize| Some(u16::from_be_bytes(query.get(at..at + 2)?.try_into().ok()?));
        let (flags, questions) = (number(2)?, number(4)?);
        if flags & (RESPONSE | OPERATION) != 0 || questions != 1 {
            return None;
        }
        let (mut name, mut at) = (Vec::new(), HEADER);
        loop {
            let length = *query.get(at)?;
            let label = query.get(at + 1..at + 1 + usize::from(length)).filter(|_| length <= LABEL)?;
            at += 1 + label.len();
            if label.is_empty() {
                break;
            }
            name.extend(label.iter().chain(b"."));
        }
        let (kind, _class) = (number(at)?, number(at + 2)?);
        let name = String::from_utf8_lossy(&name).into_owned();
        Some(Self { id: [query[0], query[1]], flags, name, kind, question: &query[HEADER..at + 4] })
    }

    fn wants_address(&self) -> bool {
        [A, ANY].contains(&self.kind)
    }

    fn answer(&self, code: u16, address: Option<Ipv4Addr>) -> Vec<u8> {
        let flags = RESPONSE | AUTHORITATIVE | RECURSION_AVAILABLE | (self.flags & RECURSION_DESIRED) | code;
        let (questions, answers) = (1, u16::from(address.is_some()));
        let mut answer = self.id.to_vec();
        answer.extend([flags, questions, answers, 0, 0].map(u16::to_be_bytes).as_flattened());
        answer.extend_from_slice(self.question);
        if let Some(address) = address {
            let bytes = address.octets();
            answer.extend([NAME_OF_QUESTION, A, IN].map(u16::to_be_bytes).as_flattened());
            answer.extend(TIME_TO_LIVE.to_be_bytes());
            answer.extend([0, 4]);
            answer.extend(bytes);
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A query as resolvers send it: one question, recursion desired.
    fn query(name: &str, kind: u16) -> Vec<u8> {
        let labels = name.split('.').map(|label| {
            let length = u8::try_from(label.len()).expect("a label");
            [&[length], label.as_bytes()].concat()
        });
        let labels: Vec<u8> = labels.flatten().collect();
        let head = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        [&head[..], &labels, &[0], &kind.to_be_bytes(), &[0, 1]].concat()
    }

    /// The code of an answer, and the addresses in it.
    async fn asked(name: &str, kind: u16) -> (u8, Vec<u8>) {
        let query = query(name, kind);
        let answer = answer(&query, None, false).await.expect("an answer");
        assert_eq!(answer[..2], query[..2], "the answer is to this query");
        assert_eq!(answer[2] & 0x81, 0x81, "it is an answer, recursion desired");
        let records = u16::from_be_bytes([answer[6], answer[7]]);
        let address = if records == 1 { answer[answer.len() - 4..].to_vec() } else { Vec::new() };
        (answer[3] & 15, address)
    }

    #[tokio::test]
    async fn fals_names_have_one_address_and_no_other_name_has_any() {
        let fal = FAL.octets().to_vec();
        for name in ["fal.run", "QUEUE.fal.Run", "rest.alpha.fal.ai", "v3.fal.media", "any.thing.falrun.com"]
        {
            assert_eq!(asked(name, A).await, (0, fal.clone()), "{name}");
        }
        for kind in [28, 15, 16, 65, 999] {
            assert_eq!(asked("fal.run", kind).await, (0, Vec::new()), "type {kind}");
        }
        for name in ["example.com", "notfal.run", "fal.run.example.com", "run", "localhost"] {
            assert_eq!(asked(name, A).await, (3, Vec::new()), "{name}");
        }
    }

    #[tokio::test]
    async fn what_is_no_query_has_no_answer() {
        let good = query("fal.run", 1);
        for length in 0..good.len() {
            assert_eq!(answer(&good[..length], None, false).await, None, "{length} bytes");
        }
        let mut response = good.clone();
        response[2] |= 0x80;
        assert_eq!(answer(&response, None, false).await, None, "two servers must not answer each other");
        let mut none = good.clone();
        none[5] = 0;
        assert_eq!(answer(&none[..12], None, false).await, None);
    }
}
