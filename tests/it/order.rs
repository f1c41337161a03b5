//! Who goes first, and how many may wait.

use crate::support::{ENDPOINT, Server, every_model, id_of, small};
use axum::http::{Method, StatusCode};
use latentd::queue::Lost;
use serde_json::Value;

/// Submits; returns the request's id.
async fn submit(server: &Server, priority: Option<&str>) -> String {
    let header = priority.map(|priority| ("x-fal-queue-priority", priority));
    id_of(&server.submit_with(header.as_slice(), &small()).await).to_owned()
}

/// Claims the next request; returns its id.
async fn claim(server: &Server) -> String {
    server.claim("w").await.id.to_string()
}

#[tokio::test]
async fn requests_start_in_the_order_of_submission_low_priority_last() {
    let server = Server::start().await;
    let low = submit(&server, Some("low")).await;
    let first = submit(&server, None).await;
    let second = submit(&server, Some("normal")).await;
    for (id, position) in [(&first, 0), (&second, 1), (&low, 2)] {
        let status = server.get(&format!("/queue/{ENDPOINT}/requests/{id}/status")).await.json();
        assert_eq!(status["queue_position"], position, "{status}");
    }
    for expected in [first, second, low] {
        assert_eq!(claim(&server).await, expected);
    }
    assert!(server.try_claim("w").await.is_none());
}

/// The order is read once for all who ask; what moved since, here or in another process, is seen all the same.
#[tokio::test]
async fn positions_follow_what_moves() {
    let server = Server::start().await;
    let position = async |id: &str| {
        let status = server.get(&format!("/queue/{ENDPOINT}/requests/{id}/status")).await.json();
        status["queue_position"].as_u64()
    };
    let (first, second) = (submit(&server, None).await, submit(&server, None).await);
    let (low, third) = (submit(&server, Some("low")).await, submit(&server, None).await);
    assert_eq!(
        [position(&second).await, position(&third).await, position(&low).await],
        [Some(1), Some(2), Some(3)]
    );
    assert_eq!(claim(&server).await, first);
    assert_eq!([position(&second).await, position(&low).await], [Some(0), Some(2)]);
    let cancelled = server.call(Method::PUT, &format!("/requests/{second}/cancel"), &Value::Null).await;
    assert_eq!(cancelled.status, StatusCode::OK);
    assert_eq!([position(&third).await, position(&low).await], [Some(0), Some(1)]);

    let elsewhere = server.open_again().await;
    assert_eq!(
        elsewhere.claim("x", &every_model()).await.expect("a database").expect("a request").id.to_string(),
        third
    );
    server.clock.advance(1);
    assert_eq!(position(&low).await, Some(0));
}

#[tokio::test]
async fn a_reclaimed_request_keeps_its_place() {
    let server = Server::start().await;
    let first = submit(&server, None).await;
    let second = submit(&server, None).await;
    assert_eq!(claim(&server).await, first);
    server.queue.reclaim(Lost::Died("w")).await.expect("a database");
    let newest = submit(&server, None).await;
    for expected in [first, second, newest] {
        assert_eq!(claim(&server).await, expected);
    }
}

#[tokio::test]
async fn a_full_queue_refuses_before_it_accepts() {
    let server = Server::with(|api| api.max_queue = 2).await;
    for path in [format!("/queue/{ENDPOINT}"), format!("/queue/{ENDPOINT}?fal_max_queue_length=5")] {
        assert_eq!(server.call(Method::POST, &path, &small()).await.status, StatusCode::OK);
    }
    for path in [format!("/queue/{ENDPOINT}"), format!("/run/{ENDPOINT}")] {
        let answer = server.call(Method::POST, &path, &small()).await;
        assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "5"));
    }
    let path = format!("/queue/{ENDPOINT}?fal_max_queue_length=0");
    server.generate_all().await;
    for expected in [StatusCode::OK, StatusCode::TOO_MANY_REQUESTS] {
        assert_eq!(server.call(Method::POST, &path, &small()).await.status, expected);
    }
}

#[tokio::test]
async fn of_many_claims_at_once_each_gets_another_request() {
    let server = Server::start().await;
    let mut submitted: Vec<String> = Vec::new();
    for _ in 0..20 {
        submitted.push(submit(&server, None).await);
    }
    let claims: Vec<_> = (0..25)
        .map(|worker| {
            let queue = server.queue.clone();
            tokio::spawn(async move {
                queue.claim(&worker.to_string(), &every_model()).await.expect("a database")
            })
        })
        .collect();
    let mut claimed = Vec::new();
    for claim in claims {
        claimed.extend(claim.await.expect("no panic").map(|claim| claim.id.to_string()));
    }
    claimed.sort();
    submitted.sort();
    assert_eq!(claimed, submitted);
}

#[tokio::test]
async fn nothing_that_was_accepted_is_lost_when_the_database_is_opened_again() {
    let server = Server::start().await;
    let id = submit(&server, None).await;
    server.queue.close().await;
    let queue = server.open_again().await;
    let claim = queue.claim("w", &every_model()).await.expect("a database").expect("the request");
    assert_eq!((claim.id.to_string(), claim.attempt), (id, 1));
    assert_ne!(claim.body, Value::Null);
}
