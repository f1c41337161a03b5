//! `latentd doctor` judges a configuration as `latentd serve` does: both accept it, or both refuse it for one reason.

use super::*;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::Stdio;

const DUAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/parity/golden/dual/model");
const UNCHECKED: [&str; 2] = ["--safety-checker", "none"];

/// What `serve` says: nothing if it serves, otherwise the reason on its standard error.
fn serve(mut command: Command, flags: &[&str]) -> Option<String> {
    command.arg("serve").args(flags).args(["--log", "error"]);
    let mut server = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program");
    let greeting = BufReader::new(server.stdout.take().expect("an output")).lines().next();
    if greeting.is_some_and(|line| line.expect("text").starts_with("latentd listens on")) {
        server.kill().and_then(|()| server.wait()).expect("it ends");
        return None;
    }
    assert!(!server.wait().expect("it ends").success());
    let mut text = String::new();
    server.stderr.expect("an output").read_to_string(&mut text).expect("text");
    let reason = text.lines().rev().find_map(|line| line.strip_prefix("latentd: "));
    Some(reason.unwrap_or_else(|| panic!("no reason: {text}")).to_owned())
}

/// What `doctor` finds wrong.
fn doctor(mut command: Command, flags: &[&str]) -> Vec<String> {
    let output = command.arg("doctor").args(flags).arg("--json").output().expect("the program");
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let findings = report["findings"].as_array().expect("findings").iter();
    let wrong = findings.filter(|finding| finding["state"] == "wrong");
    let wrong: Vec<_> = wrong.map(|finding| finding["found"].as_str().expect("text").to_owned()).collect();
    assert_eq!(output.status.success(), wrong.is_empty(), "{report}");
    wrong
}

/// Runs both, `doctor` first, for `serve` may download what it judges; returns the one reason, if they refuse.
async fn judgement(hub: &StandIn, home: &TempDir, flags: &[&str]) -> Option<String> {
    let commands = (program(hub, home), program(hub, home));
    let mut owned: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    if !flags.contains(&"--listen") {
        owned.extend(["--listen".to_owned(), "127.0.0.1:0".to_owned()]);
    }
    let judged = tokio::task::spawn_blocking(move || {
        let flags: Vec<&str> = owned.iter().map(String::as_str).collect();
        let wrong = doctor(commands.0, &flags);
        (wrong, serve(commands.1, &flags))
    });
    let (wrong, reason) = judged.await.expect("a thread");
    match &reason {
        Some(reason) => assert!(wrong.contains(reason), "{flags:?}\nserve: {reason}\ndoctor: {wrong:?}"),
        None => assert_eq!(wrong, Vec::<String>::new(), "{flags:?}: serve starts"),
    }
    reason
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[tokio::test]
async fn doctor_accepts_what_serve_accepts() {
    let (hub, home) = hub().await;
    let base = golden();
    for flags in [
        vec![],
        vec!["--workers", "0"],
        vec!["--model", text(&base), UNCHECKED[0], UNCHECKED[1]],
        vec!["--model", "mini", "--model", text(&base), UNCHECKED[0], UNCHECKED[1]],
        vec!["--model", text(&base), "--model", DUAL, UNCHECKED[0], UNCHECKED[1]],
        // Not in the cache yet; `serve` downloads it.
        vec!["--model", NAME, UNCHECKED[0], UNCHECKED[1]],
        // In the cache.
        vec!["--model", NAME, "--offline", UNCHECKED[0], UNCHECKED[1]],
    ] {
        assert_eq!(judgement(&hub, &home, &flags).await, None, "{flags:?}");
    }
    std::fs::remove_file(walk_to(&home, "vae/config.json")).expect("a file less");
    let reason = judgement(&hub, &home, &["--model", NAME, "--offline", "--safety-checker", "none"]).await;
    assert!(reason.is_some_and(|reason| reason.contains("is incomplete in the cache")));
}

/// A file of the only snapshot of the tiny model.
fn walk_to(home: &TempDir, path: &str) -> PathBuf {
    home.path().join("hub/models--me--tiny/snapshots").join(stand_in::COMMIT).join(path)
}

#[tokio::test]
async fn doctor_refuses_a_wrong_command_line_as_serve_does() {
    let (hub, home) = hub().await;
    for (flags, words) in [
        (vec!["--model", "./no/such/model"], "there is no such directory or file"),
        (vec!["--device", "tpu"], "give `auto`, `cpu` or `cuda:N`"),
        (vec!["--safety-checker", "no-such-checker"], "there is no such directory"),
        (vec!["--workers", "many"], "give `auto` or a number"),
        (vec!["--memory-budget", "little"], "such as 40GB"),
        (vec!["--model", "mini,mini"], "given twice"),
        (vec!["--listen", "0.0.0.0:0"], "reachable from other machines"),
    ] {
        let reason = judgement(&hub, &home, &flags).await.unwrap_or_else(|| panic!("{flags:?} is accepted"));
        assert!(reason.contains(words), "{flags:?}: {reason}");
    }
    assert_eq!(hub.connections(), 0);
}

#[tokio::test]
async fn doctor_refuses_what_is_not_here_or_does_not_fit_as_serve_does() {
    let (hub, home) = hub().await;
    let base = golden();
    let occupied = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = occupied.local_addr().expect("an address").to_string();
    let file = home.path().join("a file");
    std::fs::write(&file, "").expect("a file");
    let below_a_file = file.join("data");
    let empty = home.path().join("empty");
    std::fs::create_dir(&empty).expect("a directory");
    let large = "stable-diffusion-3.5-large";
    for (flags, words) in [
        (vec!["--model", text(&base), "--model", text(&base)], "would both answer for"),
        // Before the download.
        (vec!["--model", large, "--model", text(&base)], "would both answer for"),
        (vec!["--model", large, "--memory-budget", "100MB"], "--memory-budget is 100.0 MB"),
        (vec!["--model", large, "--offline"], "--offline forbids to fetch it"),
        (vec!["--model", NAME, "--offline"], "is not in the cache"),
        (vec!["--model", "mini", "--model", NAME, "--offline"], "is not in the cache"),
        (vec!["--memory-budget", "1MB"], "--memory-budget is 1.0 MB"),
        (vec!["--model", text(&base)], "get it by `latentd models pull falconsai`"),
        (vec!["--model", text(&empty), "--safety-checker", "none"], "model_index.json"),
        (vec!["--listen", &address], "cannot listen on"),
        (vec!["--data-dir", text(&below_a_file)], "Not a directory"),
    ] {
        let reason = judgement(&hub, &home, &flags).await.unwrap_or_else(|| panic!("{flags:?} is accepted"));
        assert!(reason.contains(words), "{flags:?}: {reason}");
    }
    assert_eq!(hub.connections(), 0, "nothing was downloaded for what is refused");
}
