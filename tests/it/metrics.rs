//! `/metrics`: every end of a request is counted once, refusals and webhooks too, and the numbers outlive the server.

use crate::support::{ENDPOINT, Server, small};
use axum::http::{Method, StatusCode};
use latentd::queue::{Lost, Observation};
use serde_json::json;
use std::collections::BTreeMap;

/// Every sample by its name and labels.
async fn scrape(server: &Server) -> BTreeMap<String, f64> {
    let answer = server.get("/metrics").await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let text = String::from_utf8(answer.bytes.to_vec()).expect("text");
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').expect("a value");
        (name.to_owned(), value.parse().expect("a number"))
    };
    samples.map(sample).collect()
}

fn ended(outcome: &str) -> String {
    format!(r#"latentd_requests_total{{endpoint="{ENDPOINT}",outcome="{outcome}"}}"#)
}

#[tokio::test]
async fn a_server_that_did_nothing_has_metrics() {
    let samples = scrape(&Server::start().await).await;
    for name in [
        r#"latentd_queue_depth{priority="normal"}"#,
        r#"latentd_queue_depth{priority="low"}"#,
        r#"latentd_workers{state="ready"}"#,
        "latentd_requests_running",
        "latentd_safety_flagged_total",
    ] {
        assert_eq!(samples.get(name), Some(&0.0), "{name} in {samples:?}");
    }
    assert!(samples.keys().any(|name| name.starts_with("latentd_build_info{version=")));
}

#[tokio::test]
async fn every_end_is_counted_once() {
    let server = Server::start().await;
    server.submit(&small()).await;
    server.submit(&small()).await;
    server.generate_all().await;
    server.submit(&json!({ "prompt": "a fox", "num_inference_steps": "many" })).await;
    let cancelled = server.submit(&small()).await;
    server.put(&format!("{cancelled}/cancel")).await;
    let waiting = scrape(&server).await;
    assert_eq!(waiting[&ended("succeeded")], 2.0);
    assert_eq!(waiting[&ended("invalid")], 1.0);
    assert_eq!(waiting[&ended("cancelled")], 1.0);
    assert_eq!(waiting["latentd_queue_wait_seconds_count"], 2.0, "what never started did not wait");
    assert_eq!(waiting["latentd_e2e_seconds_count"], 2.0);
    assert_eq!(waiting[r#"latentd_e2e_seconds_bucket{le="+Inf"}"#], 2.0);
    for stage in ["text", "denoise", "decode", "encode"] {
        assert_eq!(
            waiting[&format!(r#"latentd_inference_seconds_count{{stage="{stage}"}}"#)],
            2.0,
            "{stage}"
        );
    }
    // Cancelling again changes nothing.
    server.put(&format!("{cancelled}/cancel")).await;
    assert_eq!(scrape(&server).await[&ended("cancelled")], 1.0);
}

#[tokio::test]
async fn endpoints_of_one_application_are_counted_apart() {
    let server = Server::start().await;
    let turbo = format!("{ENDPOINT}/turbo");
    for endpoint in [ENDPOINT, &turbo, &turbo] {
        server.call(Method::POST, &format!("/queue/{endpoint}"), &small()).await;
    }
    server.generate_all().await;
    server.call(Method::POST, &format!("/queue/{turbo}"), &json!({ "num_images": 9 })).await;
    let samples = scrape(&server).await;
    let of = |endpoint: &str, outcome: &str| {
        samples[&format!(r#"latentd_requests_total{{endpoint="{endpoint}",outcome="{outcome}"}}"#)]
    };
    assert_eq!((of(ENDPOINT, "succeeded"), of(&turbo, "succeeded"), of(&turbo, "invalid")), (1.0, 2.0, 1.0));
}

/// A wait of 90 seconds is in the bucket up to 300, and a late worker's finish counts nothing.
#[tokio::test]
async fn times_are_in_their_bucket_and_a_fenced_finish_is_not_counted() {
    let server = Server::start().await;
    server.submit(&small()).await;
    server.clock.advance(90);
    let late = server.try_claim("late").await.expect("a claim");
    server.queue.reclaim(Lost::Stopped("late")).await.expect("a database");
    let current = server.try_claim("current").await.expect("a claim");
    let seen = [Observation::stage("denoise", 2.5), Observation::safety_score("probability", f64::NAN)];
    for claim in [&late, &current, &late] {
        server.queue.finish(claim, &json!({}), &[], &seen).await.expect("a database");
    }
    let samples = scrape(&server).await;
    assert_eq!(samples[&ended("succeeded")], 1.0);
    assert_eq!(samples[r#"latentd_queue_wait_seconds_bucket{le="60"}"#], 0.0);
    assert_eq!(samples[r#"latentd_queue_wait_seconds_bucket{le="300"}"#], 1.0);
    assert!((90.0..91.0).contains(&samples["latentd_queue_wait_seconds_sum"]));
    assert_eq!(samples[r#"latentd_inference_seconds_bucket{stage="denoise",le="2"}"#], 0.0);
    assert_eq!(samples[r#"latentd_inference_seconds_bucket{stage="denoise",le="3"}"#], 1.0);
    assert_eq!(samples[r#"latentd_inference_seconds_sum{stage="denoise"}"#], 2.5);
    assert!(
        !samples.keys().any(|name| name.starts_with("latentd_safety_score_count")),
        "no number, no score"
    );
}

#[tokio::test]
async fn what_waits_and_runs_is_shown() {
    let server = Server::start().await;
    for _ in 0..3 {
        server.submit(&small()).await;
    }
    let run = server.run_stepped("one").await;
    run.step().await;
    let samples = scrape(&server).await;
    assert_eq!(samples["latentd_requests_running"], 1.0);
    assert_eq!(samples[r#"latentd_queue_depth{priority="normal"}"#], 2.0);
    run.finish().await;
}

#[tokio::test]
async fn refusals_are_counted_by_their_reason() {
    let server = Server::with(|api| api.max_queue = 1).await;
    server.submit(&small()).await;
    let refused = server.call(Method::POST, &format!("/queue/{ENDPOINT}"), &small()).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    server.call(Method::POST, &format!("/run/{ENDPOINT}"), &json!({ "prompt": 3 })).await;
    server.get("/nothing/here/requests/x").await;
    server.closing.send_replace(true);
    server.call(Method::POST, &format!("/queue/{ENDPOINT}"), &small()).await;
    let samples = scrape(&server).await;
    for reason in ["queue_full", "invalid", "stopping"] {
        assert_eq!(samples[&format!(r#"latentd_rejected_total{{reason="{reason}"}}"#)], 1.0, "{reason}");
    }
}
