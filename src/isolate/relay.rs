//! The relay of `latentd run`: a process outside of the namespaces that carries bytes from the sockets inside to the
//! server. It ends with the last process inside.

use super::dns;
use super::handover::{receive, send};
use super::network::{ACCEPT_RETRY_DELAY, Sockets};
use super::pasta::Pasta;
use super::upstream::Upstream;
use crate::args::RelayArgs;
use crate::config::StoreConfig;
use crate::intercept::{self, Running};
use crate::queue::Database;
use anyhow::{Context, bail};
use rustix::fs::inotify;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde::{Deserialize, Serialize};
use std::io;
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

/// This very program, also when its file was replaced.
pub(super) const OWN_EXECUTABLE: &str = "/proc/self/exe";

/// A server on this machine accepts at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection has this long for its first byte.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(30);

/// The first byte of TLS. The server's port is a proxy for what begins otherwise, which could lead elsewhere.
const TLS_HANDSHAKE: u8 = 0x16;

/// The server that fal's names lead to.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    /// It asks for a key.
    pub(super) needs_key: bool,
}

/// A message of the relay.
#[derive(Debug, Serialize, Deserialize)]
enum Report {
    Ready(Server),
    Connected,
    Failed(String),
}

/// The relay, to the process that becomes the program.
pub(super) struct Relay(OwnedFd);

impl Relay {
    /// Starts it, and waits until it has found the server.
    pub(super) fn start(store: &StoreConfig, allow_network: bool) -> anyhow::Result<(Self, Server)> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let mut command = Command::new(OWN_EXECUTABLE);
        command.arg0("latentd").arg("relay");
        command.arg("--data-dir").arg(std::path::absolute(&store.data_dir)?);
        // Not an argument: it may hold a password, and arguments are visible to other users.
        command.env("LATENTD_DATABASE_URL", store.database.url());
        command.env_remove("LATENTD_DATABASE_URL_FILE").env_remove("LATENTD_CONFIG");
        if allow_network {
            command.arg("--allow-network");
        }
        // Only to start another, which then is no child of the program: it must not find one that it did not start.
        let status = command.stdin(theirs).stdout(Stdio::null()).status().context("the relay")?;
        if !status.success() {
            bail!("the relay did not start: {status}");
        }
        let relay = Self(ours);
        match relay.receive_report()? {
            Report::Ready(server) => Ok((relay, server)),
            other => bail!("the relay reported {other:?}"),
        }
    }

    /// Hands over the sockets inside, and waits until they are answered. `lifetime` is a directory that is gone when the
    /// program is.
    pub(super) fn connect(self, sockets: &Sockets, lifetime: &OwnedFd) -> anyhow::Result<()> {
        let files = [sockets.https.as_fd(), sockets.dns.as_fd(), sockets.dns_tcp.as_fd(), lifetime.as_fd()];
        send(&self.0, &std::process::id(), &files).context("the relay")?;
        match self.receive_report()? {
            Report::Connected => Ok(()),
            other => bail!("the relay reported {other:?}"),
        }
    }

    fn receive_report(&self) -> anyhow::Result<Report> {
        match receive(&self.0).context("the relay")? {
            Some((Report::Failed(why), _)) => bail!(why),
            Some((report, _)) => Ok(report),
            None => bail!("the relay ended before it was ready"),
        }
    }
}

/// `latentd relay`, whose standard input is a socket to `latentd run`.
///
/// # Errors
/// When the first of the two processes cannot start the second. Later failures are reported by `latentd run`.
pub(crate) fn relay(args: RelayArgs, runtime: impl FnOnce() -> io::Result<Runtime>) -> anyhow::Result<()> {
    if !args.detached {
        let mut command = Command::new(OWN_EXECUTABLE);
        command.arg0("latentd").args(std::env::args_os().skip(1)).arg("--detached");
        // Neither what a terminal sends to the program nor its directory is this process's.
        command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).current_dir("/");
        command.spawn()?;
        return Ok(());
    }
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    let carried = carry(&socket, args, &runtime()?);
    if let Err(error) = &carried {
        send(&socket, &Report::Failed(format!("{error:#}")), &[])?;
    }
    carried
}

/// Finds the server, takes the sockets inside, and carries until the program is gone.
fn carry(socket: &OwnedFd, args: RelayArgs, runtime: &Runtime) -> anyhow::Result<()> {
    let RelayArgs { data_dir, database, allow_network, .. } = args;
    send(socket, &Report::Ready(runtime.block_on(find(&data_dir, &database.parse()?))?), &[])?;
    let Some((program, files)) = receive::<u32>(socket)? else { return Ok(()) };
    let files: [OwnedFd; 4] = files.try_into().ok().context("files are missing in the message")?;
    let [https, dns, dns_tcp, lifetime] = files;
    let gone = watch(&lifetime)?;
    drop(lifetime);
    let (https, dns, dns_tcp) = (TcpListener::from(https), UdpSocket::from(dns), TcpListener::from(dns_tcp));
    https.set_nonblocking(true)?;
    dns.set_nonblocking(true)?;
    dns_tcp.set_nonblocking(true)?;
    runtime.block_on(async {
        let _pasta = if allow_network { Some(Pasta::start(program).await?) } else { None };
        let upstream = allow_network.then(|| Arc::new(Upstream::of_the_system()));
        let https = tokio::net::TcpListener::from_std(https)?;
        tokio::spawn(dns::datagrams(tokio::net::UdpSocket::from_std(dns)?, upstream.clone()));
        tokio::spawn(dns::connections(tokio::net::TcpListener::from_std(dns_tcp)?, upstream));
        tokio::spawn(connections(https, data_dir));
        send(socket, &Report::Connected, &[])?;
        tokio::task::spawn_blocking(move || wait(gone)).await??;
        Ok(())
    })
}

/// A descriptor that is readable when the file system of a directory is gone, which is when the last process of its mount
/// namespace is.
fn watch(directory: &OwnedFd) -> io::Result<OwnedFd> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC)?;
    let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
    inotify::add_watch(&watch, path, inotify::WatchFlags::DELETE_SELF)?;
    Ok(watch)
}

fn wait(watch: OwnedFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); 1024];
    inotify::Reader::new(watch, &mut space).next()?;
    Ok(())
}

/// The server of a data directory, if it is there.
async fn find(data_dir: &Path, database: &Database) -> anyhow::Result<Server> {
    let place = data_dir.display();
    let Some(Running { address, needs_key }) =
        intercept::running(data_dir).with_context(|| format!("data directory {place}"))?
    else {
        bail!(
            "no server ran with --intercept in {place}: start `latentd serve --intercept`, or give the --data-dir of the one that runs"
        );
    };
    let reached = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
    if !matches!(reached, Ok(Ok(_))) {
        bail!("no server listens on {address}: start `latentd serve --intercept {address}`");
    }
    let needs_key = needs_key || intercept::env::has_keys(database).await?;
    Ok(Server { address, needs_key })
}

async fn connections(listener: tokio::net::TcpListener, data_dir: PathBuf) {
    let data_dir = Arc::new(data_dir);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let data_dir = data_dir.clone();
                tokio::spawn(async move { connection(stream, &data_dir).await });
            }
            Err(_) => tokio::time::sleep(ACCEPT_RETRY_DELAY).await,
        }
    }
}

/// Carries one connection. Where the server is gone it just ends: it began with TLS, in which only the server can answer.
async fn connection(mut inside: TcpStream, data_dir: &Path) -> io::Result<()> {
    let mut first = [0];
    let peeked = tokio::time::timeout(FIRST_BYTE_TIMEOUT, inside.peek(&mut first)).await;
    if !matches!(peeked, Ok(Ok(1))) || first != [TLS_HANDSHAKE] {
        return Ok(());
    }
    // The server may have been started again, elsewhere.
    let Some(Running { address, .. }) = intercept::running(data_dir)? else { return Ok(()) };
    let mut outside = TcpStream::connect(address).await?;
    inside.set_nodelay(true)?;
    outside.set_nodelay(true)?;
    copy_bidirectional(&mut inside, &mut outside).await.map(drop)
}
