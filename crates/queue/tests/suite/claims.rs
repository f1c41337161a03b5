//! Who gets which request: the order, one request a claim, time to start, models, and what is seen of it.

use crate::rig::{Rig, claim, claim_all, request, submit};
use latentd_queue::queue::{
    CancelAnswer, FailureKind, Lost, NewRequest, Phase, Priority, Reclaimed, RequestOptions, WorkerState,
};
use latentd_queue::{data_dir, ended_workers};
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

crate::on_both! {
    requests_start_by_priority_and_then_in_the_order_of_acceptance,
    a_request_that_is_retried_returns_to_its_place,
    of_many_claims_at_once_each_gets_another_request,
    a_worker_gets_what_is_for_its_models_only,
    a_request_that_is_late_does_not_start_and_one_that_rests_starts_later,
    a_request_that_started_in_time_is_never_late,
    what_was_accepted_is_there_after_opening_again,
    each_attempt_continues_the_trace_of_the_call,
    a_cancelled_request_never_starts_and_a_running_one_is_stopped,
    positions_follow_what_other_processes_do,
    workers_count_while_they_beat,
    what_a_worker_had_is_put_back_when_its_lock_is_free,
}

async fn requests_start_by_priority_and_then_in_the_order_of_acceptance(rig: Rig) {
    let queue = rig.open().await;
    let low = submit(&queue, &NewRequest { priority: Priority::Low, ..request() }).await;
    let (first, second) = (submit(&queue, &request()).await, submit(&queue, &request()).await);
    assert_eq!(queue.depth().await.expect("a database").waiting, [(2, 2), (3, 1)]);
    assert_eq!(claim_all(&queue).await, [first, second, low]);
    assert_eq!(queue.depth().await.expect("a database").running, 3);
}

async fn a_request_that_is_retried_returns_to_its_place(rig: Rig) {
    let queue = rig.open().await;
    let (first, second) = (submit(&queue, &request()).await, submit(&queue, &request()).await);
    for lost in [Lost::Died("w"), Lost::Stopped("w")] {
        assert_eq!(claim(&queue, "w").await.expect("a request").id, first);
        queue.reclaim(lost).await.expect("a database");
    }
    let given_back = claim(&queue, "w").await.expect("a request");
    queue.give_back(&given_back).await.expect("a database");
    let newest = submit(&queue, &request()).await;
    assert_eq!(claim_all(&queue).await, [first, second, newest]);
}

async fn each_attempt_continues_the_trace_of_the_call(rig: Rig) {
    let queue = rig.open().await;
    let (traceparent, before) = (Some("00-trace-span-01".to_owned()), SystemTime::now());
    let id = submit(&queue, &NewRequest { traceparent: traceparent.clone(), ..request() }).await;
    submit(&queue, &request()).await;
    // An id has milliseconds.
    assert!(id.time() + Duration::from_millis(1) > before && id.time() <= SystemTime::now());
    for _ in 0..2 {
        let first = claim(&queue, "w").await.expect("a request");
        assert_eq!((first.id, &first.traceparent), (id, &traceparent));
        queue.give_back(&first).await.expect("a database");
    }
    claim(&queue, "w").await.expect("the first request");
    assert_eq!(claim(&queue, "w").await.expect("the second one").traceparent, None);
}

async fn of_many_claims_at_once_each_gets_another_request(rig: Rig) {
    let queue = rig.open().await;
    let mut submitted = BTreeSet::new();
    for _ in 0..20 {
        submitted.insert(submit(&queue, &request()).await.to_string());
    }
    let others = [rig.open().await, rig.open().await, queue];
    let claims: Vec<_> = (0..25)
        .map(|worker| {
            let queue = others[worker % 3].clone();
            tokio::spawn(async move { claim(&queue, &worker.to_string()).await })
        })
        .collect();
    let mut claimed = Vec::new();
    for claim in claims {
        claimed.extend(claim.await.expect("no panic").map(|claim| claim.id.to_string()));
    }
    assert_eq!(claimed.len(), 20, "none twice, and none is passed over: {claimed:?}");
    assert_eq!(claimed.into_iter().collect::<BTreeSet<_>>(), submitted);
}

async fn a_worker_gets_what_is_for_its_models_only(rig: Rig) {
    let queue = rig.open().await;
    submit(&queue, &NewRequest { model: Some("other".into()), ..request() }).await;
    let ours = submit(&queue, &NewRequest { model: Some("m".into()), ..request() }).await;
    assert!(queue.peek(&["m".into()]).await.expect("a database").is_some());
    assert_eq!(claim_all(&queue).await, [ours]);
    assert_eq!(queue.peek(&["m".into()]).await.expect("a database"), None);
    let others = queue.waiting_for_others(&["m".into()]).await.expect("a database");
    assert_eq!(others.into_iter().collect::<Vec<_>>(), [("other".into(), 1)]);
}

async fn a_request_that_started_in_time_is_never_late(rig: Rig) {
    let queue = rig.open().await;
    let options = RequestOptions { start_within: Some(Duration::from_secs(30)), ..RequestOptions::default() };
    let new = NewRequest { options, ..request() };
    let (suspended, stopped, died) =
        (submit(&queue, &new).await, submit(&queue, &new).await, submit(&queue, &new).await);
    let claimed = claim(&queue, "suspends").await.expect("a request");
    assert_eq!(claimed.id, suspended);
    for worker in ["stops", "dies"] {
        claim(&queue, worker).await.expect("a request");
    }
    queue.suspend(&claimed).await.expect("a database");
    queue.reclaim(Lost::Stopped("stops")).await.expect("a database");
    queue.reclaim(Lost::Died("dies")).await.expect("a database");
    rig.advance(Duration::from_secs(31)).await;
    assert_eq!(queue.expire_late().await.expect("a database"), 1, "no retry after a death extends the time");
    assert_eq!(claim_all(&queue).await, [suspended, stopped]);
    let status = queue.status(died).await.expect("a database").expect("a request");
    assert!(matches!(status.phase, Phase::Done { failure: Some((FailureKind::StartTimeout, _)) }));
}

async fn a_request_that_is_late_does_not_start_and_one_that_rests_starts_later(rig: Rig) {
    let queue = rig.open().await;
    let options = RequestOptions { start_within: Some(Duration::from_secs(30)), ..RequestOptions::default() };
    let late = submit(&queue, &NewRequest { options, ..request() }).await;
    assert_eq!(queue.expire_late().await.expect("a database"), 0);
    rig.advance(Duration::from_secs(31)).await;
    assert!(claim(&queue, "w").await.is_none());
    assert_eq!(queue.expire_late().await.expect("a database"), 1);
    let status = queue.status(late).await.expect("a database").expect("a request");
    assert!(
        matches!(status.phase, Phase::Done { failure: Some((FailureKind::StartTimeout, _)) }),
        "{status:?}"
    );

    let rests = submit(&queue, &request()).await;
    let claimed = claim(&queue, "w").await.expect("a request");
    queue.put_off(&claimed, Duration::from_secs(60)).await.expect("a database");
    queue.give_back(&claimed).await.expect("a database");
    assert!(claim(&queue, "w").await.is_none());
    rig.advance(Duration::from_secs(61)).await;
    assert_eq!(claim(&queue, "w").await.expect("a request").id, rests);
}

async fn what_was_accepted_is_there_after_opening_again(rig: Rig) {
    let queue = rig.open().await;
    let id = submit(&queue, &request()).await;
    let identity = queue.identity().await.expect("a database");
    queue.close().await;
    let queue = rig.open().await;
    assert_eq!(queue.identity().await.expect("a database"), identity);
    let claimed = claim(&queue, "w").await.expect("the request");
    assert_eq!((claimed.id, claimed.attempt, claimed.body), (id, 1, request().body));
}

async fn a_cancelled_request_never_starts_and_a_running_one_is_stopped(rig: Rig) {
    let queue = rig.open().await;
    let cancel = async |id, kind| queue.cancel(id, kind).await.expect("a database");
    let waiting = submit(&queue, &request()).await;
    assert_eq!(cancel(waiting, FailureKind::ClientGone).await, CancelAnswer::AlreadyDone, "it was submitted");
    assert_eq!(cancel(waiting, FailureKind::Cancelled).await, CancelAnswer::Removed);
    assert_eq!(cancel(waiting, FailureKind::Cancelled).await, CancelAnswer::AlreadyDone);
    assert!(claim(&queue, "w").await.is_none());
    submit(&queue, &request()).await;
    let running = claim(&queue, "w").await.expect("a request");
    assert_eq!(cancel(running.id, FailureKind::Cancelled).await, CancelAnswer::Requested);
    queue.reclaim(Lost::Died("w")).await.expect("a database");
    let status = queue.status(running.id).await.expect("a database").expect("a request");
    assert!(matches!(status.phase, Phase::Done { failure: Some((FailureKind::Cancelled, _)) }), "{status:?}");
}

async fn positions_follow_what_other_processes_do(rig: Rig) {
    let (queue, elsewhere) = (rig.open().await, rig.open().await);
    let first = submit(&queue, &request()).await;
    let low = submit(&queue, &NewRequest { priority: Priority::Low, ..request() }).await;
    let second = submit(&elsewhere, &request()).await;
    rig.advance(Duration::from_secs(1)).await;
    let phase = async |id| queue.status(id).await.expect("a database").expect("a request").phase;
    assert_eq!(phase(low).await, Phase::Waiting { ahead: 2 });
    assert_eq!(claim(&elsewhere, "x").await.expect("a request").id, first);
    rig.advance(Duration::from_secs(1)).await;
    assert_eq!(
        [phase(second).await, phase(low).await],
        [Phase::Waiting { ahead: 0 }, Phase::Waiting { ahead: 1 }]
    );
}

async fn workers_count_while_they_beat(rig: Rig) {
    let queue = rig.open().await;
    let age = Duration::from_secs(15);
    let live = async || queue.live_workers(age).await.expect("a database");
    queue.heartbeat("a", "cpu", WorkerState::Ready, &[]).await.expect("a database");
    queue.heartbeat("b", "cpu", WorkerState::Loading, &[]).await.expect("a database");
    queue.report_loaded_models("a", &["m".into(), "n".into()]).await.expect("a database");
    assert_eq!(live().await, (1, 2));
    let loaded = queue.loaded_models(age).await.expect("a database");
    assert_eq!(loaded.into_iter().collect::<Vec<_>>(), [("m".into(), 1), ("n".into(), 1)]);
    queue.set_silent("a", true);
    assert_eq!(live().await, (0, 1));
    queue.set_silent("a", false);
    rig.advance(Duration::from_secs(20)).await;
    assert_eq!(live().await, (0, 0));
    rig.advance(Duration::from_secs(120)).await;
    queue.forget_silent_workers().await.expect("a database");
    queue.heartbeat("a", "cpu", WorkerState::Ready, &[]).await.expect("a database");
    assert_eq!(live().await, (1, 1));
}

async fn what_a_worker_had_is_put_back_when_its_lock_is_free(rig: Rig) {
    let (queue, other) = (rig.open().await, rig.open().await);
    let folder = tempfile::tempdir().expect("a folder");
    let put_back = async |queue| ended_workers::put_back(queue, folder.path()).await.expect("a database");
    submit(&queue, &request()).await;
    let lock = data_dir::hold_worker(folder.path(), "w").expect("a folder");
    let first = claim(&queue, "w").await.expect("a request");
    assert_eq!(put_back(&queue).await, Reclaimed::default(), "it lives");
    drop(lock);
    let both = tokio::join!(put_back(&queue), put_back(&other));
    assert_eq!(both.0.waiting + both.1.waiting, 1);
    let second = claim(&queue, "v").await.expect("the same request");
    assert_eq!((second.id, second.attempt), (first.id, first.attempt + 1));
    assert_eq!(put_back(&queue).await, Reclaimed::default());
}
