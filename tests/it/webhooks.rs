//! Webhooks: what a real receiver on the loopback gets, when again, and what is refused.

use crate::support::{Answer, ENDPOINT, Server, eventually, messages, small};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use latentd::signing::SigningKey;
use latentd::webhooks::Deliverer;
use latentd_egress::Egress;
use latentd_fal::webhook_message;
use ring::signature::{ED25519, UnparsedPublicKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A program that waits for webhooks.
#[derive(Clone)]
struct Receiver {
    url: String,
    answers: Arc<AtomicU16>,
    received: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
}

impl Receiver {
    async fn start(answers: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/hook?a=1", listener.local_addr().expect("an address"));
        let receiver = Self { url, answers: Arc::new(AtomicU16::new(answers)), received: Arc::default() };
        let router = Router::new().fallback(receive).with_state(receiver.clone());
        tokio::spawn(latentd_fal::listen(listener, router, std::future::pending()));
        receiver
    }

    fn count(&self) -> usize {
        self.received.lock().expect("no test panicked").len()
    }

    /// Waits for the message with this number, from 1.
    async fn message(&self, number: usize) -> (HeaderMap, Value, Bytes) {
        let (headers, body) =
            eventually(async || self.received.lock().expect("no test panicked").get(number - 1).cloned())
                .await;
        let value = serde_json::from_slice(&body).expect("JSON");
        (headers, value, body)
    }
}

async fn receive(
    State(receiver): State<Receiver>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, [(&'static str, String); 1]) {
    receiver.received.lock().expect("no test panicked").push((headers, body));
    let status = StatusCode::from_u16(receiver.answers.load(Ordering::Relaxed)).expect("a status");
    (status, [("location", receiver.url.clone())])
}

async fn server() -> Server {
    Server::with(|api| api.egress = Egress::new(true)).await
}

async fn submit_to(server: &Server, url: &str, input: &Value) -> Answer {
    let url: String = url::form_urlencoded::byte_serialize(url.as_bytes()).collect();
    server.call(Method::POST, &format!("/queue/{ENDPOINT}?fal_webhook={url}"), input).await
}

async fn submitted(server: &Server, url: &str, input: &Value) -> (String, String) {
    let answer = submit_to(server, url, input).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let id = answer.json()["request_id"].as_str().expect("an id").to_owned();
    (format!("/queue/{ENDPOINT}/requests/{id}"), id)
}

/// Starts what `serve` starts; it stops as `serve` stops it.
fn deliver(server: &Server, egress: Egress) -> (watch::Sender<bool>, JoinHandle<()>) {
    let key = SigningKey::open(server.directory.path()).expect("the server's key");
    let render = move |webhook: &_, outcome| webhook_message(&key, webhook, outcome);
    let deliverer = Deliverer::new(server.queue.clone(), egress, render);
    let (stop, mut stopped) = watch::channel(false);
    let stopped = async move {
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    (stop, tokio::spawn(async move { deliverer.run(stopped).await }))
}

#[tokio::test]
async fn a_result_is_delivered_and_signed() {
    let (server, receiver) = (server().await, Receiver::start(204).await);
    let (request, id) = submitted(&server, &receiver.url, &small()).await;
    let _running = deliver(&server, Egress::new(true));
    server.generate_all().await;
    let (headers, body, raw) = receiver.message(1).await;
    assert_eq!(body["request_id"], id);
    assert_eq!(body["gateway_request_id"], id);
    assert_eq!((&body["status"], &body["error"]), (&json!("OK"), &Value::Null));
    assert_eq!(body["payload"], server.get(&request).await.json(), "the same as the result, URLs included");
    check_signatures(&server, &headers, &raw, &id).await;
}

/// What a receiver does, by the documentation of fal and of Standard Webhooks.
async fn check_signatures(server: &Server, headers: &HeaderMap, raw: &[u8], id: &str) {
    let of = |name: &str| headers[name].to_str().expect("text");
    let answer = server.get("/.well-known/jwks.json").await;
    assert_eq!(answer.header("cache-control"), "public, max-age=3600");
    let key = &answer.json()["keys"][0];
    assert_eq!((&key["kty"], &key["crv"]), (&json!("OKP"), &json!("Ed25519")));
    let x = BASE64_URL_SAFE_NO_PAD.decode(key["x"].as_str().expect("x")).expect("base64url");
    let verifier = UnparsedPublicKey::new(&ED25519, x);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (user, at) = (of("x-fal-webhook-user-id"), of("x-fal-webhook-timestamp"));
    assert_eq!(of("x-fal-webhook-request-id"), id);
    let message = format!("{id}\n{user}\n{at}\n{}", hex(&Sha256::digest(raw)));
    let sent = of("x-fal-webhook-signature");
    let signature: Vec<u8> = (0..sent.len() / 2)
        .map(|at| u8::from_str_radix(&sent[at * 2..at * 2 + 2], 16).expect("hex"))
        .collect();
    verifier.verify(message.as_bytes(), &signature).expect("fal's signature");
    assert_eq!((of("webhook-id"), of("webhook-timestamp")), (id, at));
    let signature = of("webhook-signature").strip_prefix("v1a,").expect("an asymmetric signature");
    let signature = BASE64_STANDARD.decode(signature).expect("base64");
    let message = [format!("{id}.{at}.").as_bytes(), raw].concat();
    verifier.verify(&message, &signature).expect("the standard signature");
}

#[tokio::test]
async fn every_failure_is_delivered() {
    let (server, receiver) = (server().await, Receiver::start(200).await);
    let (invalid, _) = submitted(&server, &receiver.url, &json!({})).await;
    let (cancelled, _) = submitted(&server, &receiver.url, &small()).await;
    assert_eq!(server.put(&format!("{cancelled}/cancel")).await.status, StatusCode::OK);
    let _running = deliver(&server, Egress::new(true));
    receiver.message(2).await;
    for (request, error) in [(invalid, "Invalid status code: 422"), (cancelled, "Invalid status code: 499")] {
        let result = server.get(&request).await.json();
        let received = receiver.received.lock().expect("no test panicked").clone();
        let bodies = received.iter().map(|(_, body)| serde_json::from_slice::<Value>(body).expect("JSON"));
        let id = request.rsplit('/').next().expect("an id").to_owned();
        let body = bodies.into_iter().find(|body| body["request_id"] == id).expect("a delivery");
        assert_eq!((&body["status"], &body["error"]), (&json!("ERROR"), &json!(error)));
        assert_eq!(body["payload"], result);
    }
}

#[tokio::test]
async fn ten_retries_and_no_more() {
    // A redirect back to the receiver: followed, it would be counted twice.
    let (server, receiver) = (server().await, Receiver::start(307).await);
    let (request, id) = submitted(&server, &receiver.url, &small()).await;
    server.generate_all().await;
    let _running = deliver(&server, Egress::new(true));
    let mut bodies = Vec::new();
    for (index, wait) in [0, 5, 15, 60, 120, 300, 600, 900, 1200, 1800, 2220].into_iter().enumerate() {
        assert_eq!(receiver.count(), index, "not before its time");
        server.clock.advance(wait);
        bodies.push(receiver.message(index + 1).await.2);
        settled(&server).await;
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]), "the same message every time");
    let given_up = |status: &Value| {
        messages(status).into_iter().find(|line| line.contains("given up after 11 attempts"))
    };
    let line = eventually(async || given_up(&server.status(&request).await)).await;
    assert!(line.contains("the receiver answered 307"), "{line}");
    server.clock.advance(100_000);
    assert!(server.queue.claim_webhooks(9).await.expect("a database").is_empty(), "{id} is settled");
}

/// Waits until the outcome of the attempt is noted: nothing is due, nothing is held.
async fn settled(server: &Server) {
    let held = "SELECT 1 FROM webhooks WHERE held_until IS NOT NULL";
    eventually(async || (!server.finds(held).await).then_some(())).await;
}

#[tokio::test]
async fn a_restart_sends_what_was_on_its_way() {
    let (server, receiver) = (server().await, Receiver::start(200).await);
    submitted(&server, &receiver.url, &small()).await;
    server.generate_all().await;
    let lost = server.queue.claim_webhooks(9).await.expect("a database");
    assert_eq!(lost.len(), 1);
    assert!(server.queue.claim_webhooks(9).await.expect("a database").is_empty(), "held");
    server.queue.release_webhooks().await.expect("a database");
    let (stop, running) = deliver(&server, Egress::new(true));
    receiver.message(1).await;
    stop.send_replace(true);
    running.await.expect("a clean stop");
    server.clock.advance(100_000);
    assert!(server.queue.claim_webhooks(9).await.expect("a database").is_empty(), "delivered once");
}

#[tokio::test]
async fn a_dead_receiver_does_not_block_others() {
    let (server, receiver) = (server().await, Receiver::start(200).await);
    // It accepts connections and never answers.
    let dead = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let dead_url = format!("http://{}/", dead.local_addr().expect("an address"));
    for _ in 0..80 {
        submitted(&server, &dead_url, &json!({})).await;
    }
    submitted(&server, &receiver.url, &json!({})).await;
    let _running = deliver(&server, Egress::new(true));
    receiver.message(1).await;
    assert!(server.queue.claim_webhooks(100).await.expect("a database").is_empty(), "four are on their way");
}

#[tokio::test]
async fn urls_are_checked_at_submit() {
    let server = Server::with(|api| api.egress.allow("10.1.0.0/16").expect("a block")).await;
    let refused = [
        ("ftp://example.com/", "http://"),
        ("/relative", "http://"),
        ("http://user:pass@example.com/", "user name"),
        ("http://169.254.169.254/latest", "--webhook-allow 169.254.169.254"),
        ("http://[::ffff:127.0.0.1]/", "--webhook-allow"),
        ("http://0x7f.1/", "--webhook-allow 127.0.0.1"),
        ("http://localhost:9/", "--webhook-allow localhost"),
        ("http://10.2.0.1/", "--webhook-allow 10.2.0.1"),
        (&format!("http://example.com/{}", "a".repeat(2048)), "longer than"),
    ];
    for (url, words) in refused {
        let answer = submit_to(&server, url, &small()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{url}");
        let detail = answer.json()["detail"].to_string();
        assert!(detail.contains("fal_webhook") && detail.contains(words), "{url}: {detail}");
    }
    for url in ["https://example.com/hook?a=1", "http://10.1.2.3:8000/"] {
        assert_eq!(submit_to(&server, url, &small()).await.status, StatusCode::OK, "{url}");
    }
}

#[tokio::test]
async fn a_name_is_checked_when_it_is_called() {
    let (server, receiver) = (server().await, Receiver::start(200).await);
    submitted(&server, &receiver.url.replace("127.0.0.1", "localhost"), &json!({})).await;
    let _running = deliver(&server, Egress::new(false));
    // Noted as failed: due again five seconds later.
    let failed = "SELECT 1 FROM webhooks WHERE attempts = 1 AND held_until IS NULL AND state = 'due'";
    eventually(async || server.finds(failed).await.then_some(())).await;
    assert_eq!(receiver.count(), 0, "no connection was made");
}
