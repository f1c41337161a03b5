//! What a client gets for what is not kept any longer, and from a server that stores as much as it may.

use crate::support::{ENDPOINT, HOUR, Server, eventually, small};
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use latentd::queue::Keep;
use latentd::storage_limit::StorageLimit;
use latentd::sweep;
use std::time::Duration;

/// Submits and generates; the paths of the request and of its image.
async fn done(server: &Server) -> (String, String) {
    let request = server.submit(&small()).await;
    server.generate_all().await;
    let url = server.get(&request).await.json()["images"][0]["url"].as_str().expect("a URL").to_owned();
    (request, url.strip_prefix("http://test:1").expect("our URL").to_owned())
}

async fn prune(server: &Server, keep: Keep) {
    sweep::prune(&server.queue, &keep).await.expect("a database");
    sweep::once(&server.queue, &server.storage).await.expect("a sweep");
}

async fn upload(server: &Server, bytes: usize) -> StatusCode {
    let request = Request::post("/files/upload").header("host", "test:1").header("content-type", "image/png");
    let request = request.header("content-length", bytes).body(Body::from(vec![7; bytes]));
    server.send(request.expect("a request")).await.status
}

#[tokio::test]
async fn a_result_that_is_not_kept_is_missing_while_its_request_is_known() {
    let server = Server::start().await;
    let (request, image) = done(&server).await;
    let keep = Keep { results: Some(Duration::from_secs(3600)), ..Keep::default() };
    prune(&server, keep).await;
    assert_eq!(server.get(&request).await.status, StatusCode::OK, "it is kept for an hour");
    assert_eq!(server.get(&image).await.status, StatusCode::OK);
    server.clock.advance(2 * HOUR);
    prune(&server, keep).await;
    assert_eq!(server.status(&request).await["status"], "COMPLETED");
    let result = server.get(&request).await;
    assert_eq!(result.status, StatusCode::NOT_FOUND, "{result:?}");
    assert!(result.json()["detail"].as_str().is_some_and(|detail| detail.contains("kept")));
    assert_eq!(server.get(&image).await.status, StatusCode::NOT_FOUND);
    assert_eq!(server.files(), Vec::<String>::new());
}

#[tokio::test]
async fn an_input_that_is_not_kept_leaves_the_result() {
    let server = Server::start().await;
    let (request, image) = done(&server).await;
    assert_eq!(upload(&server, 10).await, StatusCode::OK);
    assert!(has_input(&server).await);
    server.clock.advance(2 * HOUR);
    let hour = Some(Duration::from_secs(3600));
    prune(&server, Keep { inputs: hour, uploads: hour, ..Keep::default() }).await;
    assert_eq!(server.get(&request).await.status, StatusCode::OK);
    assert_eq!(server.get(&image).await.status, StatusCode::OK);
    assert_eq!(server.files().len(), 1, "the upload is gone");
    assert!(!has_input(&server).await);
}

/// Whether the database has the input of a finished request.
async fn has_input(server: &Server) -> bool {
    server.finds("SELECT 1 FROM requests WHERE state = 'done' AND body <> 'null'").await
}

#[tokio::test]
async fn a_server_that_stores_as_much_as_it_may_refuses_until_results_may_go() {
    let server = Server::with(|api| api.storage_limit = StorageLimit::new(Some(5_000))).await;
    assert_eq!(upload(&server, 4_990).await, StatusCode::OK);
    assert_eq!(upload(&server, 4_000).await, StatusCode::SERVICE_UNAVAILABLE, "it would be too much");
    let (request, _) = done(&server).await;
    // All is added up again after a second.
    let refused = eventually(async || {
        let answer = server.call(Method::POST, &format!("/queue/{ENDPOINT}"), &small()).await;
        (answer.status != StatusCode::OK).then_some(answer)
    })
    .await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{refused:?}");
    assert!(!refused.header("retry-after").is_empty());
    assert!(refused.json()["detail"].as_str().is_some_and(|detail| detail.contains("files")), "{refused:?}");
    assert_eq!(server.get("/health/ready").await.json()["status"], "storage full");
    assert_eq!(server.get(&request).await.status, StatusCode::OK, "what is there is read");
    server.clock.advance(2 * HOUR);
    eventually(async || {
        let answer = server.call(Method::POST, &format!("/queue/{ENDPOINT}"), &small()).await;
        (answer.status == StatusCode::OK).then_some(())
    })
    .await;
    prune(&server, Keep { bytes: Some(5_000), ..Keep::default() }).await;
    assert_eq!(server.get(&request).await.status, StatusCode::NOT_FOUND, "it made space");
}
