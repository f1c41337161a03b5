//! What a client was answered survives a power cut: the entry of every file and of every directory above it is synced.
//!
//! `durable/trace.c` writes down what the program makes and syncs. An entry that was made and whose directory was not synced
//! afterwards may be gone after a power cut.

use crate::support::{ENDPOINT, Program, eventually};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Needed by the running program alone: SQLite makes its index anew, and a lock is let go by the power cut.
const NOT_KEPT: [&str; 2] = ["-shm", "lock"];

fn built_trace(directory: &Path) -> PathBuf {
    let library = directory.join("trace.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/durable/trace.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).args([source, "-ldl"]);
    assert!(compiler.status().expect("a C compiler").success());
    library
}

/// Entries that a power cut may take away now.
fn lost(directory: &Path, trace: &str) -> Vec<PathBuf> {
    let events: Vec<_> = trace.lines().filter_map(|line| line.split_once(' ')).collect();
    let is_kept = |path: &Path| !NOT_KEPT.iter().any(|end| path.to_string_lossy().ends_with(end));
    let made = |path: &Path| events.iter().rposition(|event| *event == ("make", &*path.to_string_lossy()));
    let synced = |path: &Path| events.iter().rposition(|event| *event == ("sync", &*path.to_string_lossy()));
    let is_lost = |path: &PathBuf| {
        let parent = path.parent().expect("a directory");
        is_kept(path) && made(path).is_some_and(|made| synced(parent).is_none_or(|synced| synced < made))
    };
    entries(directory).into_iter().filter(is_lost).collect()
}

/// A directory and everything below it.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![directory.to_owned()];
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(entries(&path)) } else { found.push(path) }
    }
    found
}

#[tokio::test]
async fn what_is_not_synced_is_found_missing_after_a_power_cut() {
    let place = tempfile::tempdir().expect("a directory");
    let place = place.path().canonicalize().expect("a directory");
    let (data, log) = (place.join("new/data"), place.join("trace"));
    let library = built_trace(&place);
    let planted = Path::new("no-sync");
    let environment =
        [("LD_PRELOAD", library.as_path()), ("TRACE", log.as_path()), ("LATENTD_PLANTED_BUG", planted)];
    let program = Program::start_in(&data, &[], &environment);
    assert_eq!(program.call("POST", "/files/upload", &json!("text")).0, 200);
    let trace = std::fs::read_to_string(&log).expect("what the program did");
    let lost = lost(&place.join("new"), &trace);
    let file = crate::support::files(&data.join("files")).pop().expect("the upload");
    assert!(lost.iter().any(|path| path.ends_with(&file)), "{lost:?}");
}

#[tokio::test]
async fn the_first_start_and_what_it_accepts_survive_a_power_cut() {
    let place = tempfile::tempdir().expect("a directory");
    let place = place.path().canonicalize().expect("a directory");
    let (data, log) = (place.join("new/data"), place.join("trace"));
    let library = built_trace(&place);
    let environment = [("LD_PRELOAD", library.as_path()), ("TRACE", log.as_path())];
    let program = Program::start_in(&data, &[], &environment);
    let trace = || std::fs::read_to_string(&log).expect("what the program did");

    // A worker that starts meanwhile makes its file, on which no answer relies.
    let workers = data.join("workers");
    let lost_of_answers = || -> Vec<PathBuf> {
        let lost = lost(&place.join("new"), &trace()).into_iter();
        lost.filter(|path| !path.starts_with(&workers)).collect()
    };
    let (code, uploaded) = program.call("POST", "/files/upload", &json!("text"));
    assert_eq!(code, 200, "{uploaded}");
    assert_eq!(lost_of_answers(), Vec::<PathBuf>::new(), "after the answer to an upload");

    let small =
        json!({ "prompt": "a lake", "image_size": { "width": 64, "height": 64 }, "num_inference_steps": 1 });
    let (code, accepted) = program.call("POST", &format!("/queue/{}", ENDPOINT), &small);
    assert_eq!(code, 200, "{accepted}");
    assert_eq!(lost_of_answers(), Vec::<PathBuf>::new(), "after the answer to a submit");

    let result = format!("/requests/{}", accepted["request_id"].as_str().expect("an id"));
    eventually(async || (program.call("GET", &result, &json!(null)).0 == 200).then_some(())).await;
    assert_eq!(lost(&place.join("new"), &trace()), Vec::<PathBuf>::new(), "after the result was there");
    assert_eq!(crate::support::files(&data.join("files")).len(), 2);
    let made = trace().lines().filter(|line| line.starts_with("make ")).count();
    assert!(made >= 8, "the trace sees what is made: {made}");
}
