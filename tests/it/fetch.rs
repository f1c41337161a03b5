//! Images from other hosts: fetched from a real one on the loopback, and all the ways in which that is refused or fails.

use crate::init_image::{from, look, png, refusal, submit};
use crate::support::{Answer, Scripted, Server, eventually, messages};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use latentd_egress::{Client, Egress};
use serde_json::json;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

/// A host of images.
#[derive(Clone)]
struct Host {
    origin: String,
    received: Arc<Mutex<Vec<(String, HeaderMap)>>>,
}

impl Host {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let origin = format!("http://{}", listener.local_addr().expect("an address"));
        let host = Self { origin, received: Arc::default() };
        let router = Router::new().fallback(answer).with_state(host.clone());
        tokio::spawn(latentd_fal::listen(listener, router, std::future::pending()));
        host
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// Paths that were called.
    fn paths(&self) -> Vec<String> {
        self.received.lock().expect("no test panicked").iter().map(|(path, _)| path.clone()).collect()
    }
}

async fn answer(State(host): State<Host>, uri: Uri, headers: HeaderMap) -> Response {
    host.received.lock().expect("no test panicked").push((uri.path().to_owned(), headers));
    let elsewhere = |place: String| (StatusCode::FOUND, [(header::LOCATION, place)]).into_response();
    let stream = |pieces: usize| {
        let piece = Bytes::from(vec![0; 1024 * 1024]);
        let pieces =
            futures_util::stream::iter((0..pieces).map(move |_| Ok::<_, std::io::Error>(piece.clone())));
        Body::from_stream(pieces).into_response()
    };
    match uri.path() {
        "/a.png" => png(20, 10, 90).into_response(),
        "/missing" => StatusCode::NOT_FOUND.into_response(),
        "/page" => "<html>".into_response(),
        "/huge" => stream(60),
        "/promises" => {
            let body = Body::from_stream(futures_util::stream::pending::<std::io::Result<Bytes>>());
            ([(header::CONTENT_LENGTH, (1_u64 << 40).to_string())], body).into_response()
        }
        "/broken" => {
            let pieces = [Ok(Bytes::from(png(20, 10, 90))), Err(std::io::Error::other("broken off"))];
            Body::from_stream(futures_util::stream::iter(pieces)).into_response()
        }
        "/silent" => std::future::pending().await,
        "/to-image" => elsewhere("a.png".into()),
        "/to-private" => elsewhere("http://10.0.0.1/a.png".into()),
        "/to-metadata" => elsewhere("http://169.254.169.254/latest".into()),
        "/to-file" => elsewhere("file:///etc/passwd".into()),
        path => match path.strip_prefix("/hops/").and_then(|count| count.parse::<u32>().ok()) {
            Some(0) => elsewhere("/a.png".into()),
            Some(count) => elsewhere(format!("/hops/{}", count - 1)),
            None => StatusCode::IM_A_TEAPOT.into_response(),
        },
    }
}

/// The result of a request whose worker may reach what `egress` permits.
async fn result_through(server: &Server, url: &str, egress: Egress) -> Answer {
    let request = submit(server, &from(url)).await;
    let mut worker = server.worker("w", Scripted::grey()).await;
    worker.outgoing = Client::new(egress, "--fetch-allow");
    worker.tick().await.expect("a worker that goes on");
    server.get(&request).await
}

async fn result(server: &Server, url: &str) -> Answer {
    result_through(server, url, Egress::new(true)).await
}

fn words(answer: &Answer) -> String {
    answer.json()["detail"][0]["msg"].as_str().expect("words").to_owned()
}

#[tokio::test]
async fn an_image_elsewhere_is_fetched() {
    let (server, host) = (Server::start().await, Host::start().await);
    let pending = result(&server, &host.url("/a.png?signature=1")).await;
    assert_eq!(look(&server, &pending).await, (20, 10, 90));
    let received = host.received.lock().expect("no test panicked").clone();
    let (_, headers) = &received[0];
    assert_eq!(headers["host"], host.origin.strip_prefix("http://").expect("a host"));
    assert!(headers["user-agent"].to_str().expect("text").starts_with("latentd/"));
    assert!(!headers.contains_key("authorization") && !headers.contains_key("referer"));
}

#[tokio::test]
async fn redirects_are_followed_five_times() {
    let (server, host) = (Server::start().await, Host::start().await);
    for path in ["/to-image", "/hops/4"] {
        let pending = result(&server, &host.url(path)).await;
        assert_eq!(look(&server, &pending).await, (20, 10, 90), "{path}");
    }
    let answer = result(&server, &host.url("/hops/5")).await;
    assert_eq!(refusal(&answer).0, "file_download_error");
    assert!(words(&answer).contains("redirected more than 5 times"), "{answer:?}");
}

#[tokio::test]
async fn addresses_that_are_not_public_are_not_called() {
    let (server, host) = (Server::start().await, Host::start().await);
    let local = host.url("/a.png");
    let by_name = local.replace("127.0.0.1", "localhost");
    let mapped = local.replace("127.0.0.1", "[::ffff:127.0.0.1]");
    for url in [
        &local,
        &by_name,
        &mapped,
        "http://169.254.169.254/latest",
        "http://0x7f.1/",
        "http://a\\@127.0.0.1/",
    ] {
        let answer = result_through(&server, url, Egress::new(false)).await;
        assert_eq!(refusal(&answer).0, "file_download_error", "{url}");
    }
    let answer = result_through(&server, &local, Egress::new(false)).await;
    assert!(words(&answer).contains("not public") && words(&answer).contains("--fetch-allow"), "{answer:?}");
    assert_eq!(host.paths(), Vec::<String>::new(), "no connection was made");
    let mut allowed = Egress::new(false);
    allowed.allow("127.0.0.1").expect("an address");
    let pending = result_through(&server, &by_name, allowed).await;
    assert_eq!(look(&server, &pending).await, (20, 10, 90));
}

#[tokio::test]
async fn a_redirect_is_checked_like_a_url() {
    let (server, host) = (Server::start().await, Host::start().await);
    for (path, why) in [
        ("/to-private", "not public"),
        ("/to-metadata", "not public"),
        ("/to-file", "neither http nor https"),
    ] {
        let answer = result(&server, &host.url(path)).await;
        assert_eq!(refusal(&answer).0, "file_download_error", "{path}");
        assert!(words(&answer).contains(why), "{path}: {answer:?}");
    }
}

#[tokio::test]
async fn a_file_is_bounded_whatever_it_promises() {
    let (server, host) = (Server::start().await, Host::start().await);
    for path in ["/huge", "/promises"] {
        let answer = result(&server, &host.url(path)).await;
        let limit = json!({ "max_size": 50 * 1024 * 1024 });
        assert_eq!(refusal(&answer), ("file_too_large".to_owned(), limit), "{path}");
    }
}

#[tokio::test]
async fn a_failed_download_names_its_cause() {
    let (server, host) = (Server::start().await, Host::start().await);
    for (path, class, why) in [
        ("/missing", "file_download_error", "answered 404"),
        ("/broken", "file_download_error", "the connection broke"),
        ("/page", "image_load_error", ""),
    ] {
        let answer = result(&server, &host.url(path)).await;
        assert_eq!(refusal(&answer).0, class, "{path}");
        assert!(words(&answer).contains(why), "{path}: {answer:?}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let answer = result(&server, &format!("http://{nobody}/a.png")).await;
    assert!(words(&answer).contains("no connection"), "{answer:?}");
}

#[tokio::test]
async fn a_cancel_stops_a_download() {
    let (server, host) = (Server::start().await, Host::start().await);
    let request = submit(&server, &from(&host.url("/silent"))).await;
    let mut worker = server.worker("w", Scripted::grey()).await;
    worker.outgoing = Client::new(Egress::new(true), "--fetch-allow");
    let working = tokio::spawn(async move { worker.tick().await });
    eventually(async || host.paths().first().cloned()).await;
    let status = server.status(&request).await;
    assert!(messages(&status).contains(&"fetching the initial image".to_owned()), "{status}");
    assert_eq!(server.put(&format!("{request}/cancel")).await.status, StatusCode::ACCEPTED);
    working.await.expect("no panic").expect("a worker that goes on");
    assert_eq!(server.get(&request).await.status.as_u16(), 499);
}

#[tokio::test]
async fn a_lost_lease_stops_a_download() {
    let (server, host) = (Server::start().await, Host::start().await);
    let request = submit(&server, &from(&host.url("/silent"))).await;
    let mut worker = server.worker("w", Scripted::grey()).await;
    worker.outgoing = Client::new(Egress::new(true), "--fetch-allow");
    let working = tokio::spawn(async move { worker.tick().await });
    eventually(async || host.paths().first().cloned()).await;
    server.clock.advance(600);
    server.reclaim_expired().await;
    server.queue.events().wake_workers();
    working.await.expect("no panic").expect("a worker that goes on");
    let status = server.get(&format!("{request}/status")).await.json();
    assert_eq!(status["status"], "IN_QUEUE", "it waits for another attempt: {status}");
}
