//! A hub that breaks, stalls, cuts and spoils, and a program that is killed in the middle.

use super::*;
use crate::support::eventually;
use stand_in::{Act, COMMIT};
use std::process::{Child, Stdio};

/// Pulls from a hub that does these things with the first requests for a large file.
async fn despite(acts: &[Act]) -> (StandIn, TempDir, Result<PathBuf, HubError>) {
    let (hub, home) = hub().await;
    hub.script(LARGE, acts.iter().copied());
    let pulled = pull(&settings(&hub, &home), &tiny_repo()).await;
    (hub, home, pulled)
}

#[tokio::test]
async fn whatever_breaks_goes_on_where_it_stopped() {
    for acts in [
        &[Act::Break(100_000)][..],
        &[Act::End(70_000), Act::Break(1000), Act::End(0)],
        &[Act::Stall(65_536)],
        &[Act::Stall(0), Act::Stall(10)],
        &[Act::Refuse(503, None), Act::Refuse(502, None), Act::Break(5000), Act::Refuse(429, Some(0))],
    ] {
        let (hub, home, pulled) = despite(acts).await;
        let directory = pulled.unwrap_or_else(|error| panic!("{acts:?}: {error}"));
        assert!(is_whole(&directory), "{acts:?}");
        assert_eq!(hub.sent()[LARGE], size(LARGE), "{acts:?}: no byte twice");
        assert!(incomplete(&home).is_empty());
    }
}

#[tokio::test]
async fn a_server_that_knows_no_ranges_sends_all_again() {
    let (hub, _home, pulled) = despite(&[Act::Break(100_000), Act::Whole]).await;
    assert!(is_whole(&pulled.expect("a model")));
    assert_eq!(hub.sent()[LARGE], 100_000 + size(LARGE));
}

#[tokio::test]
async fn a_damaged_file_is_fetched_once_more() {
    let (hub, _home, pulled) = despite(&[Act::Spoil]).await;
    assert!(is_whole(&pulled.expect("a model")));
    assert_eq!(hub.sent()[LARGE], 2 * size(LARGE));
    let small = "vae/config.json";
    let (hub, home) = super::hub().await;
    hub.script(small, [Act::Spoil]);
    pull(&settings(&hub, &home), &tiny_repo()).await.expect("a model");
    assert_eq!(hub.sent()[small], 2 * size(small), "small files have checksums too");
}

#[tokio::test]
async fn a_file_that_is_damaged_twice_is_said_to_be_and_not_kept() {
    let (hub, home, pulled) = despite(&[Act::Spoil, Act::Spoil]).await;
    let error = pulled.expect_err("damaged").to_string();
    assert!(
        error.starts_with(&format!("{LARGE} arrived damaged twice, its checksum is not SHA-256 ")),
        "{error}"
    );
    assert!(!home.path().join("hub/models--me--tiny/snapshots").join(COMMIT).join(LARGE).exists());
    let name = format!("{}.incomplete", Repository::of(&golden()).files[LARGE].etag());
    assert!(!incomplete(&home).iter().any(|path| path.ends_with(&name)));
    let directory = pull(&settings(&hub, &home), &tiny_repo()).await.expect("the hub is well again");
    assert!(is_whole(&directory));
}

#[tokio::test]
async fn a_hub_that_stays_down_ends_the_pull_and_keeps_what_came() {
    let acts = [vec![Act::Break(50_000)], vec![Act::Refuse(503, None); 6]].concat();
    let (hub, home, pulled) = despite(&acts).await;
    let error = pulled.expect_err("down").to_string();
    assert!(error.contains("it answered 503 Service Unavailable; what was fetched is kept"), "{error}");
    assert_eq!(hub.sent()[LARGE], 50_000);
    pull(&settings(&hub, &home), &tiny_repo()).await.expect("it is up again");
    assert_eq!(hub.sent()[LARGE], size(LARGE));
}

/// Starts a pull of the real program that hangs in the large file.
async fn hanging(hub: &StandIn, home: &TempDir, bytes: usize) -> Child {
    hub.script(LARGE, [Act::Stall(bytes)]);
    let mut command = program(hub, home);
    command.args(["models", "pull", NAME, "--json"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program");
    eventually(async || {
        let left = incomplete(home);
        let written = |path: &PathBuf| path.metadata().is_ok_and(|file| file.len() == bytes as u64);
        (left.len() == 1 && written(&left[0])).then_some(())
    })
    .await;
    child
}

#[tokio::test]
async fn a_pull_that_was_killed_goes_on_with_the_next_byte() {
    let (hub, home) = hub().await;
    let mut child = hanging(&hub, &home, 150_000).await;
    child.kill().expect("SIGKILL");
    child.wait().expect("its end");
    let mut command = program(&hub, &home);
    command.args(["models", "pull", NAME]);
    let again = output(command).await;
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    let directory = String::from_utf8(again.stdout).expect("text");
    assert!(is_whole(Path::new(directory.trim())), "{directory}");
    assert_eq!(hub.sent()[LARGE], size(LARGE), "no byte twice");
    let ranges: Vec<_> = hub.calls().into_iter().filter_map(|call| call.range).collect();
    assert!(ranges.iter().all(|range| range == "bytes=150000-") && !ranges.is_empty(), "{ranges:?}");
}

#[tokio::test]
async fn ctrl_c_says_that_the_next_pull_goes_on() {
    let (hub, home) = hub().await;
    let child = hanging(&hub, &home, 100_000).await;
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    assert!(kill.success());
    let output =
        tokio::task::spawn_blocking(|| child.wait_with_output()).await.expect("a thread").expect("its end");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).expect("text");
    let line = stderr.lines().last().expect("a line");
    assert!(
        line.starts_with("latentd: stopped: ") && line.ends_with("and the next pull goes on from there"),
        "{stderr}"
    );
    pull(&settings(&hub, &home), &tiny_repo()).await.expect("the rest");
    assert_eq!(hub.sent()[LARGE], size(LARGE));
}
