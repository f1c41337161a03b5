//! What holds when several processes do it at once: full queues, limits of keys, idempotency.

use crate::rig::{Rig, claim, of_key, request, submit};
use jiff::{SignedDuration, Timestamp};
use latentd_queue::queue::{
    ApiKey, CancelAnswer, Failure, FailureKind, Idempotency, NewKey, NewRequest, Origin, Queue, Revocation,
    Scope, Submission,
};
use std::collections::BTreeSet;

crate::on_both! {
    a_full_queue_accepts_no_more_than_it_has_places,
    one_name_sent_many_times_at_once_makes_one_request,
    a_name_stands_for_one_input_of_one_key,
    a_name_whose_request_nobody_waited_for_is_free_again,
    a_run_that_was_sent_to_two_servers_is_kept,
    no_more_requests_of_a_key_run_than_may,
    a_key_at_its_limit_lets_others_pass_and_refuses_to_hold_the_line,
    keys_are_kept_and_revoked,
}

async fn processes(rig: &Rig) -> [Queue; 3] {
    [rig.open().await, rig.open().await, rig.open().await]
}

/// Submits so often at once, from several processes.
async fn at_once(queues: &[Queue], new: &NewRequest, times: usize) -> Vec<Submission> {
    let calls: Vec<_> = (0..times)
        .map(|number| {
            let (queue, new) = (queues[number % queues.len()].clone(), new.clone());
            tokio::spawn(async move { queue.submit(&new).await.expect("a database") })
        })
        .collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.expect("no panic"));
    }
    answers
}

async fn a_full_queue_accepts_no_more_than_it_has_places(rig: Rig) {
    let queues = processes(&rig).await;
    let new = NewRequest { max_waiting: Some(7), ..request() };
    let answers = at_once(&queues, &new, 30).await;
    let accepted = answers.iter().filter(|answer| matches!(answer, Submission::Accepted { .. })).count();
    assert_eq!(accepted, 7, "{answers:?}");
    assert_eq!(
        queues[0].submit_failed(&new, &Failure::of(FailureKind::Invalid)).await.expect("a database"),
        Submission::Full { waiting: 7 }
    );
}

fn named(key: &str, digest: &str) -> NewRequest {
    let idempotency = Some(Idempotency { key: key.into(), digest: digest.into() });
    NewRequest { idempotency, ..request() }
}

async fn one_name_sent_many_times_at_once_makes_one_request(rig: Rig) {
    let queues = processes(&rig).await;
    let answers = at_once(&queues, &named("name", "input"), 30).await;
    let ids: BTreeSet<_> = answers
        .iter()
        .map(|answer| match answer {
            Submission::Accepted { id, .. } | Submission::Known { id } => id.to_string(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(queues[0].depth().await.expect("a database").waiting, [(2, 1)]);
}

async fn a_name_stands_for_one_input_of_one_key(rig: Rig) {
    let queue = rig.open().await;
    let id = submit(&queue, &named("name", "input")).await;
    let again = async |new: &NewRequest| queue.submit(new).await.expect("a database");
    assert_eq!(again(&named("name", "input")).await, Submission::Known { id });
    assert_eq!(again(&named("name", "another")).await, Submission::KeyTaken);
    for other in [
        NewRequest { api_key: Some("k".into()), ..named("name", "another") },
        NewRequest { endpoint: "app/other".into(), ..named("name", "another") },
        named("another", "another"),
    ] {
        assert!(matches!(again(&other).await, Submission::Accepted { .. }));
    }
}

/// Each server knows its own clients, and cancels what none of them waits for.
async fn a_run_that_was_sent_to_two_servers_is_kept(rig: Rig) {
    let queues = processes(&rig).await;
    let direct = NewRequest { origin: Origin::Direct, ..named("name", "input") };
    let id = submit(&queues[0], &direct).await;
    assert_eq!(queues[1].submit(&direct).await.expect("a database"), Submission::Known { id });
    let gone = queues[0].cancel(id, FailureKind::ClientGone).await.expect("a database");
    let kept = if queues[0].is_shared() { CancelAnswer::AlreadyDone } else { CancelAnswer::Removed };
    assert_eq!(gone, kept, "a file has one server");
}

async fn a_name_whose_request_nobody_waited_for_is_free_again(rig: Rig) {
    let queue = rig.open().await;
    let direct = NewRequest { origin: Origin::Direct, ..named("name", "input") };
    let gone = submit(&queue, &direct).await;
    queue.cancel(gone, FailureKind::ClientGone).await.expect("a database");
    let again = submit(&queue, &direct).await;
    assert_ne!(again, gone);
    // One that is submitted to the queue is kept when who waited goes.
    let known = queue.submit(&named("name", "input")).await.expect("a database");
    assert_eq!(known, Submission::Known { id: again });
    queue.cancel(again, FailureKind::ClientGone).await.expect("a database");
    assert_eq!(claim(&queue, "w").await.expect("it is wanted").id, again);
    // Also where the server would refuse the same input now.
    let other = submit(&queue, &NewRequest { origin: Origin::Direct, ..named("other", "input") }).await;
    let invalid = Failure::of(FailureKind::Invalid);
    let known = queue.submit_failed(&named("other", "input"), &invalid).await.expect("a database");
    assert_eq!(known, Submission::Known { id: other });
    queue.cancel(other, FailureKind::ClientGone).await.expect("a database");
    assert_eq!(claim(&queue, "w").await.expect("it is wanted").id, other);
}

async fn add_key(queue: &Queue, id: &str, concurrency: Option<u32>) {
    let new = NewKey { id: id.into(), sha256: [7; 32], name: "n".into(), scope: Scope::Api, concurrency };
    queue.add_key(&new).await.expect("a database");
}

async fn no_more_requests_of_a_key_run_than_may(rig: Rig) {
    let queues = processes(&rig).await;
    add_key(&queues[0], "a", Some(2)).await;
    for _ in 0..12 {
        submit(&queues[0], &of_key("a")).await;
    }
    let other = submit(&queues[0], &of_key("b")).await;
    let claims: Vec<_> = (0..12)
        .map(|worker| {
            let queue = queues[worker % 3].clone();
            tokio::spawn(async move { claim(&queue, &worker.to_string()).await })
        })
        .collect();
    let mut claimed = Vec::new();
    for claim in claims {
        claimed.extend(claim.await.expect("no panic"));
    }
    // A claim that finds the last place just taken may come back with nothing: the next one does not.
    if let Some(next) = claim(&queues[0], "w").await {
        claimed.push(next);
    }
    assert_eq!(claimed.len(), 3, "two of the key, and the other's: {claimed:?}");
    assert!(claimed.iter().any(|claim| claim.id == other));
    assert_eq!(queues[0].depth().await.expect("a database").running, 3);
}

async fn a_key_at_its_limit_lets_others_pass_and_refuses_to_hold_the_line(rig: Rig) {
    let queue = rig.open().await;
    add_key(&queue, "a", Some(1)).await;
    add_key(&queue, "b", None).await;
    let a = [submit(&queue, &of_key("a")).await, submit(&queue, &of_key("a")).await];
    let b = submit(&queue, &of_key("b")).await;
    let first = claim(&queue, "w").await.expect("a request");
    assert_eq!(first.id, a[0]);
    assert_eq!(claim(&queue, "w").await.expect("a request").id, b);
    assert!(claim(&queue, "w").await.is_none());
    let direct = NewRequest { origin: Origin::Direct, ..of_key("a") };
    assert_eq!(queue.submit(&direct).await.expect("a database"), Submission::KeyBusy { limit: 1 });
    let full_too = NewRequest { max_waiting: Some(1), ..direct };
    assert_eq!(queue.submit(&full_too).await.expect("a database"), Submission::KeyBusy { limit: 1 });
    queue.fail(&first, &Failure::of(FailureKind::Engine)).await.expect("a database");
    assert_eq!(claim(&queue, "w").await.expect("a request").id, a[1]);
}

async fn keys_are_kept_and_revoked(rig: Rig) {
    let queue = rig.open().await;
    add_key(&queue, "a", Some(3)).await;
    add_key(&queue, "b", None).await;
    let keys = async || queue.keys().await.expect("a database");
    let of = |keys: &[ApiKey]| keys.iter().map(|key| (key.id.clone(), key.concurrency)).collect::<Vec<_>>();
    assert_eq!(of(&keys().await), [("a".into(), Some(3)), ("b".into(), None)]);
    let used = Timestamp::now();
    for at in [used, used - SignedDuration::from_secs(60)] {
        queue.keys_used(&[("a".into(), at)]).await.expect("a database");
    }
    let last = keys().await[0].last_used_at.expect("a use");
    assert_eq!(last.as_microsecond(), used.as_microsecond(), "an earlier use is no later one");
    for expected in [Revocation::Revoked, Revocation::AlreadyRevoked] {
        assert_eq!(queue.revoke_key("a").await.expect("a database"), expected);
    }
    assert_eq!(queue.revoke_key("c").await.expect("a database"), Revocation::Unknown);
}
