//! The network inside: a loopback interface with an additional address, and the sockets that answer for fal's names.

use super::namespaces::refused;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send};
use rustix::net::{bind, connect, socket_with};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

/// The address of fal's names inside. It is of a block for documentation (RFC 5737), so no other network has it; it is no
/// loopback address, because resolvers that are asked for the families in use (`AI_ADDRCONFIG`) do not count those.
pub(super) const FAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Address of the name server inside, which is also the default of resolvers without `/etc/resolv.conf`.
pub(super) const NAME_SERVER: Ipv4Addr = Ipv4Addr::LOCALHOST;

pub(super) const HTTPS: u16 = 443;
const DOMAIN: u16 = 53;

/// Pause after a connection could not be accepted, usually because too many files are open.
pub(super) const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Sockets of the new network namespace. They belong to it whichever process holds them.
pub(super) struct Sockets {
    pub(super) https: TcpListener,
    pub(super) dns: UdpSocket,
    pub(super) dns_tcp: TcpListener,
}

impl Sockets {
    /// Sets the loopback interface of a new network namespace up and listens there.
    pub(super) fn open() -> anyhow::Result<Self> {
        bring_up().map_err(|error| refused("a loopback interface in a network namespace", error))?;
        let address = |ip: Ipv4Addr, port| SocketAddr::from((ip, port));
        let failed = |error| refused("a port in a network namespace", error);
        Ok(Self {
            https: TcpListener::bind(address(FAL, HTTPS)).map_err(failed)?,
            dns: UdpSocket::bind(address(NAME_SERVER, DOMAIN)).map_err(failed)?,
            dns_tcp: TcpListener::bind(address(NAME_SERVER, DOMAIN)).map_err(failed)?,
        })
    }
}

// Of rtnetlink(7), as the kernel numbers it.
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const IFF_UP: u32 = 1;
const AF_INET: u8 = 2;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// The loopback interface of every network namespace.
const LOOPBACK: u32 = 1;
/// Bytes of a message before its body.
const HEADER: usize = 16;

fn bring_up() -> io::Result<()> {
    let unspecified = [0; 4];
    let interface =
        [unspecified, LOOPBACK.to_ne_bytes(), IFF_UP.to_ne_bytes(), IFF_UP.to_ne_bytes()].concat();
    request(RTM_NEWLINK, 0, &interface)?;
    let whole_host = 32;
    let [local, address] = [IFA_LOCAL, IFA_ADDRESS].map(|kind| attribute(kind, FAL.octets()));
    let head = [AF_INET, whole_host, 0, 0];
    request(
        RTM_NEWADDR,
        NLM_F_CREATE | NLM_F_EXCL,
        &[&head, &LOOPBACK.to_ne_bytes()[..], &local, &address].concat(),
    )
}

fn attribute(kind: u16, value: [u8; 4]) -> Vec<u8> {
    [&8_u16.to_ne_bytes()[..], &kind.to_ne_bytes(), &value].concat()
}

/// Asks the kernel for a change and waits for its answer.
fn request(kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let kernel = netlink::SocketAddrNetlink::new(0, 0);
    bind(&socket, &kernel)?;
    connect(&socket, &kernel)?;
    let length = u32::try_from(HEADER + body.len()).expect("a short message");
    let (sequence, sender) = (1_u32, 0_u32);
    let mut message = length.to_ne_bytes().to_vec();
    message.extend([kind, NLM_F_REQUEST | NLM_F_ACK | flags].map(u16::to_ne_bytes).as_flattened());
    message.extend([sequence, sender].map(u32::to_ne_bytes).as_flattened());
    message.extend_from_slice(body);
    send(&socket, &message, SendFlags::empty())?;

    let mut answer = [0; 1024];
    let (length, _) = recv(&socket, &mut answer, RecvFlags::empty())?;
    match acknowledged(&answer[..length]) {
        Some(0) => Ok(()),
        Some(error) => Err(io::Error::from_raw_os_error(-error)),
        None => Err(io::Error::other("an answer that was not asked for")),
    }
}

/// The error number of an answer, negative; 0 is none.
fn acknowledged(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let error = i32::from_ne_bytes(answer.get(HEADER..HEADER + 4)?.try_into().ok()?);
    (kind == NLMSG_ERROR).then_some(error)
}
