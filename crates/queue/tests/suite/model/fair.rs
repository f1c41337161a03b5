//! Keys take turns: however many requests one has, another's does not wait for more than a few of them. Checked by what
//! starts when, without a model of the turns.

use super::run::Checked;
use crate::rig::{Rig, claim, of_key, submit};
use latentd_queue::queue::{Failure, FailureKind, Phase, Queue, RequestId};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

#[derive(Debug, Clone)]
pub(super) enum Step {
    /// So many requests of the key with this number.
    Submit(usize, usize),
    /// So many requests start, and end.
    Start(usize),
}

const KEYS: [&str; 3] = ["a", "b", "c"];

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..KEYS.len(), 1..8_usize).prop_map(|(key, count)| Step::Submit(key, count)),
        (1..6_usize).prop_map(Step::Start),
    ];
    prop::collection::vec(step, 1..20)
}

/// A request that waits, with what was true when it was accepted.
struct Waiting {
    id: RequestId,
    key: usize,
    /// Others of its key that waited.
    own: usize,
    /// Requests of each key that had started.
    started: [usize; KEYS.len()],
}

pub(super) async fn run(rig: Rig, steps: Vec<Step>) -> Checked {
    let queue = rig.open().await;
    let (mut waiting, mut started) = (Vec::<Waiting>::new(), [0; KEYS.len()]);
    for step in steps {
        match step {
            Step::Submit(key, count) => {
                for _ in 0..count {
                    let own = waiting.iter().filter(|of| of.key == key).count();
                    let id = submit(&queue, &of_key(KEYS[key])).await;
                    waiting.push(Waiting { id, key, own, started });
                }
            }
            Step::Start(count) => {
                for _ in 0..count.min(waiting.len()) {
                    start(&queue, &mut waiting, &mut started).await?;
                }
            }
        }
    }
    // The positions that clients are told are the order in which their requests start.
    let mut order = Vec::new();
    for Waiting { id, .. } in &waiting {
        let phase = queue.status(*id).await.expect("a database").expect("a request").phase;
        let Phase::Waiting { ahead } = phase else { return Err(TestCaseError::fail(format!("{phase:?}"))) };
        order.push((ahead, id.to_string()));
    }
    order.sort_unstable();
    let mut starts = Vec::new();
    while !waiting.is_empty() {
        starts.push((starts.len() as u64, start(&queue, &mut waiting, &mut started).await?.to_string()));
    }
    prop_assert_eq!(order, starts);
    queue.close().await;
    Ok(())
}

async fn start(
    queue: &Queue,
    waiting: &mut Vec<Waiting>,
    started: &mut [usize; KEYS.len()],
) -> Checked<RequestId> {
    let claim = claim(queue, "w").await.expect("a request waits");
    queue.fail(&claim, &Failure::of(FailureKind::Engine)).await.expect("a database");
    let at = waiting.iter().position(|of| of.id == claim.id).expect("it waited");
    let Waiting { id, key, own, started: before } = waiting.remove(at);
    prop_assert!(waiting[..at].iter().all(|of| of.key != key), "an earlier one of {} waits", KEYS[key]);
    for other in (0..KEYS.len()).filter(|other| *other != key) {
        let passed = started[other] - before[other];
        prop_assert!(
            passed <= own + 2,
            "{} of {} started while one of {} waited that was behind {} of its own",
            passed,
            KEYS[other],
            KEYS[key],
            own
        );
    }
    started[key] += 1;
    Ok(id)
}
