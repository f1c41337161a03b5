//! What follows from the end of a request: it is counted, its input may go, and it is pruned some day.

use crate::rig::{Rig, claim, request, submit};
use latentd_queue::queue::{
    Erasure, Failure, FailureKind, Keep, Level, NewRequest, Observation, Outcome, Pruned, Queue, RequestId,
    StoredFile,
};
use serde_json::json;
use std::time::Duration;

crate::on_both! {
    ends_are_counted_with_what_was_seen,
    the_oldest_go_first_and_their_logs_before,
    an_erased_request_keeps_nothing_of_its_input_and_output,
    log_lines_come_in_order_and_only_the_new_ones,
}

const DAY: Duration = Duration::from_secs(86_400);

async fn done(queue: &Queue) -> RequestId {
    submit(queue, &request()).await;
    let claim = claim(queue, "w").await.expect("a request");
    queue.progress(&claim, Level::Info, "a step").await.expect("a database");
    queue.finish(&claim, &json!({ "of": "done" }), &[], &[]).await.expect("a database");
    claim.id
}

async fn ends_are_counted_with_what_was_seen(rig: Rig) {
    let queue = rig.open().await;
    submit(&queue, &NewRequest { model: Some("m".into()), ..request() }).await;
    let good = claim(&queue, "w").await.expect("a request");
    let seen = [
        Observation::stage("denoise", 0.3),
        Observation::stage("decode", 1e9),
        Observation::safety_flagged(),
    ];
    queue.finish(&good, &json!({}), &[], &seen).await.expect("a database");
    submit(&queue, &request()).await;
    let bad = claim(&queue, "w").await.expect("a request");
    queue.fail(&bad, &Failure::of(FailureKind::Engine)).await.expect("a database");
    queue.submit_failed(&request(), &Failure::of(FailureKind::Invalid)).await.expect("a database");
    queue.observe(&Observation::worker_restart("cpu")).await.expect("a database");
    let counters = queue.counters().await.expect("a database");
    let counted: Vec<_> = counters
        .iter()
        .map(|of| (of.metric.as_str(), of.labels[0].as_str(), of.labels[1].as_str(), of.count()))
        .collect();
    assert_eq!(
        counted,
        [
            ("e2e", "", "", 1),
            ("inference", "decode", "", 1),
            ("inference", "denoise", "", 1),
            ("queue_wait", "", "", 2),
            ("requests", "app", "engine", 1),
            ("requests", "app", "invalid", 1),
            ("requests", "m", "succeeded", 1),
            ("safety_flagged", "", "", 1),
            ("worker_restarts", "cpu", "", 1),
        ]
    );
    let decode = &counters[1];
    assert_eq!((decode.buckets.last(), decode.sum), (Some(&(f64::INFINITY, 1)), 1e9));
    let denoise = &counters[2];
    assert!(denoise.buckets.contains(&(0.5, 1)), "{denoise:?}");
}

async fn the_oldest_go_first_and_their_logs_before(rig: Rig) {
    let queue = rig.open().await;
    let old = done(&queue).await;
    rig.advance(10 * DAY).await;
    let (middle, new) = (done(&queue).await, done(&queue).await);
    let waiting = submit(&queue, &request()).await;
    let exists = async |id| queue.status(id).await.expect("a database").is_some();
    let keep = Keep { logs: Some(5 * DAY), ..Keep::default() };
    let pruned = queue.prune(&keep).await.expect("a database");
    assert_eq!(pruned, Pruned { log_lines: 1, ..Pruned::default() });
    let keep = Keep { results: Some(5 * DAY), inputs: Some(5 * DAY), ..Keep::default() };
    assert_eq!(queue.prune(&keep).await.expect("a database").requests, 1);
    assert!(!exists(old).await && exists(middle).await);
    let keep = Keep { requests: Some(1), ..Keep::default() };
    assert_eq!(queue.prune(&keep).await.expect("a database").requests, 1);
    assert_eq!([exists(middle).await, exists(new).await, exists(waiting).await], [false, true, true]);
    assert!(!queue.prune(&keep).await.expect("a database").is_some());
}

async fn an_erased_request_keeps_nothing_of_its_input_and_output(rig: Rig) {
    let queue = rig.open().await;
    assert_eq!(queue.erase(RequestId::new()).await.expect("a database"), Erasure::Unknown);
    submit(&queue, &request()).await;
    let claim = claim(&queue, "w").await.expect("a request");
    assert_eq!(queue.erase(claim.id).await.expect("a database"), Erasure::NotOver);
    queue.expect_files(&["image"], Some(&claim)).await.expect("a database");
    let (key, content_type) = ("image".into(), "image/png".into());
    let file = StoredFile { key, content_type, bytes: 5, sha256: "d".into() };
    queue.finish(&claim, &json!({}), &[file], &[]).await.expect("a database");
    let files = vec!["image".to_owned()];
    assert_eq!(queue.erase(claim.id).await.expect("a database"), Erasure::Done { files });
    assert_eq!(queue.outcome(claim.id).await.expect("a database"), Some(Outcome::Erased));
    assert_eq!(queue.given_up_files().await.expect("a database"), ["image"]);
}

async fn log_lines_come_in_order_and_only_the_new_ones(rig: Rig) {
    let queue = rig.open().await;
    submit(&queue, &request()).await;
    let claim = claim(&queue, "w").await.expect("a request");
    for step in 0..5 {
        queue.progress(&claim, Level::Info, &step.to_string()).await.expect("a database");
    }
    let lines = queue.logs(claim.id, 0).await.expect("a database");
    let texts: Vec<_> = lines.iter().map(|line| line.message.as_str()).collect();
    assert_eq!(texts, ["0", "1", "2", "3", "4"]);
    assert_eq!(queue.logs(claim.id, lines[2].seq).await.expect("a database"), lines[3..]);
}
