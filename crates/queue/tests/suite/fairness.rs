//! One key's many requests do not starve another's few, and each key's own keep their order.

use crate::rig::{Rig, claim, claim_all, of_key, request, submit};
use latentd_queue::queue::{Failure, FailureKind, Lost, NewRequest, Phase, Priority, Queue, RequestId};

crate::on_both! {
    a_thousand_requests_of_one_key_do_not_starve_one_of_another,
    a_key_that_sends_one_at_a_time_gets_half_beside_one_that_sent_many,
    a_retried_request_starts_before_what_was_behind_it,
    a_key_that_comes_late_is_owed_nothing,
    a_low_priority_waits_whatever_its_key,
}

async fn submit_many(queue: &Queue, new: &NewRequest, count: usize) -> Vec<RequestId> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(submit(queue, new).await);
    }
    ids
}

/// Takes the next request and ends it.
async fn serve(queue: &Queue) -> RequestId {
    let claim = claim(queue, "w").await.expect("a request");
    queue.fail(&claim, &Failure::of(FailureKind::Engine)).await.expect("a database");
    claim.id
}

async fn a_thousand_requests_of_one_key_do_not_starve_one_of_another(rig: Rig) {
    let queue = rig.open().await;
    let many = submit_many(&queue, &of_key("many"), 1000).await;
    assert_eq!(serve(&queue).await, many[0]);
    let one = submit(&queue, &of_key("one")).await;
    let keyless = submit(&queue, &request()).await;
    let status = queue.status(one).await.expect("a database").expect("a request");
    assert!(matches!(status.phase, Phase::Waiting { ahead: 0 | 1 }), "{status:?}");
    let next = [serve(&queue).await, serve(&queue).await, serve(&queue).await];
    assert!(next.contains(&one) && next.contains(&keyless), "all three keys had a turn: {next:?}");
    let rest: Vec<_> =
        next.into_iter().chain(claim_all(&queue).await).filter(|id| many.contains(id)).collect();
    assert_eq!(rest, many[1..], "a key's own requests keep their order");
}

async fn a_key_that_sends_one_at_a_time_gets_half_beside_one_that_sent_many(rig: Rig) {
    let queue = rig.open().await;
    submit_many(&queue, &of_key("many"), 40).await;
    let mut served = 0;
    let mut mine = submit(&queue, &of_key("one")).await;
    for _ in 0..20 {
        if serve(&queue).await == mine {
            served += 1;
            mine = submit(&queue, &of_key("one")).await;
        }
    }
    assert!((9..=11).contains(&served), "{served} of 20");
}

async fn a_retried_request_starts_before_what_was_behind_it(rig: Rig) {
    let queue = rig.open().await;
    let (a, b) = (submit_many(&queue, &of_key("a"), 3).await, submit_many(&queue, &of_key("b"), 3).await);
    let first = claim(&queue, "w").await.expect("a request");
    assert_eq!(first.id, a[0]);
    queue.reclaim(Lost::Died("w")).await.expect("a database");
    assert_eq!(claim_all(&queue).await, [a[0], b[0], a[1], b[1], a[2], b[2]]);
}

async fn a_key_that_comes_late_is_owed_nothing(rig: Rig) {
    let queue = rig.open().await;
    submit_many(&queue, &of_key("a"), 30).await;
    for _ in 0..20 {
        serve(&queue).await;
    }
    let late = submit_many(&queue, &of_key("b"), 10).await;
    let mut served = 0;
    for _ in 0..10 {
        served += usize::from(late.contains(&serve(&queue).await));
    }
    assert!((4..=6).contains(&served), "{served} of 10: what it did not use is not made up for");
    // Nor does a key pay for what it had when others had nothing to do.
    claim_all(&queue).await;
    let (a, c) = (submit_many(&queue, &of_key("a"), 2).await, submit_many(&queue, &of_key("c"), 2).await);
    assert_eq!(claim_all(&queue).await, [a[0], c[0], a[1], c[1]]);
}

async fn a_low_priority_waits_whatever_its_key(rig: Rig) {
    let queue = rig.open().await;
    let low = submit(&queue, &NewRequest { priority: Priority::Low, ..of_key("a") }).await;
    let high = submit_many(&queue, &of_key("b"), 5).await;
    let order = claim_all(&queue).await;
    assert_eq!((&order[..5], order[5]), (&high[..], low));
}
