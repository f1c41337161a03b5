//! What an attempt saved of its work is there for the next one, and a request of low priority gives way.

use crate::rig::{Rig, claim, request, submit};
use latentd_queue::queue::{Claim, Lost, NewRequest, Priority, Queue};
use serde_json::json;

crate::on_both! {
    the_next_attempt_gets_what_the_last_one_saved,
    a_state_that_brings_no_attempt_further_is_given_up,
    only_deaths_without_progress_end_a_request,
    a_low_priority_gives_way_to_what_its_worker_could_take,
}

async fn used(queue: &Queue, claim: &Claim) -> Option<Vec<u8>> {
    queue.use_state(claim).await.expect("a database")
}

async fn store(queue: &Queue, claim: &Claim, steps: usize, bytes: &[u8]) {
    queue.store_state(claim, steps, bytes.to_vec()).await.expect("a database");
}

/// The worker dies; another claims the request.
async fn next_attempt(queue: &Queue) -> Claim {
    queue.reclaim(Lost::Died("w")).await.expect("a database");
    claim(queue, "w").await.expect("a request")
}

async fn the_next_attempt_gets_what_the_last_one_saved(rig: Rig) {
    let queue = rig.open().await;
    submit(&queue, &request()).await;
    let first = claim(&queue, "w").await.expect("a request");
    assert_eq!(used(&queue, &first).await, None);
    store(&queue, &first, 1, b"step 1").await;
    store(&queue, &first, 2, b"step 2").await;
    let second = next_attempt(&queue).await;
    store(&queue, &first, 3, b"late").await;
    assert_eq!(used(&queue, &first).await, None, "an attempt that lost its claim");
    assert_eq!(used(&queue, &second).await.as_deref(), Some(&b"step 2"[..]));
    queue.finish(&second, &json!({}), &[], &[]).await.expect("a database");
    assert_eq!(used(&queue, &second).await, None);
    store(&queue, &second, 3, b"late").await;

    let other = submit(&queue, &request()).await;
    let claimed = claim(&queue, "w").await.expect("a request");
    store(&queue, &claimed, 1, b"of another").await;
    queue.give_back(&claimed).await.expect("a database");
    let again = claim(&queue, "w").await.expect("a request");
    assert_eq!((again.id, used(&queue, &again).await.as_deref()), (other, Some(&b"of another"[..])));
}

async fn a_state_that_brings_no_attempt_further_is_given_up(rig: Rig) {
    let queue = rig.open().await;
    submit(&queue, &request()).await;
    let mut attempt = claim(&queue, "w").await.expect("a request");
    store(&queue, &attempt, 1, b"a").await;
    for expected in [Some(&b"a"[..]), Some(b"a"), None] {
        attempt = next_attempt(&queue).await;
        assert_eq!(used(&queue, &attempt).await.as_deref(), expected);
    }
    store(&queue, &attempt, 2, b"b").await;
    attempt = next_attempt(&queue).await;
    assert_eq!(used(&queue, &attempt).await.as_deref(), Some(&b"b"[..]));
}

async fn only_deaths_without_progress_end_a_request(rig: Rig) {
    let queue = rig.open().await;
    let id = submit(&queue, &request()).await;
    // An attempt stores the states after these steps, and dies; whether it is the last one.
    let attempt = async |steps: &[usize]| {
        let claim = claim(&queue, "w").await.expect("a request");
        queue.charge(&claim).await.expect("a database");
        for steps in steps {
            store(&queue, &claim, *steps, b"state").await;
        }
        let done = queue.reclaim(Lost::Died("w")).await.expect("a database");
        assert_eq!((done.waiting + done.ended, done.waiting), (1, 1 - done.ended));
        done.ended == 1
    };
    for step in 1..10 {
        assert!(!attempt(&[step]).await, "it gets further with each attempt");
        assert!(!attempt(&[]).await, "and one in two that does not is borne");
    }
    assert!(!attempt(&[10, 12]).await);
    // An attempt that began anew is behind the one that came furthest.
    assert!(!attempt(&[3, 12]).await, "the second death at this step");
    assert!(attempt(&[11]).await, "the third");
    let status = queue.status(id).await.expect("a database").expect("a request");
    assert!(format!("{status:?}").contains("died 3 times"), "{status:?}");
}

async fn a_low_priority_gives_way_to_what_its_worker_could_take(rig: Rig) {
    let queue = rig.open().await;
    let low = NewRequest { priority: Priority::Low, ..request() };
    submit(&queue, &low).await;
    let running = claim(&queue, "w").await.expect("a request");
    let must = async |claim: &Claim| queue.must_give_way(claim, &["m".into()]).await.expect("a database");
    submit(&queue, &low).await;
    submit(&queue, &NewRequest { model: Some("other".into()), ..request() }).await;
    assert!(!must(&running).await, "one of its own priority, and one of a model that the worker has not");
    submit(&queue, &request()).await;
    submit(&queue, &request()).await;
    assert!(must(&running).await);
    let normal = claim(&queue, "x").await.expect("a request");
    assert!(!must(&normal).await, "one of its own priority waits");
}
