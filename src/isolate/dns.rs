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
