//! The rest of the network for `--allow-network`: pasta, of the package `passt`, connects a network namespace with the
//! network of this machine, as an ordinary user.

use super::network::HTTPS;
use anyhow::{Context, bail};
use rustix::process::geteuid;
use std::io::ErrorKind;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

/// How often it is looked whether pasta is ready.
const POLL: Duration = Duration::from_millis(10);

/// Where a process has its routes, of IPv4 and IPv6, and how a default route begins there.
const ROUTES: [(&str, &str); 2] =
    [("route", "00000000"), ("ipv6_route", "00000000000000000000000000000000 00 ")];

/// A running pasta. It ends with this value.
pub(super) struct Pasta {
    _child: Child,
}

impl Pasta {
    /// Connects the network namespace of a process, and waits until it has a route.
    pub(super) async fn start(program: u32) -> anyhow::Result<Self> {
        let mut command = Command::new("pasta");
        command.args(["--foreground", "--quiet", "--stderr", "--config-net"]);
        // Ports of this machine's loopback interface are ports of the program's, too; this machine is not its gateway.
        command.args(["-T", "auto", "-U", "none", "-u", "none", "--no-map-gw"]);
        command.args(["-t", if may_take_low_ports() { "none" } else { "auto" }]);
        if geteuid().is_root() {
            command.args(["--runas", "0"]);
        }
        command.args(["--userns", &format!("/proc/{program}/ns/user")]);
        command.args(["--netns", &format!("/proc/{program}/ns/net")]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                anyhow::anyhow!("--allow-network needs pasta: install the package `passt`")
            }
            _ => anyhow::Error::new(error).context("pasta"),
        })?;
        let mut said = child.stderr.take().context("pasta's output")?;
        while !has_route(program) {
            if child.try_wait()?.is_some() {
                let mut text = String::new();
                said.read_to_string(&mut text).await?;
                bail!("--allow-network: pasta ended: {}", text.trim());
            }
            tokio::time::sleep(POLL).await;
        }
        // It must not block on a pipe that is not read.
        tokio::spawn(async move { tokio::io::copy(&mut said, &mut tokio::io::sink()).await });
        Ok(Self { _child: child })
    }
}

/// May pasta open 443 and 53 here? Where it may not, the program's ports can be this machine's, too; where it may, so
/// would those of the relay be, which are for what is inside.
fn may_take_low_ports() -> bool {
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let first: Option<u32> = first.ok().and_then(|text| text.trim().parse().ok());
    geteuid().is_root() || first.is_none_or(|port| port <= HTTPS.into())
}

/// Has the network namespace of a process a default route?
fn has_route(process: u32) -> bool {
    ROUTES.iter().any(|(file, start)| {
        let routes = std::fs::read_to_string(format!("/proc/{process}/net/{file}")).unwrap_or_default();
        routes.lines().any(|line| {
            let destination = line.split_once('\t').map_or(line, |(_, rest)| rest);
            destination.starts_with(start) && !line.trim_end().ends_with(" lo")
        })
    })
}
