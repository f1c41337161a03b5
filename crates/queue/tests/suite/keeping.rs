//! What is kept: results and inputs end apart from each other, and the oldest results make space.

use crate::rig::{Rig, claim, request, submit};
use latentd_queue::queue::{
    Keep, NewUpload, NewWebhook, Outcome, Pruned, Queue, RequestId, SWEEP_LEASE, StoredFile, TO_FETCH,
};
use latentd_queue::storage_limit::{StorageLimit, StorageLimitError};
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;

crate::on_both! {
    results_and_inputs_end_apart_and_the_request_with_both,
    an_upload_stays_while_a_request_that_may_read_it_is_not_over,
    the_oldest_results_make_space_but_none_that_is_new_or_undelivered,
    nothing_new_is_stored_beyond_the_limit_unless_results_may_go,
    one_server_sweeps_until_it_is_gone,
}

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// A finished request with one file of so many bytes.
async fn done(queue: &Queue, key: &str, bytes: u64) -> RequestId {
    submit(queue, &request()).await;
    let claim = claim(queue, "w").await.expect("a request");
    assert!(queue.expect_files(&[key], Some(&claim)).await.expect("a database"));
    let (content_type, sha256) = ("image/png".into(), "d".into());
    let file = StoredFile { key: key.into(), content_type, bytes, sha256 };
    queue.finish(&claim, &json!({ "of": key }), &[file], &[]).await.expect("a database");
    claim.id
}

/// A whole upload.
async fn upload(queue: &Queue, object: &str, bytes: u64) {
    let new = NewUpload {
        ticket: Uuid::new_v4(),
        key: format!("name of {object}"),
        content_type: "image/png".into(),
        file_name: None,
        lifetime: None,
        access: None,
        api_key: None,
    };
    queue.open_upload(&new, 10).await.expect("a database").expect("a place");
    queue.expect_files(&[object], None).await.expect("a database");
    assert!(queue.close_upload(new.ticket, object, bytes).await.expect("a database"));
}

/// Prunes until nothing is left to do.
async fn prune(queue: &Queue, keep: &Keep) -> Pruned {
    let mut all = Pruned::default();
    loop {
        let Pruned { requests, results, inputs, uploads, log_lines } =
            queue.prune(keep).await.expect("a database");
        if requests + results + inputs + uploads + log_lines == 0 {
            return all;
        }
        all.requests += requests;
        all.results += results;
        all.inputs += inputs;
        all.uploads += uploads;
    }
}

async fn results_and_inputs_end_apart_and_the_request_with_both(rig: Rig) {
    for (first, keep) in [
        ("results", Keep { results: Some(DAY), inputs: Some(3 * DAY), ..Keep::default() }),
        ("inputs", Keep { results: Some(3 * DAY), inputs: Some(DAY), ..Keep::default() }),
    ] {
        let queue = rig.open().await;
        let id = done(&queue, first, 5).await;
        assert_eq!(prune(&queue, &keep).await, Pruned::default());
        rig.advance(2 * DAY).await;
        let pruned = prune(&queue, &keep).await;
        let outcome = queue.outcome(id).await.expect("a database");
        if first == "results" {
            assert_eq!(pruned, Pruned { results: 1, ..Pruned::default() });
            assert_eq!(outcome, Some(Outcome::Erased));
            assert_eq!(queue.given_up_files().await.expect("a database"), ["results"]);
        } else {
            assert_eq!(pruned, Pruned { inputs: 1, ..Pruned::default() });
            assert_eq!(outcome, Some(Outcome::Output(json!({ "of": "inputs" }))));
        }
        rig.advance(2 * DAY).await;
        assert_eq!(prune(&queue, &keep).await.requests, 1);
        assert_eq!(queue.status(id).await.expect("a database"), None);
    }
}

async fn an_upload_stays_while_a_request_that_may_read_it_is_not_over(rig: Rig) {
    let queue = rig.open().await;
    let keep = Keep { uploads: Some(HOUR), ..Keep::default() };
    upload(&queue, "old", 5).await;
    let waiting = submit(&queue, &request()).await;
    rig.advance(2 * HOUR).await;
    assert_eq!(prune(&queue, &keep).await.uploads, 0, "a request was accepted while it was kept");
    let claim = claim(&queue, "w").await.expect("a request");
    assert_eq!(claim.id, waiting);
    assert_eq!(prune(&queue, &keep).await.uploads, 0, "the same while it runs");
    submit(&queue, &request()).await;
    queue.finish(&claim, &json!({}), &[], &[]).await.expect("a database");
    upload(&queue, "new", 5).await;
    assert_eq!(prune(&queue, &keep).await.uploads, 1, "the other was accepted later");
    assert_eq!(queue.given_up_files().await.expect("a database"), ["old"]);
    assert_eq!(queue.owned_files().await.expect("a database"), ["new"]);
}

async fn the_oldest_results_make_space_but_none_that_is_new_or_undelivered(rig: Rig) {
    let queue = rig.open().await;
    let keep = Keep { bytes: Some(100), ..Keep::default() };
    let origin = "http://here".into();
    let webhook = Some(NewWebhook { url: "http://a/".into(), receiver: "a".into(), origin });
    let mut undelivered = request();
    undelivered.webhook = webhook;
    submit(&queue, &undelivered).await;
    let claim = claim(&queue, "w").await.expect("a request");
    assert!(queue.expect_files(&["promised"], Some(&claim)).await.expect("a database"));
    let (content_type, sha256) = ("image/png".into(), "d".into());
    let file = StoredFile { key: "promised".into(), content_type, bytes: 10, sha256 };
    queue.finish(&claim, &json!({}), &[file], &[]).await.expect("a database");
    for key in ["1", "2", "3"] {
        done(&queue, key, 40).await;
    }
    upload(&queue, "upload", 20).await;
    assert_eq!(queue.stored_bytes().await.expect("a database"), 150);
    assert_eq!(prune(&queue, &keep).await.results, 0, "clients have an hour to fetch them");
    assert_eq!(queue.deletable_bytes().await.expect("a database"), 0);
    rig.advance(TO_FETCH + Duration::from_secs(1)).await;
    assert_eq!(queue.deletable_bytes().await.expect("a database"), 120);
    assert_eq!(prune(&queue, &keep).await, Pruned { results: 2, ..Pruned::default() });
    let mut given_up = queue.given_up_files().await.expect("a database");
    given_up.sort();
    assert_eq!(
        (given_up, queue.stored_bytes().await.expect("a database")),
        (vec!["1".into(), "2".into()], 70)
    );
}

async fn nothing_new_is_stored_beyond_the_limit_unless_results_may_go(rig: Rig) {
    let queue = rig.open().await;
    let limit = || StorageLimit::new(Some(100));
    upload(&queue, "upload", 30).await;
    done(&queue, "result", 60).await;
    let first = limit();
    first.check(&queue, 10).await.expect("space");
    let refused = first.check(&queue, 1).await.expect_err("what was let in counts at once");
    assert!(matches!(refused, StorageLimitError::Reached { most: 100, .. }), "{refused}");
    rig.advance(TO_FETCH + Duration::from_secs(1)).await;
    let later = limit();
    later.check(&queue, 70).await.expect("the result may go");
    later.reached().await;
    assert!(later.check(&queue, 1).await.is_err(), "the rest is an upload, and what was let in");
    StorageLimit::default().check(&queue, u64::MAX).await.expect("no limit");
}

async fn one_server_sweeps_until_it_is_gone(rig: Rig) {
    let (a, b) = (rig.open().await, rig.open().await);
    let hold = async |queue: &Queue, name: &str| queue.hold_sweep(name).await.expect("a database");
    assert!(hold(&a, "a").await && hold(&a, "a").await);
    // A file of SQLite has one server.
    assert_eq!(hold(&b, "b").await, !b.is_shared());
    rig.advance(SWEEP_LEASE + Duration::from_secs(1)).await;
    assert!(hold(&b, "b").await);
    assert_eq!(hold(&a, "a").await, !a.is_shared());
}
