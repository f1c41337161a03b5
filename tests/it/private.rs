//! What the server keeps is readable for its own user alone and shows no secret: file permissions, tickets, keys, error
//! messages.

use crate::support::{Program, Server, exchange};
use axum::http::Method;
use serde_json::json;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A server without workers whose log a test reads when it kills it.
fn start(data: &Path, flags: &[&str]) -> Program {
    let mut command = Program::command(data, &[&["--workers", "0"], flags].concat());
    Program::spawn(command.env_remove("LATENTD_API_KEY").stderr(Stdio::piped()))
}

/// Everything below a directory, and the directory itself.
fn below(path: &Path) -> Vec<PathBuf> {
    let mut all = vec![path.to_owned()];
    if path.is_dir() {
        let entries = std::fs::read_dir(path).expect("a directory");
        all.extend(entries.flat_map(|entry| below(&entry.expect("an entry").path())));
    }
    all
}

/// What other users may look into.
fn open_to_others(data: &Path) -> Vec<(PathBuf, u32)> {
    let mode = |path: PathBuf| {
        let mode = std::fs::metadata(&path).expect("it is there").permissions().mode() & 0o7777;
        (path, mode)
    };
    below(data).into_iter().map(mode).filter(|(_, mode)| mode & 0o077 != 0).collect()
}

#[test]
fn other_users_cannot_look_into_what_is_kept() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("new/data");
    let server = start(&data, &[]);
    assert_eq!(server.call("POST", "/files/upload", &json!("bytes")).0, 200);
    let is_upload = |path: &PathBuf| path.extension().is_some_and(|end| end == "bin");
    assert_eq!(below(&data.join("files")).iter().filter(|path| is_upload(path)).count(), 1);
    assert!(data.join("latentd.sqlite-wal").exists());
    assert_eq!(open_to_others(&data), []);
    let log = server.kill();
    assert!(!log.contains("look into"), "{log}");

    // What an early version left, or a restore.
    for path in below(&data) {
        let mode = if path.is_dir() { 0o755 } else { 0o644 };
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).expect("its owner may");
    }
    let log = start(&data, &[]).kill();
    assert_eq!(open_to_others(&data), []);
    assert!(log.contains("this user's alone now"), "{log}");
    let log = start(&data, &[]).kill();
    assert!(!log.contains("look into"), "the warning comes once: {log}");
}

#[test]
fn a_directory_for_other_things_stays_as_it_is() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("notes.txt"), "mine").expect("a file");
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("its owner may");
    start(directory.path(), &[]).kill();
    let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(directory.path()), 0o755);
    assert_eq!(mode(&directory.path().join("latentd.sqlite")), 0o600);
}

/// Whoever can read a copy of the database cannot write files.
#[tokio::test]
async fn the_database_holds_no_ticket() {
    let server = Server::start().await;
    let answer =
        server.call(Method::POST, "/storage/upload/initiate", &json!({ "content_type": "a/b" })).await.json();
    let begun = server.call(Method::POST, "/files/upload/multipart", &json!(null)).await.json();
    let url = answer["upload_url"].as_str().expect("a URL");
    let tickets = [url.rsplit('/').next().expect("a ticket"), begun["uploadId"].as_str().expect("an id")];
    server.queue.close().await;
    let text = server.stored_text().await;
    assert!(text.contains("a/b"), "the upload is there");
    for ticket in tickets {
        let ticket: uuid::Uuid = ticket.parse().expect("a ticket");
        for form in [ticket.simple().to_string(), ticket.hyphenated().to_string()] {
            assert!(!text.contains(&form), "{form}");
        }
    }
}

#[test]
fn keys_come_from_a_file_and_one_on_the_command_line_is_warned_of() {
    let directory = tempfile::tempdir().expect("a directory");
    let (data, file) = (directory.path().join("data"), directory.path().join("keys"));
    std::fs::write(&file, "# two\nid:one\nid:two\n").expect("a file");
    let server = start(&data, &["--api-key-file", file.to_str().expect("a path")]);
    let shown = std::fs::read(format!("/proc/{}/cmdline", server.child.id())).expect("the command line");
    assert!(!String::from_utf8_lossy(&shown).contains("id:one"));
    for (key, status) in [("id:one", "404"), ("id:two", "404"), ("id:three", "401")] {
        let path = "/requests/00000000-0000-4000-8000-000000000000";
        let authorization = format!("authorization: Key {key}\r\n");
        let (head, _) = exchange(&server.address, "GET", path, &authorization, b"");
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{key}: {head}");
    }
    let log = server.kill();
    assert!(!log.contains("--api-key"), "{log}");
    let log = start(&data, &["--api-key", "id:four"]).kill();
    assert!(log.contains("--api-key-file") && !log.contains("id:four"), "{log}");
}

/// What SQLite says of a damaged schema has the bytes of the file in it.
#[test]
fn a_damaged_database_is_reported_in_plain_text() {
    let data = tempfile::tempdir().expect("a directory");
    start(data.path(), &[]).kill();
    let path = data.path().join("latentd.sqlite");
    for end in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(data.path().join(format!("latentd.sqlite{end}")));
    }
    let keys = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_latentd"))
            .args(["keys", "list", "--data-dir"])
            .arg(data.path())
            .args(arguments)
            .output()
            .expect("the program");
        (output.status.success(), output.stderr)
    };
    assert!(keys(&[]).0, "it can be read before");
    let mut bytes = std::fs::read(&path).expect("the database");
    let name = b"CREATE TABLE request_logs";
    let at = bytes.windows(name.len()).position(|part| part == name).expect("the schema is in the file");
    // Before the statement are the name of its table twice and the number of its page. The name and a word of the statement
    // are what SQLite says.
    let noise = b"\x1b[31m\xff\x9b\r\n\x1b[2J";
    bytes[at - 25..at - 13].copy_from_slice(&noise[..12]);
    bytes[at + 7..at + 12].copy_from_slice(&noise[..5]);
    std::fs::write(&path, bytes).expect("written");
    let (read, message) = keys(&[]);
    assert!(!read, "a damaged schema is noticed");
    let message = String::from_utf8(message).expect("the message is text");
    assert!(message.contains("queue database: "), "{message:?}");
    assert!(!message.trim_end().contains(char::is_control), "{message:?}");
}
