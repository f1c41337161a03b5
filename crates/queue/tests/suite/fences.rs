//! Workers that die, fall silent or come back late: one result, fenced by attempt and by leases.

use crate::rig::{Rig, claim, reclaim_expired, request, submit};
use latentd_queue::queue::{
    Claim, Failure, FailureKind, Finish, LEASE, LEASE_CHECK_INTERVAL, LeaseCheck, Level, Lost, NewRequest,
    Origin, Outcome, Phase, Queue, Reclaimed, Verdict, WATCH, WorkerState,
};
use serde_json::json;
use std::time::Duration;

crate::on_both! {
    a_late_attempt_changes_nothing,
    a_lease_runs_out_unless_it_is_renewed,
    a_claim_that_its_worker_does_not_know_of_runs_out,
    checks_that_come_late_void_nothing,
    three_deaths_end_a_request_and_only_the_charged_one,
    of_those_that_end_a_request_at_once_one_does,
    after_a_restart_nobody_waits_on_the_line,
    a_preview_is_of_the_running_attempt_while_it_is_watched,
}

async fn assert_fenced(queue: &Queue, claim: &Claim) {
    let lines = queue.logs(claim.id, 0).await.expect("a database").len();
    assert_eq!(queue.verdict(claim).await.expect("a database"), Verdict::Fenced);
    assert_eq!(queue.progress(claim, Level::Info, "late").await.expect("a database"), Verdict::Fenced);
    assert_eq!(queue.charge(claim).await.expect("a database"), Verdict::Fenced);
    let late = queue.finish(claim, &json!({ "late": true }), &[], &[]).await;
    assert_eq!(late.expect("a database"), Finish::Fenced);
    let failed = queue.fail(claim, &Failure::of(FailureKind::Engine)).await;
    assert_eq!(failed.expect("a database"), Finish::Fenced);
    assert_eq!(queue.give_back(claim).await.expect("a database"), Finish::Fenced);
    assert!(!queue.expect_files(&["late"], Some(claim)).await.expect("a database"));
    assert_eq!(queue.logs(claim.id, 0).await.expect("a database").len(), lines);
}

async fn a_late_attempt_changes_nothing(rig: Rig) {
    let queue = rig.open().await;
    let id = submit(&queue, &request()).await;
    let late = claim(&queue, "late").await.expect("a request");
    queue.reclaim(Lost::Died("late")).await.expect("a database");
    assert_fenced(&queue, &late).await;
    let current = claim(&queue, "current").await.expect("a request");
    assert_eq!((late.attempt, current.attempt), (1, 2));
    assert_fenced(&queue, &late).await;
    assert_eq!(queue.verdict(&current).await.expect("a database"), Verdict::Continue { watched: false });
    for _call in ["the first", "another, for the answer to the first was lost"] {
        let recorded = queue.finish(&current, &json!({ "by": "current" }), &[], &[]).await;
        assert_eq!(recorded.expect("a database"), Finish::Recorded);
    }
    assert_fenced(&queue, &late).await;
    assert_fenced(&queue, &current).await;
    let outcome = queue.outcome(id).await.expect("a database");
    assert_eq!(outcome, Some(Outcome::Output(json!({ "by": "current" }))));
}

async fn a_lease_runs_out_unless_it_is_renewed(rig: Rig) {
    let queue = rig.open().await;
    submit(&queue, &request()).await;
    let claim = claim(&queue, "w").await.expect("a request");
    let most = LEASE - Duration::from_secs(5);
    for renew_by_step in [true, false] {
        rig.advance(most).await;
        match renew_by_step {
            true => drop(queue.progress(&claim, Level::Info, "step").await.expect("a database")),
            false => queue.heartbeat("w", "test", WorkerState::Ready, &[claim.id]).await.expect("a database"),
        }
        assert_eq!(reclaim_expired(&queue).await, Reclaimed::default());
    }
    rig.advance(LEASE + Duration::from_secs(1)).await;
    assert_eq!(reclaim_expired(&queue).await.waiting, 1);
    assert_fenced(&queue, &claim).await;
}

/// The database has recorded a claim, and its answer did not arrive: the worker lives, and works on something else.
async fn a_claim_that_its_worker_does_not_know_of_runs_out(rig: Rig) {
    let queue = rig.open().await;
    let (lost, known) = (submit(&queue, &request()).await, submit(&queue, &request()).await);
    for id in [lost, known] {
        assert_eq!(claim(&queue, "w").await.expect("a request").id, id);
    }
    for _ in 0..2 {
        rig.advance(LEASE - Duration::from_secs(5)).await;
        queue.heartbeat("w", "test", WorkerState::Ready, &[known]).await.expect("a database");
    }
    assert_eq!(reclaim_expired(&queue).await, Reclaimed { waiting: 1, ended: 0 });
    assert_eq!(claim(&queue, "w").await.expect("a request").id, lost);
}

async fn checks_that_come_late_void_nothing(rig: Rig) {
    let queue = rig.open().await;
    submit(&queue, &request()).await;
    claim(&queue, "w").await.expect("a request");
    rig.advance(LEASE + Duration::from_secs(1)).await;
    let mut check = LeaseCheck::default();
    for _ in 0..40 {
        // As when this process was stopped in between: the worker may have been too.
        rig.advance(LEASE_CHECK_INTERVAL * 10).await;
        let done = queue.reclaim_expired(&mut check).await.expect("a database");
        assert_eq!(done, Reclaimed::default());
    }
}

async fn three_deaths_end_a_request_and_only_the_charged_one(rig: Rig) {
    let queue = rig.open().await;
    let ids = [submit(&queue, &request()).await, submit(&queue, &request()).await];
    for death in 1..=3 {
        for _ in ids {
            let claim = claim(&queue, "w").await.expect("a request");
            queue.charge(&claim).await.expect("a database");
        }
        let done = queue.reclaim(Lost::Died("w")).await.expect("a database");
        assert_eq!((done.waiting, done.ended), if death < 3 { (2, 0) } else { (1, 1) });
    }
    let phase = async |id| queue.status(id).await.expect("a database").expect("a request").phase;
    assert_eq!(phase(ids[0]).await, Phase::Waiting { ahead: 0 });
    let Phase::Done { failure: Some((FailureKind::WorkerLost, _)) } = phase(ids[1]).await else {
        panic!("it killed three workers");
    };
}

async fn of_those_that_end_a_request_at_once_one_does(rig: Rig) {
    let (queue, elsewhere) = (rig.open().await, rig.open().await);
    for round in 0..20 {
        let id = submit(&queue, &request()).await;
        let claim = claim(&queue, "w").await.expect("a request");
        let output = json!({ "round": round });
        let (finished, cancelled, reclaimed) = tokio::join!(
            queue.finish(&claim, &output, &[], &[]),
            elsewhere.cancel(id, FailureKind::Cancelled),
            elsewhere.reclaim(Lost::Died("w")),
        );
        let finished = finished.expect("a database");
        cancelled.expect("a database");
        reclaimed.expect("a database");
        let outcome = queue.outcome(id).await.expect("a database");
        match finished {
            Finish::Recorded => assert_eq!(outcome, Some(Outcome::Output(output))),
            Finish::Cancelled => assert!(matches!(outcome, Some(Outcome::Failed(_))), "{outcome:?}"),
            Finish::Fenced => assert!(!matches!(outcome, Some(Outcome::Output(_))), "{outcome:?}"),
        }
        queue.cancel(id, FailureKind::Cancelled).await.expect("a database");
    }
    let counters = queue.counters().await.expect("a database");
    let ended: u64 = counters.iter().filter(|of| of.metric == "requests").map(|of| of.count()).sum();
    assert_eq!(ended, 20, "each is counted once");
}

async fn after_a_restart_nobody_waits_on_the_line(rig: Rig) {
    let queue = rig.open().await;
    let direct = NewRequest { origin: Origin::Direct, ..request() };
    let ids = [submit(&queue, &direct).await, submit(&queue, &direct).await];
    claim(&queue, "w").await.expect("a request");
    let queued = submit(&queue, &request()).await;
    assert_eq!(queue.reclaim(Lost::Everything).await.expect("a database").ended, 2);
    for id in ids {
        let Some(Outcome::Failed(failure)) = queue.outcome(id).await.expect("a database") else {
            panic!("nobody waits for it");
        };
        assert_eq!(failure.kind, FailureKind::ClientGone);
    }
    assert_eq!(claim(&queue, "w").await.expect("a request").id, queued);
}

async fn a_preview_is_of_the_running_attempt_while_it_is_watched(rig: Rig) {
    let queue = rig.open().await;
    submit(&queue, &request()).await;
    let lost = claim(&queue, "w").await.expect("a request");
    let preview = async |after| queue.preview(lost.id, after).await.expect("a database");
    queue.store_preview(&lost, b"nobody watches").await.expect("a database");
    assert_eq!(preview(0).await, None);
    queue.watch(lost.id).await.expect("a database");
    assert_eq!(queue.verdict(&lost).await.expect("a database"), Verdict::Continue { watched: true });
    queue.store_preview(&lost, b"first").await.expect("a database");
    let first = preview(0).await.expect("an image");
    assert_eq!((first.image.as_slice(), preview(first.number).await), (&b"first"[..], None));
    rig.advance(WATCH + Duration::from_secs(1)).await;
    assert_eq!(queue.verdict(&lost).await.expect("a database"), Verdict::Continue { watched: false });
    queue.reclaim(Lost::Died("w")).await.expect("a database");
    queue.store_preview(&lost, b"late").await.expect("a database");
    assert_eq!(preview(0).await, None);
    let current = claim(&queue, "w").await.expect("a request");
    queue.store_preview(&current, b"again").await.expect("a database");
    assert!(preview(0).await.is_some_and(|again| again.number > first.number));
    queue.finish(&current, &json!({}), &[], &[]).await.expect("a database");
    queue.watch(current.id).await.expect("a database");
    assert_eq!(preview(0).await, None);
}
