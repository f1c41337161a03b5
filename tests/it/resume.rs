//! Work goes on where it was interrupted: a worker that is lost costs the work since the last saved step, and a request of
//! low priority gives its worker to one of normal priority between two steps.

use crate::support::engine::step;
use crate::support::{
    Program, RunningWorker, Scripted, Server, attempts, eventually, messages, signal, small_with,
    stepped_engine, steps_of_attempt, within,
};
use latentd::engine::{Control, EngineError};
use latentd::queue::Lost;
use serde_json::{Value, json};
use std::sync::mpsc::channel;
use std::time::Duration;

/// How often a worker saves the state of a request is at most this long.
const SAVE_INTERVAL: Duration = Duration::from_millis(1100);

fn many_steps() -> Value {
    small_with("num_inference_steps", 20)
}

/// The steps that each attempt has reported.
fn steps(status: &Value) -> Vec<Vec<usize>> {
    (1..=attempts(status)).map(|attempt| steps_of_attempt(status, attempt)).collect()
}

#[tokio::test]
async fn the_next_attempt_goes_on_after_the_last_saved_step() {
    let server = Server::start().await;
    let request = server.submit(&many_steps()).await;
    let lost = server.run_stepped("lost").await;
    lost.step().await;
    tokio::time::sleep(SAVE_INTERVAL).await;
    // The state is saved after the second step, and with the third the worker is gone.
    lost.step().await;
    lost.step().await;
    eventually(async || (steps(&server.status(&request).await) == [[1, 2, 3]]).then_some(())).await;
    server.queue.reclaim(Lost::Died("lost")).await.expect("a database");

    let current = server.run_stepped("current").await;
    current.finish().await;
    let status = server.status(&request).await;
    assert_eq!(status["status"], "COMPLETED");
    assert_eq!(steps(&status), [vec![1, 2, 3], (3..=20).collect()]);
    lost.finish().await;
}

#[tokio::test]
async fn a_low_priority_gives_way_between_two_steps() {
    let server = Server::start().await;
    let low = server.submit_with(&[("x-fal-queue-priority", "low")], &many_steps()).await;
    let (engine, control) = stepped_engine();
    let worker = RunningWorker::start(server.worker("w", engine).await);
    control.step().await;
    let normal = server.submit(&small_with("num_inference_steps", 3)).await;
    // The worker looks at what waits soon after it has come, and the engine stops at its next step.
    let mut taken = 1;
    while server.status(&low).await["status"] == "IN_PROGRESS" {
        assert!(taken < 20, "it did not give way");
        control.step().await;
        taken += 1;
        let noticed = async || {
            let status = server.status(&low).await;
            (status["status"] == "IN_QUEUE" || steps(&status).concat().len() == taken).then_some(())
        };
        eventually(noticed).await;
    }
    let suspended = server.status(&low).await;
    let words: String = "suspended for a request of higher priority".into();
    assert!(messages(&suspended).contains(&words), "{suspended}");
    // Once the worker has claimed the other one.
    eventually(async || (server.status(&low).await["queue_position"] == 0).then_some(())).await;
    drop(control);
    for request in [&normal, &low] {
        let done = async || (server.status(request).await["status"] == "COMPLETED").then_some(());
        within(Duration::from_secs(60), done).await;
    }
    worker.drained().await;
    let [first, second] = &steps(&server.status(&low).await)[..] else { panic!("two attempts") };
    assert_eq!([&first[..], second].concat(), (1..=20).collect::<Vec<_>>(), "no step twice");
    assert_eq!(steps(&server.status(&normal).await), [[1, 2, 3]]);
}

/// The order to suspend comes after the engine has been asked for its state: it takes one more step, whose state it saves.
#[tokio::test]
async fn no_work_is_lost_where_the_state_was_not_saved_yet() {
    let server = Server::start().await;
    let low = server.submit_with(&[("x-fal-queue-priority", "low")], &many_steps()).await;
    let (looked, looks) = channel();
    let engine = Scripted::new(move |call| {
        let done = call.observer.saved_state().map_or(0, |state| usize::from(state[0]));
        for index in done + 1..=call.request.steps {
            if call.observer.wants_state() {
                call.observer.state(index, vec![index as u8]);
            } else if index == 1 && call.request.steps == 20 {
                looks.recv().expect("the worker has looked at what waits");
            }
            if call.observer.step(step(index, call.request.steps)) == Control::Stop {
                return Err(EngineError::Stopped);
            }
        }
        Ok(call.images_after(|| {}))
    });
    // The worker has a request prefetched right after it has decided whether to suspend.
    let engine = engine.with_prefetch(move |_| {
        let _ = looked.send(());
    });
    let worker = RunningWorker::start(server.worker("w", engine).await);
    eventually(async || (attempts(&server.status(&low).await) == 1).then_some(())).await;
    let normal = server.submit(&small_with("num_inference_steps", 3)).await;
    for request in [&normal, &low] {
        let done = async || (server.status(request).await["status"] == "COMPLETED").then_some(());
        within(Duration::from_secs(60), done).await;
    }
    worker.drained().await;
    assert_eq!(steps(&server.status(&low).await).concat(), (1..=20).collect::<Vec<_>>(), "no step twice");
}

/// A request of the built-in model that takes more than two saves of its state on a fast machine too.
fn long() -> Value {
    json!({ "prompt": "two boats on a lake", "image_size": { "width": 1024, "height": 1024 }, "seed": 3,
        "num_inference_steps": 50, "num_images": 4, "sync_mode": true, "enable_safety_checker": false })
}

fn images(server: &Program, request: &str) -> Vec<Value> {
    let (code, output) = server.call("GET", request, &Value::Null);
    assert_eq!(code, 200, "{output}");
    output["images"].as_array().expect("images").iter().map(|image| image["url"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_image_of_a_killed_worker_and_a_killed_server_is_that_of_an_undisturbed_run() {
    let data = tempfile::tempdir().expect("a directory");
    let mut server = Program::start(data.path());
    let undisturbed = server.submit_input(&long());
    server.completed(&undisturbed).await;
    let expected = images(&server, &undisturbed);

    let request = server.submit_input(&long());
    let first = server.stored_after(data.path(), &request, 0).await;
    signal("KILL", server.workers()[0]);
    let second = server.stored_after(data.path(), &request, first).await;
    drop(server);
    server = Program::start(data.path());
    let status = server.completed(&request).await;
    assert_eq!(status.get("error"), None, "{status}");
    assert!(images(&server, &request) == expected, "other pixels");

    let lines = messages(&status);
    let after = |line: &String| line.strip_prefix("continuing after step ")?.split_once('/')?.0.parse().ok();
    let continued: Vec<usize> = lines.iter().filter_map(after).collect();
    assert!(continued.len() == 2 && continued[0] >= first && continued[1] >= second, "{lines:?}");
    for (attempt, done) in continued.into_iter().enumerate() {
        let taken = steps_of_attempt(&status, attempt + 2);
        assert!(taken.first().is_none_or(|step| *step == done + 1), "{taken:?} after {done}");
    }
}
