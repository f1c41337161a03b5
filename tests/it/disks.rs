//! Disks that are full: what cannot be kept is not accepted, what was accepted is not lost, and room is all it takes.
//!
//! These tests mount file systems of a few megabytes and must run as root, as they do in CI.

use crate::support::{ENDPOINT, Program, attempts, eventually, messages};
use serde_json::{Value, json};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A file system of its own in memory.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new(size: &str) -> Self {
        let place = tempfile::tempdir().expect("a directory");
        let options = format!("size={size}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(place.path());
        let mounted = mount.status().expect("the program mount").success();
        assert!(mounted, "this test mounts a tmpfs: run it as root");
        Self(place)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Takes the last byte that is free.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.ballast()).expect("a file");
        let mut size = 1 << 16;
        while size > 0 {
            match file.write_all(&vec![0; size]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => size /= 2,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.ballast()).expect("the ballast");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

fn tiny(prompt: &str) -> Value {
    json!({ "prompt": prompt, "image_size": { "width": 32, "height": 32 }, "num_inference_steps": 1 })
}

/// Code of a submit, with the request's path where it was accepted.
fn submit(program: &Program, input: &Value) -> (u16, Option<String>) {
    let (head, body) = program.exchange("POST", &format!("/queue/{ENDPOINT}"), input);
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a code");
    assert!(code != 503 || head.to_ascii_lowercase().contains("retry-after: "), "{head}");
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    (code, body["request_id"].as_str().map(|id| format!("/queue/{ENDPOINT}/requests/{id}")))
}

fn health(program: &Program, of: &str) -> (u16, String) {
    let (code, body) = program.call("GET", &format!("/health/{of}"), &Value::Null);
    (code, body["status"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_while_it_is_full_and_no_longer_twenty_times() {
    let disk = SmallDisk::new("12m");
    // Without a reserve the database itself finds out.
    let program = Program::start_with(disk.path(), &["--workers", "0", "--min-free-disk", "0"]);
    let mut accepted = Vec::new();
    for cycle in 0..20 {
        let (code, request) = submit(&program, &tiny("there is room"));
        assert_eq!(code, 200, "cycle {cycle}");
        accepted.extend(request);
        disk.fill();
        // What SQLite has set aside takes some.
        let large = tiny(&"p".repeat(40_000));
        let refused = (0..200).any(|_| {
            let (code, request) = submit(&program, &large);
            accepted.extend(request);
            assert!([200, 503].contains(&code), "{code} in cycle {cycle}");
            code == 503
        });
        assert!(refused, "the disk was never full in cycle {cycle}");
        for _ in 0..3 {
            assert_eq!(submit(&program, &large).0, 503, "cycle {cycle}");
        }
        assert_eq!(health(&program, "live"), (200, "live".into()));
        assert_eq!(health(&program, "ready"), (503, "cannot write".into()));
        disk.make_room();
    }
    let (code, request) = submit(&program, &tiny("the last one"));
    assert_eq!(code, 200);
    accepted.extend(request);
    assert!(accepted.len() > 20);
    for request in &accepted {
        assert_eq!(program.status(request)["status"], "IN_QUEUE", "{request}");
    }
    // A refusal counts for a few seconds; then the disk is no obstacle any more.
    eventually(async || (health(&program, "ready") == (503, "no worker".into())).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reserve_is_kept_free_and_health_says_so() {
    let disk = SmallDisk::new("12m");
    let program = Program::start_with(disk.path(), &["--workers", "0", "--min-free-disk", "4MB"]);
    assert_eq!(submit(&program, &tiny("there is room")).0, 200);
    std::fs::write(disk.ballast(), vec![0; 9 << 20]).expect("ballast");
    assert_eq!(submit(&program, &tiny("there is little")).0, 503);
    assert_eq!(health(&program, "ready"), (503, "disk full".into()));
    let (head, _) = program.exchange("POST", "/files/upload", &json!("words"));
    assert!(head.starts_with("HTTP/1.1 503"), "{head}");
    disk.make_room();
    assert_eq!(submit(&program, &tiny("there is room again")).0, 200);
    assert_eq!(program.call("POST", "/files/upload", &json!("words")).0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn images_wait_for_a_full_disk_twenty_times_and_none_fails() {
    let disk = SmallDisk::new("1m");
    let data = tempfile::tempdir().expect("a directory");
    let folder = disk.path().display().to_string();
    let flags = ["--storage", &folder, "--min-free-disk", "0"];
    let program = Program::start_with(data.path(), &flags);
    for cycle in 0..20 {
        disk.fill();
        let (code, request) = submit(&program, &tiny("an image"));
        let (code_of_next, next) = submit(&program, &tiny("the next one"));
        assert_eq!((code, code_of_next), (200, 200));
        let (request, next) = (request.expect("an id"), next.expect("an id"));
        eventually(async || {
            let status = program.status(&request);
            assert_ne!(status["status"], "COMPLETED", "{status}");
            messages(&status).iter().any(|line| line.contains("waiting for the disk")).then_some(())
        })
        .await;
        disk.make_room();
        for request in [request, next] {
            let status = eventually(async || {
                let status = program.status(&request);
                (status["status"] == "COMPLETED").then_some(status)
            })
            .await;
            assert_eq!((status.get("error"), attempts(&status)), (None, 1), "cycle {cycle}: {status}");
            assert_eq!(program.call("GET", &request, &Value::Null).0, 200);
        }
    }
}
