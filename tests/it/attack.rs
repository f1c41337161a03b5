//! The real program under attack: its memory, and clients that misbehave from addresses of their own.

use crate::support::{Program, eventually, within};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Megabytes of memory that an attack may take above the baseline.
pub(crate) const MAX_RISE: u64 = 300;

/// Megabytes above the baseline within which the memory counts as returned.
const RETURNED: u64 = 60;

/// A running `latentd serve`, on a data directory of its own.
pub(crate) struct Attacked {
    program: Program,
    pub(crate) address: SocketAddr,
    _data: TempDir,
}

impl Attacked {
    /// Starts it with more flags, under a limit of open files if there is one.
    pub(crate) fn start(flags: &[&str], open_files: Option<u32>) -> Self {
        let data = tempfile::tempdir().expect("a temporary directory");
        let limit = open_files.map_or(String::new(), |files| format!("ulimit -n {files}; "));
        let serve = Program::command(data.path(), flags);
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("{limit}exec \"$@\""), "sh"])
            .arg(serve.get_program())
            .args(serve.get_args());
        command.envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let program = Program::spawn(&mut command);
        let address = program.address.parse().expect("an address");
        Self { program, address, _data: data }
    }

    pub(crate) fn memory(&self) -> Memory {
        Memory { process: self.program.child.id() }
    }

    /// The memory of its one worker, once that is there.
    pub(crate) async fn worker_memory(&self) -> Memory {
        let process = eventually(async || self.program.workers().first().copied());
        Memory { process: process.await }
    }

    /// A call from an address of its own; `None` when there is no answer.
    pub(crate) async fn call(&self, from: &str, head: &str, body: &[u8]) -> Option<(u16, Value)> {
        let mut stream = self.connect(from, None).await.ok()?;
        let head = format!(
            "{head}\r\nhost: {}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).await.ok()?;
        stream.write_all(body).await.ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok()?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, serde_json::from_str(body).unwrap_or_default()))
    }

    /// Is it alive, for a client at this address? Says how long that took to find out.
    pub(crate) async fn is_live(&self, from: &str) -> Option<Duration> {
        let begun = Instant::now();
        let answer = self.call(from, "GET /health/live HTTP/1.1", b"").await?;
        (answer.0 == 200).then(|| begun.elapsed())
    }

    /// A connection from an address of this machine, which may be slow to read.
    pub(crate) async fn connect(
        &self,
        from: &str,
        receive_buffer: Option<u32>,
    ) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(format!("{from}:0").parse().expect("an address"))?;
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.connect(self.address).await
    }
}

/// The memory of a process.
pub(crate) struct Memory {
    process: u32,
}

/// The memory of a process before an attack, in megabytes.
pub(crate) struct Baseline {
    memory: Memory,
    megabytes: u64,
    attack: String,
}

impl Memory {
    fn megabytes(&self, field: &str) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.process)).expect("a process that runs");
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a line of the kernel's");
        line.trim_matches([':', ' ', '\t', 'k', 'B']).parse::<u64>().expect("kilobytes") / 1024
    }

    /// Measures the memory now, and has the kernel record the peak from now on.
    pub(crate) fn baseline(self, attack: &str) -> Baseline {
        std::fs::write(Path::new("/proc").join(self.process.to_string()).join("clear_refs"), "5")
            .expect("Linux");
        Baseline { megabytes: self.megabytes("VmRSS"), memory: self, attack: attack.into() }
    }
}

impl Baseline {
    /// Asserts that the peak since then is at most [`MAX_RISE`] above it.
    pub(crate) fn assert_bounded(&self) {
        let (now, peak) = (self.memory.megabytes("VmRSS"), self.memory.megabytes("VmHWM"));
        println!("{}: {} MB before, {peak} MB at most, {now} MB now", self.attack, self.megabytes);
        assert!(peak <= self.megabytes + MAX_RISE, "{}: {peak} MB", self.attack);
    }

    /// The same, and waits until the memory has returned to it: on a busy machine for a while.
    pub(crate) async fn returns(&self) {
        self.assert_bounded();
        let is_back = async || (self.memory.megabytes("VmRSS") <= self.megabytes + RETURNED).then_some(());
        within(Duration::from_secs(60), is_back).await;
        println!("{}: back at {} MB", self.attack, self.memory.megabytes("VmRSS"));
    }
}

/// Lets this process have as many connections as an attack needs.
pub(crate) fn many_files() {
    let most = rlimit::increase_nofile_limit(20_000).expect("a limit");
    assert!(most >= 10_000, "these tests need 10,000 open files: raise `ulimit -Hn`, which is {most}");
}
