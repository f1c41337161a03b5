//! `latentd keys` beside a running server, both the real program.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// A running `latentd serve` without workers.
struct Program {
    child: Child,
    port: String,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(data: &Path, listen: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_latentd"));
    command.args(["serve", "--workers", "0", "--log", "warn", "--listen", listen, "--data-dir"]).arg(data);
    command
}

impl Program {
    fn start(data: &Path, listen: &str) -> Self {
        let mut child =
            serve(data, listen).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the program");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let first = lines.next().expect("a line").expect("text");
        let port = first.rsplit(':').next().expect("a port").to_owned();
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, port }
    }

    /// The status of a call about a request that does not exist: 404 for who is let in.
    fn status(&self, key: Option<&str>) -> u16 {
        let mut stream = TcpStream::connect(format!("127.0.0.1:{}", self.port)).expect("a connection");
        let key = key.map_or_else(String::new, |key| format!("authorization: Key {key}\r\n"));
        let id = "00000000-0000-4000-8000-000000000000";
        let head =
            format!("GET /requests/{id} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{key}\r\n");
        stream.write_all(head.as_bytes()).expect("a request sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a code")
    }

    async fn answers(&self, key: Option<&str>, status: u16) {
        crate::support::eventually(async || (self.status(key) == status).then_some(())).await;
    }
}

fn keys(data: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_latentd"))
        .arg("keys")
        .args(arguments)
        .arg("--data-dir")
        .arg(data)
        .output()
        .expect("the program")
}

fn text(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn create(data: &Path, arguments: &[&str]) -> String {
    text(&keys(data, &[&["create"], arguments].concat())).trim().to_owned()
}

fn list(data: &Path) -> Value {
    serde_json::from_str(&text(&keys(data, &["list", "--json"]))).expect("JSON")
}

#[tokio::test]
async fn a_running_server_follows_keys_that_come_and_go() {
    let data = tempfile::tempdir().expect("a directory");
    let program = Program::start(data.path(), "127.0.0.1:0");
    assert_eq!(program.status(None), 404, "open while there is no key");
    let key = create(data.path(), &["--name", "studio", "--scope", "admin", "--concurrency", "2"]);
    let (id, secret) = key.split_once(':').expect("id:secret");
    assert!(uuid::Uuid::try_parse(id).is_ok() && secret.len() == 32, "{key}");
    assert!(secret.bytes().all(|byte| byte.is_ascii_hexdigit()));
    program.answers(None, 401).await;
    assert_eq!(program.status(Some(&key)), 404);
    assert_eq!(program.status(Some(&format!("{id}:{}", "0".repeat(32)))), 401);

    let listed = list(data.path());
    let row = &listed[0];
    assert_eq!((&row["id"], &row["name"], &row["scope"]), (&id.into(), &"studio".into(), &"admin".into()));
    assert_eq!((&row["concurrency"], &row["revoked_at"]), (&2.into(), &Value::Null));
    let table = text(&keys(data.path(), &["list"]));
    assert!(table.contains(id) && table.contains("studio") && table.contains("live"), "{table}");
    assert!(!table.contains(secret) && !listed.to_string().contains(secret));

    assert_eq!(keys(data.path(), &["revoke", id]).status.code(), Some(0));
    program.answers(Some(&key), 401).await;
    assert!(list(data.path())[0]["revoked_at"].is_string());
    assert_eq!(program.status(None), 401, "revoking a key opens nothing");
    for entry in std::fs::read_dir(data.path()).expect("the directory") {
        let path = entry.expect("an entry").path();
        let bytes = if path.is_file() { std::fs::read(&path).expect("a file") } else { Vec::new() };
        let kept = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!kept, "the secret is in {}", path.display());
    }
}

#[tokio::test]
async fn other_machines_are_let_near_when_there_is_a_key() {
    let data = tempfile::tempdir().expect("a directory");
    let refused = || {
        let output = serve(data.path(), "0.0.0.0:0").output().expect("the program");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains("latentd keys create") && error.contains("--api-key"), "{error}");
    };
    refused();
    assert_eq!(std::fs::read_dir(data.path()).expect("the directory").count(), 0, "nothing is made");
    drop(Program::start(data.path(), "127.0.0.1:0"));
    refused();
    let key = create(data.path(), &[]);
    let program = Program::start(data.path(), "0.0.0.0:0");
    assert_eq!((program.status(None), program.status(Some(&key))), (401, 404));
}

#[test]
fn what_cannot_be_done_is_said() {
    let data = tempfile::tempdir().expect("a directory");
    let nowhere = data.path().join("nowhere");
    let cases: [(&Path, &[&str], i32, &str); 5] = [
        (&nowhere, &["list"], 1, "--data-dir"),
        (&nowhere, &["revoke", "x"], 1, "--data-dir"),
        (data.path(), &["create", "--concurrency", "0"], 2, "--concurrency"),
        (data.path(), &["create", "--scope", "root"], 2, "admin"),
        (data.path(), &["create", "--database-url", "mysql://x/y"], 2, "sqlite:PATH"),
    ];
    for (data, arguments, code, word) in cases {
        let output = keys(data, arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?} {error}");
        assert!(error.contains(word), "{arguments:?} {error}");
    }
    assert!(!nowhere.exists(), "looking makes nothing");
    create(&nowhere, &[]);
    let output = keys(&nowhere, &["revoke", "x"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("keys list"));
    assert_eq!(list(&nowhere)[0]["last_used_at"], Value::Null);
}
