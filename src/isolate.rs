//! `latentd run`: a program in namespaces of its own, in which fal's names lead to the server of this machine and, unless
//! the operator says otherwise, nothing else leads anywhere.
//!
//! The process that was started becomes the program, so signals, exit code, terminal and process id are the program's.
//! What the program connects to is a relay (`latentd relay`) that was left outside of the namespaces and holds sockets
//! that were opened inside. There is no network interface but the loopback interface inside, so whatever a program does
//! to find fal, it ends at these sockets or nowhere.

mod dns;
mod environment;
mod files;
mod handover;
mod namespaces;
mod network;
mod pasta;
mod relay;
mod upstream;

pub(crate) use relay::relay;

use crate::args::RunArgs;
use crate::config::StoreConfig;
use crate::intercept::Trust;
use network::Sockets;
use relay::Relay;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// The program could not be started.
#[derive(Debug, thiserror::Error)]
#[error("{program}: {error}")]
pub struct NotStarted {
    program: String,
    error: std::io::Error,
}

impl NotStarted {
    /// The exit code by which shells, `env` and `nohup` say the same: 127 for what was not found, else 126.
    pub fn exit_code(&self) -> u8 {
        if self.error.kind() == ErrorKind::NotFound { 127 } else { 126 }
    }
}

/// Becomes the program. The process must have no second thread yet: the kernel gives a user namespace to no other.
///
/// # Errors
/// When there is no server, when the system refuses namespaces, and [`NotStarted`]; otherwise it does not return.
pub(crate) fn run(args: RunArgs) -> anyhow::Result<()> {
    let RunArgs { store, allow_network, check, program } = args;
    if check {
        return try_namespaces();
    }
    let store = StoreConfig::resolve(store.into())?;
    let (relay, server) = Relay::start(&store, allow_network)?;
    let data_dir = std::path::absolute(&store.data_dir)?;
    let trust = Trust::of(&data_dir);
    let [name, arguments @ ..] = program.as_slice() else { anyhow::bail!("give a program to run") };
    let mut command = Command::new(name);
    command.args(arguments);
    environment::prepare(&mut command, &data_dir, &trust, &server, allow_network)?;

    namespaces::enter(allow_network)?;
    let sockets = Sockets::open()?;
    let lifetime = files::cover(&trust)?;
    relay.connect(&sockets, &lifetime)?;
    let error = command.exec();
    Err(NotStarted { program: name.display().to_string(), error }.into())
}

/// Everything that the system might refuse, without a server and without a program.
fn try_namespaces() -> anyhow::Result<()> {
    namespaces::enter(false)?;
    Sockets::open()?;
    files::mount_empty(&std::env::temp_dir()).map(drop)
}

/// Whether `latentd run` works on this machine, tried by a process of its own; `Err` says why not.
pub(crate) fn works() -> Result<(), String> {
    let mut command = Command::new(relay::OWN_EXECUTABLE);
    command.args(["run", "--check"]).stdin(Stdio::null());
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(said.trim().trim_start_matches("latentd: ").to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}
