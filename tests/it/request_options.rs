//! Headers with options of a request: its time to start, and no retry.

use crate::support::{ENDPOINT, Server, eventually, small};
use axum::http::StatusCode;
use latentd::queue::Lost;

async fn submit(server: &Server, header: (&str, &str)) -> String {
    server.submit_with(&[header], &small()).await
}

#[tokio::test]
async fn a_request_that_does_not_start_in_time_fails_with_a_504_that_is_not_repeated() {
    for name in ["x-fal-request-timeout", "x-fal-request-start-timeout"] {
        let server = Server::start().await;
        let request = submit(&server, (name, "30.0")).await;
        server.clock.advance(31);
        assert!(server.try_claim("w").await.is_none(), "claimed too late");
        assert_eq!(server.queue.expire_late().await.expect("a database"), 1);
        let status = server.status(&request).await;
        assert_eq!(
            (&status["status"], &status["error_type"]),
            (&"COMPLETED".into(), &"request_timeout".into())
        );
        let answer = server.get(&request).await;
        assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(answer.header("x-fal-request-timeout-type"), "user");
        assert_eq!(answer.header("x-fal-error-type"), "request_timeout");
        assert_eq!(answer.json()["error_type"], "request_timeout");
    }
}

#[tokio::test]
async fn a_request_that_started_in_time_may_take_longer() {
    let server = Server::start().await;
    let request = submit(&server, ("x-fal-request-timeout", "30")).await;
    server.claim("w").await;
    server.clock.advance(31);
    assert_eq!(server.queue.expire_late().await.expect("a database"), 0);
    assert_eq!(server.status(&request).await["status"], "IN_PROGRESS");
    // The time is not counted anew for a second try.
    server.queue.reclaim(Lost::Died("w")).await.expect("a database");
    assert!(server.try_claim("w2").await.is_none());
}

#[tokio::test]
async fn setting_the_date_makes_no_request_late_and_none_early() {
    let server = Server::start().await;
    for jump in [86_400, -2 * 86_400] {
        let request = submit(&server, ("x-fal-request-timeout", "30")).await;
        server.clock.set_date(jump);
        assert_eq!(server.queue.expire_late().await.expect("a database"), 0);
        server.clock.advance(31);
        assert!(server.try_claim("w").await.is_none());
        assert_eq!(server.queue.expire_late().await.expect("a database"), 1);
        assert_eq!(server.status(&request).await["error_type"], "request_timeout");
    }
}

#[tokio::test]
async fn run_stops_waiting_when_the_time_to_start_is_over() {
    let server = Server::start().await;
    let (path, input) = (format!("/run/{ENDPOINT}"), small());
    let late =
        async { eventually(async || (server.queue.expire_late().await.ok()? > 0).then_some(())).await };
    let (answer, ()) = tokio::join!(server.post(&path, &[("x-fal-request-timeout", "0.2")], &input), late);
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT, "{answer:?}");
    assert_eq!(answer.header("x-fal-request-timeout-type"), "user");
}

#[tokio::test]
async fn a_time_that_is_none_is_refused_by_its_header() {
    let server = Server::start().await;
    for nonsense in ["", "soon", "NaN", "inf", "1e300", "-1", "0", "0.1"] {
        for path in [format!("/queue/{ENDPOINT}"), format!("/run/{ENDPOINT}")] {
            let answer = server.post(&path, &[("x-fal-request-timeout", nonsense)], &small()).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{nonsense:?}");
            let detail = answer.json()["detail"].to_string();
            assert!(detail.contains("x-fal-request-timeout"), "{detail}");
        }
    }
}

#[tokio::test]
async fn no_retry_fails_at_the_first_death_but_not_at_a_stop() {
    for yes in ["1", "true", "yes"] {
        let server = Server::start().await;
        let request = submit(&server, ("x-fal-no-retry", yes)).await;
        server.claim("w").await;
        server.queue.reclaim(Lost::Stopped("w")).await.expect("a database");
        assert_eq!(server.status(&request).await["status"], "IN_QUEUE");
        server.claim("w").await;
        server.queue.reclaim(Lost::Died("w")).await.expect("a database");
        assert_eq!(server.status(&request).await["error_type"], "runner_server_error");
    }
}
