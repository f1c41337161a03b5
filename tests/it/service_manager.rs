//! What a service manager is sent by `serve` and `worker`, over a socket of the test's own.

use crate::support::{Program, signal, within};
use serde_json::Value;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The longest that anything takes on a loaded machine.
const LIMIT: Duration = Duration::from_secs(120);

/// The service manager's end.
struct Manager {
    socket: UnixDatagram,
    /// Lines that came.
    seen: Vec<String>,
}

impl Manager {
    fn listen(folder: &Path) -> Self {
        let socket = UnixDatagram::bind(folder.join("notify")).expect("a socket");
        socket.set_nonblocking(true).expect("a socket");
        Self { socket, seen: Vec::new() }
    }

    /// Tells a program of it, with a watchdog of a second.
    fn manage(command: &mut Command, folder: &Path) {
        command.env("NOTIFY_SOCKET", folder.join("notify")).env("WATCHDOG_USEC", "1000000");
    }

    /// How often a line came so far.
    fn count(&mut self, line: &str) -> usize {
        let mut buffer = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]);
            self.seen.extend(text.lines().map(str::to_owned));
        }
        self.seen.iter().filter(|seen| *seen == line).count()
    }

    async fn wait_for(&mut self, line: &str, times: usize) {
        let manager = std::cell::RefCell::new(self);
        within(LIMIT, async || (manager.borrow_mut().count(line) >= times).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_reports_that_it_serves_that_it_is_alive_and_that_it_stops() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut manager = Manager::listen(folder.path());
    let mut command = Program::command(&folder.path().join("data"), &[]);
    Manager::manage(&mut command, folder.path());
    let mut server = Program::spawn(&mut command);
    manager.wait_for("READY=1", 1).await;
    assert_eq!(server.call("GET", "/health/live", &Value::Null).0, 200);
    // Its worker, which is ready then, is none of the service manager's.
    within(LIMIT, async || (server.call("GET", "/health/ready", &Value::Null).0 == 200).then_some(())).await;
    let alive = manager.count("WATCHDOG=1");
    manager.wait_for("WATCHDOG=1", alive + 2).await;
    assert_eq!((manager.count("READY=1"), manager.count("STOPPING=1")), (1, 0));
    signal("TERM", server.child.id());
    assert!(server.child.wait().expect("its end").success());
    assert_eq!((manager.count("READY=1"), manager.count("STOPPING=1")), (1, 1), "{:?}", manager.seen);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_waits_for_its_database_does_not_serve_yet() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut manager = Manager::listen(folder.path());
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address").to_string();
    drop(free);
    let mut command = Program::command(&folder.path().join("data"), &[]);
    Manager::manage(&mut command, folder.path());
    command.env("LATENTD_LISTEN", &address);
    command.env("LATENTD_DATABASE_URL", "postgres://latentd@127.0.0.1:1/nobody-listens");
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("the program");
    let server = Program { child, address };
    within(LIMIT, async || std::net::TcpStream::connect(&server.address).ok()).await;
    within(LIMIT, async || {
        let (_, body) = server.call("GET", "/health/ready", &Value::Null);
        (body["status"] == "database unavailable").then_some(())
    })
    .await;
    assert_eq!(manager.count("READY=1"), 0);
    // A service manager waits for its start, however long that is: it is alive.
    manager.wait_for("WATCHDOG=1", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_reports_when_its_model_is_loaded() {
    let folder = tempfile::tempdir().expect("a folder");
    // The database and the folder of files are a server's.
    drop(Program::start_with(&folder.path().join("data"), &["--workers", "0"]));
    let mut manager = Manager::listen(folder.path());
    let mut command = Command::new(env!("CARGO_BIN_EXE_latentd"));
    command.args(["worker", "--log", "warn", "--data-dir"]).arg(folder.path().join("data"));
    command.envs(crate::databases::environment_of(&folder.path().join("data")));
    Manager::manage(&mut command, folder.path());
    let mut worker = command.stdin(Stdio::null()).spawn().expect("the program");
    manager.wait_for("READY=1", 1).await;
    let alive = manager.count("WATCHDOG=1");
    manager.wait_for("WATCHDOG=1", alive + 2).await;
    signal("TERM", worker.id());
    assert!(worker.wait().expect("its end").success());
    assert_eq!((manager.count("READY=1"), manager.count("STOPPING=1")), (1, 1), "{:?}", manager.seen);
}
