//! The name server inside: fal's names have one address, and no other name has any, unless others are asked for it.

use super::network::FAL;
use super::upstream::Upstream;
use crate::http::is_fal;
use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, OPCODE, Packet, QTYPE, RCODE, ResourceRecord, TYPE};
use std::io;
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

/// What is done with a query.
enum Decision {
    Answer(Vec<u8>),
    /// It is for a name that is not fal's.
    Pass,
    /// It is none.
    Drop,
}

/// Answers datagrams until the socket breaks.
pub(super) async fn datagrams(socket: UdpSocket, upstream: Option<Arc<Upstream>>) {
    let socket = Arc::new(socket);
    let mut query = [0; MOST];
    // The socket tells with an error that an earlier answer did not arrive; it goes on all the same.
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
            tokio::time::sleep(super::relay::ACCEPT_AGAIN).await;
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

/// The answer to a query, if it deserves one.
async fn answer(query: &[u8], upstream: Option<&Upstream>, by_tcp: bool) -> Option<Vec<u8>> {
    match (decide(query), upstream) {
        (Decision::Answer(answer), _) => Some(answer),
        (Decision::Pass, Some(upstream)) => upstream.ask(query, by_tcp).await,
        (Decision::Pass, None) => reply(&Packet::parse(query).ok()?, RCODE::NameError, None),
        (Decision::Drop, _) => None,
    }
}

fn decide(query: &[u8]) -> Decision {
    let Ok(packet) = Packet::parse(query) else { return Decision::Drop };
    if packet.has_flags(simple_dns::PacketFlag::RESPONSE) {
        return Decision::Drop;
    }
    let [question] = packet.questions.as_slice() else { return Decision::Drop };
    if packet.opcode() != OPCODE::StandardQuery || !is_fal(&question.qname.to_string()) {
        return Decision::Pass;
    }
    let has_address = matches!(question.qtype, QTYPE::TYPE(TYPE::A) | QTYPE::ANY);
    let name = question.qname.clone();
    let record = || ResourceRecord::new(name, CLASS::IN, TIME_TO_LIVE, RData::A(A { address: FAL.into() }));
    let answer = reply(&packet, RCODE::NoError, has_address.then(record));
    answer.map_or(Decision::Drop, Decision::Answer)
}

fn reply(query: &Packet<'_>, code: RCODE, record: Option<ResourceRecord<'_>>) -> Option<Vec<u8>> {
    let mut reply = Packet::new_reply(query.id());
    reply.set_flags(simple_dns::PacketFlag::RECURSION_AVAILABLE);
    if query.has_flags(simple_dns::PacketFlag::RECURSION_DESIRED) {
        reply.set_flags(simple_dns::PacketFlag::RECURSION_DESIRED);
    }
    *reply.rcode_mut() = code;
    reply.questions.clone_from(&query.questions);
    reply.answers.extend(record);
    reply.build_bytes_vec_compressed().ok()
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
        const A: u16 = 1;
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
