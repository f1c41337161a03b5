//! The plans, on a clock that the tests turn.

use super::*;
use std::sync::Mutex;

fn done(due: Instant) -> Outcome {
    Outcome { submit: Some(due.elapsed()), total: Some(due.elapsed()), failure: None }
}

#[tokio::test(start_paused = true)]
async fn an_open_loop_sends_on_time_however_slow_the_answers_are() {
    let start = Instant::now();
    let sent = Arc::new(Mutex::new(Vec::new()));
    let seen = sent.clone();
    let outcomes = open(7.0, 700, move |due| {
        let seen = seen.clone();
        async move {
            seen.lock().expect("one at a time").push((due - start, start.elapsed()));
            tokio::time::sleep(Duration::from_secs(30)).await;
            done(due)
        }
    })
    .await;
    assert_eq!(outcomes.len(), 700);
    for (index, (due, sent)) in sent.lock().expect("nobody else").iter().enumerate() {
        // The last is due after 699 intervals to the nanosecond: nothing has added up.
        assert_eq!(*due, Duration::from_secs_f64(index as f64 / 7.0));
        // tokio's timer ticks in milliseconds.
        assert!(*sent - *due <= Duration::from_millis(2), "{index}: due {due:?}, sent {sent:?}");
    }
}

/// Coordinated omission: requests that a stall held back were due during it, and say so.
#[tokio::test(start_paused = true)]
async fn a_stall_is_charged_to_every_request_that_was_due_in_it() {
    let first = Arc::new(AtomicU64::new(0));
    let outcomes = open(10.0, 100, move |due| {
        // The third request stops the world for five seconds: the sender too.
        let stalls = first.fetch_add(1, Ordering::Relaxed) == 2;
        async move {
            if stalls {
                tokio::time::advance(Duration::from_secs(5)).await;
            }
            done(due)
        }
    })
    .await;
    let mut late: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.total).collect();
    late.sort();
    let over = |seconds| late.iter().filter(|time| **time > Duration::from_secs(seconds)).count();
    // Ten a second were due: fifty in all, ten of them for less than the last second.
    assert!((48..=51).contains(&over(0).min(51)) || over(0) >= 48, "{late:?}");
    assert!((38..=41).contains(&over(1)), "{late:?}");
    assert!((8..=11).contains(&over(4)), "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn a_closed_loop_keeps_its_clients_busy_and_no_more() {
    let (running, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let start = Instant::now();
    let peak = most.clone();
    let outcomes = closed(4, 41, move |due| {
        let (running, most) = (running.clone(), most.clone());
        async move {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_secs(1)).await;
            running.fetch_sub(1, Ordering::SeqCst);
            done(due)
        }
    })
    .await;
    assert_eq!((outcomes.len(), peak.load(Ordering::SeqCst)), (41, 4));
    // Ten rounds of four and one more.
    assert!((start.elapsed().as_secs_f64() - 11.0).abs() < 0.1, "{:?}", start.elapsed());
}
