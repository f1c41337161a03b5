//! `latentd keys` beside a running server, both the real program.

use crate::databases::environment_of;
use crate::support::{Program, eventually, exchange};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

/// Flags of a server without workers on this address.
fn flags(listen: &str) -> [&str; 4] {
    ["--workers", "0", "--listen", listen]
}

/// The status of a call about a request that does not exist: 404 for who is let in.
fn status(program: &Program, key: Option<&str>) -> u16 {
    let key = key.map_or_else(String::new, |key| format!("authorization: Key {key}\r\n"));
    let path = "/requests/00000000-0000-4000-8000-000000000000";
    let (head, _) = exchange(&program.address, "GET", path, &key, b"");
    head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a code")
}

/// Waits until a call with this key has this status.
async fn answers(program: &Program, key: Option<&str>, expected: u16) {
    eventually(async || (status(program, key) == expected).then_some(())).await;
}

fn keys(data: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_latentd"))
        .arg("keys")
        .args(arguments)
        .arg("--data-dir")
        .arg(data)
        .envs(environment_of(data))
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
    let program = Program::start_with(data.path(), &flags("127.0.0.1:0"));
    assert_eq!(status(&program, None), 404, "open while there is no key");
    let key = create(data.path(), &["--name", "studio", "--scope", "admin", "--concurrency", "2"]);
    let (id, secret) = key.split_once(':').expect("id:secret");
    assert!(uuid::Uuid::try_parse(id).is_ok() && secret.len() == 32, "{key}");
    assert!(secret.bytes().all(|byte| byte.is_ascii_hexdigit()));
    answers(&program, None, 401).await;
    assert_eq!(status(&program, Some(&key)), 404);
    assert_eq!(status(&program, Some(&format!("{id}:{}", "0".repeat(32)))), 401);

    let listed = list(data.path());
    let row = &listed[0];
    assert_eq!((&row["id"], &row["name"], &row["scope"]), (&id.into(), &"studio".into(), &"admin".into()));
    assert_eq!((&row["concurrency"], &row["revoked_at"]), (&2.into(), &Value::Null));
    let table = text(&keys(data.path(), &["list"]));
    assert!(table.contains(id) && table.contains("studio") && table.contains("live"), "{table}");
    assert!(!table.contains(secret) && !listed.to_string().contains(secret));

    assert_eq!(keys(data.path(), &["revoke", id]).status.code(), Some(0));
    answers(&program, Some(&key), 401).await;
    assert!(list(data.path())[0]["revoked_at"].is_string());
    assert_eq!(status(&program, None), 401, "revoking a key opens nothing");
    for entry in std::fs::read_dir(data.path()).expect("the directory") {
        let path = entry.expect("an entry").path();
        let bytes = if path.is_file() { std::fs::read(&path).expect("a file") } else { Vec::new() };
        let kept = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!kept, "the secret is in {}", path.display());
    }
}

#[tokio::test]
async fn the_server_listens_for_other_machines_only_when_there_is_a_key() {
    let data = tempfile::tempdir().expect("a directory");
    let refused = || {
        let output = Program::command(data.path(), &flags("0.0.0.0:0")).output().expect("the program");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains("latentd keys create") && error.contains("--api-key"), "{error}");
    };
    refused();
    assert_eq!(std::fs::read_dir(data.path()).expect("the directory").count(), 0, "nothing is made");
    drop(Program::start_with(data.path(), &flags("127.0.0.1:0")));
    refused();
    let key = create(data.path(), &[]);
    let program = Program::start_with(data.path(), &flags("0.0.0.0:0"));
    assert_eq!((status(&program, None), status(&program, Some(&key))), (401, 404));
}

#[test]
fn what_cannot_be_done_is_refused() {
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
