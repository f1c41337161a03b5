//! The queue beside a model of it: random sequences of operations by two processes, on both engines.
//!
//! `PROPTEST_CASES` says how many sequences; what fails is shrunk and printed as a list of operations.

mod accept;
mod at_once;
mod compare;
mod fair;
mod history;
mod operation;
mod order;
mod outbox;
mod reference;
mod run;

use crate::rig::Rig;
use operation::sequence;
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestError, TestRunner};
use tokio::runtime::Runtime;

/// Operations of one sequence, at most.
const LENGTH: usize = 60;

/// How long to look for a smaller input that fails, in milliseconds, and how many to try at most.
const SHRINK: (u32, u32) = (60_000, 1000);

/// Runs a test with random input, each time on a database of its own, until one fails; `cases` times, unless the
/// environment asks for another number.
fn check<I: std::fmt::Debug + Clone + Send + 'static, F>(
    cases: u32,
    make: impl AsyncFn() -> Rig,
    strategy: impl Strategy<Value = I>,
    test: impl Fn(Rig, I) -> F,
) where
    F: Future<Output = Result<(), TestCaseError>> + Send + 'static,
{
    let asked_for = std::env::var_os("PROPTEST_CASES").is_some();
    let default = ProptestConfig::default();
    let config = ProptestConfig {
        cases: if asked_for { default.cases } else { cases },
        max_shrink_time: SHRINK.0,
        max_shrink_iters: SHRINK.1,
        failure_persistence: None,
        ..default
    };
    let runtime = Runtime::new().expect("a runtime");
    let failed = TestRunner::new(config).run(&strategy, |input| {
        runtime.block_on(async {
            let rig = make().await;
            // A task of its own, so that the database is removed after a panic too.
            let result = tokio::spawn(test(rig.clone(), input)).await;
            rig.end().await;
            result.unwrap_or_else(|panic| Err(TestCaseError::fail(panic.to_string())))
        })
    });
    match failed {
        Ok(()) => {}
        Err(TestError::Fail(why, input)) => panic!("{why}\nafter {input:#?}"),
        Err(error) => panic!("{error}"),
    }
}

/// Runs a test with random input on both engines.
macro_rules! on_both {
    ($($test:ident: $strategy:expr, $run:expr, $cases:expr;)+) => {
        mod sqlite {
            $(#[test]
            fn $test() {
                use super::*;
                check($cases[0], async || Rig::sqlite(), $strategy, $run);
            })+
        }

        mod postgres {
            $(#[test]
            fn $test() {
                use super::*;
                check($cases[1], Rig::postgres, $strategy, $run);
            })+
        }
    };
}

on_both! {
    the_queue_does_what_the_model_does: sequence(LENGTH), run::run, [60, 10];
    what_tasks_see_that_work_at_once_fits_together: [(); at_once::TASKS].map(|()| sequence(LENGTH)), at_once::run, [10, 5];
    no_key_waits_for_more_than_a_few_of_another_and_positions_say_the_order: fair::steps(), fair::run, [10, 3];
}
