//! Keys of the database: what they open, when they were used, and how much they may run at once.

use crate::support::{Answer, ENDPOINT, Server, eventually, id_of, small};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use latentd::keys::KeyHash;
use latentd::keys::KeyRing;
use latentd::queue::{Failure, FailureKind, NewKey, Revocation, Scope};
use serde_json::Value;

/// A server with keys in its database.
pub(crate) struct Keyed {
    pub(crate) server: Server,
    pub(crate) ring: KeyRing,
}

impl Keyed {
    pub(crate) async fn start() -> Self {
        let mut ring = KeyRing::default();
        let server = Server::with(|api| ring = api.keys.clone()).await;
        Self { server, ring }
    }

    pub(crate) async fn add(&self, id: &str, concurrency: Option<u32>) {
        self.add_key(id, Scope::Api, concurrency).await;
    }

    pub(crate) async fn add_scoped(&self, id: &str, scope: Scope) {
        self.add_key(id, scope, None).await;
    }

    async fn add_key(&self, id: &str, scope: Scope, concurrency: Option<u32>) {
        let sha256 = KeyHash::of(&format!("{id}:secret")).0;
        let new = NewKey { id: id.into(), sha256, name: String::new(), scope, concurrency };
        self.server.queue.add_key(&new).await.expect("a database");
        self.ring.refresh(&self.server.queue).await.expect("a database");
    }

    pub(crate) async fn revoke(&self, id: &str) -> Revocation {
        let done = self.server.queue.revoke_key(id).await.expect("a database");
        self.ring.refresh(&self.server.queue).await.expect("a database");
        done
    }

    /// A POST of `body`, with the key `id:secret` if there is an id.
    pub(crate) async fn post(&self, path: &str, id: Option<&str>, body: &Value) -> Answer {
        let key = id.map(|id| format!("Key {id}:secret"));
        let header = key.as_deref().map(|key| ("authorization", key));
        self.server.post(path, header.as_slice(), body).await
    }

    /// Submits with a key; returns the request's id.
    async fn submit(&self, id: &str) -> String {
        let key = format!("Key {id}:secret");
        id_of(&self.server.submit_with(&[("authorization", &key)], &small()).await).to_owned()
    }

    async fn claim(&self) -> Option<latentd::queue::Claim> {
        self.server.try_claim("w").await
    }

    async fn end(&self, claim: &latentd::queue::Claim) {
        self.server.queue.fail(claim, &Failure::of(FailureKind::Engine)).await.expect("a database");
    }
}

#[tokio::test]
async fn the_first_key_closes_the_api_and_revoking_it_does_not_open_it_again() {
    let keyed = Keyed::start().await;
    let path = format!("/queue/{ENDPOINT}");
    let status = async |id| keyed.post(&path, id, &small()).await.status;
    assert_eq!(status(None).await, StatusCode::OK);
    keyed.add("a", None).await;
    keyed.add("b", None).await;
    assert_eq!(status(None).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(Some("c")).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(Some("a")).await, StatusCode::OK);
    assert_eq!(keyed.revoke("a").await, Revocation::Revoked);
    assert_eq!(keyed.revoke("a").await, Revocation::AlreadyRevoked);
    assert_eq!(keyed.revoke("c").await, Revocation::Unknown);
    assert_eq!(status(Some("a")).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(Some("b")).await, StatusCode::OK);
    assert_eq!(keyed.revoke("b").await, Revocation::Revoked);
    assert_eq!(status(None).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_right_id_with_a_wrong_secret_opens_nothing() {
    let keyed = Keyed::start().await;
    keyed.add("a", None).await;
    for wrong in ["Key a:", "Key a", "Key a:secrets", "Key a:secret:", "Key :secret", "Basic a:secret"] {
        let request = Request::post(format!("/run/{ENDPOINT}")).header("authorization", wrong);
        let answer = keyed.server.send(request.body(Body::empty()).expect("a request")).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{wrong}");
        assert_eq!(answer.header("www-authenticate"), "Key");
        assert!(answer.json()["detail"].as_str().is_some_and(|detail| detail.contains("Authorization: Key")));
    }
}

#[tokio::test]
async fn keys_of_the_command_line_go_on_working_beside_those_of_the_table() {
    let mut ring = KeyRing::default();
    let server = Server::with(|api| {
        api.keys = KeyRing::new(vec![KeyHash::of("fixed:secret")]);
        ring = api.keys.clone();
    })
    .await;
    let keyed = Keyed { server, ring };
    keyed.add("a", None).await;
    for id in ["fixed", "a"] {
        keyed.submit(id).await;
    }
    keyed.revoke("a").await;
    keyed.submit("fixed").await;
}

#[tokio::test]
async fn any_key_of_a_server_reads_any_request() {
    let keyed = Keyed::start().await;
    keyed.add("a", None).await;
    keyed.add("b", None).await;
    let id = keyed.submit("a").await;
    let request = Request::get(format!("/requests/{id}/status"))
        .header("host", "me")
        .header("authorization", "Key b:secret");
    let answer = keyed.server.send(request.body(Body::empty()).expect("a request")).await;
    assert_eq!(answer.json()["status"], "IN_QUEUE");
}

#[tokio::test]
async fn the_last_use_is_written_down_later() {
    let keyed = Keyed::start().await;
    keyed.add("a", None).await;
    keyed.submit("a").await;
    let last = async || keyed.server.queue.keys().await.expect("a database")[0].last_used_at;
    assert_eq!(last().await, None);
    keyed.ring.write_uses(&keyed.server.queue).await.expect("a database");
    let first = last().await.expect("a use");
    keyed.server.clock.advance(100);
    keyed.submit("a").await;
    keyed.ring.write_uses(&keyed.server.queue).await.expect("a database");
    assert!(last().await.expect("a use") > first);
}

#[tokio::test]
async fn requests_over_the_limit_of_their_key_wait_and_let_others_pass() {
    let keyed = Keyed::start().await;
    keyed.add("a", Some(1)).await;
    keyed.add("b", None).await;
    let (a1, a2, a3) = (keyed.submit("a").await, keyed.submit("a").await, keyed.submit("a").await);
    let b1 = keyed.submit("b").await;
    let first = keyed.claim().await.expect("a request");
    assert_eq!(first.id.to_string(), a1);
    assert_eq!(keyed.claim().await.expect("a request").id.to_string(), b1, "passes those that must wait");
    assert_eq!(keyed.claim().await, None);
    keyed.end(&first).await;
    let second = keyed.claim().await.expect("a request");
    assert_eq!(second.id.to_string(), a2, "in the order of submission");
    assert_eq!(keyed.claim().await, None);
    keyed.end(&second).await;
    assert_eq!(keyed.claim().await.expect("a request").id.to_string(), a3);
}

#[tokio::test]
async fn run_and_stream_are_refused_while_its_key_is_at_its_limit() {
    let keyed = Keyed::start().await;
    keyed.add("a", Some(1)).await;
    keyed.add("b", None).await;
    keyed.submit("a").await;
    let claim = keyed.claim().await.expect("a request");
    for path in [format!("/run/{ENDPOINT}"), format!("/{ENDPOINT}/stream")] {
        let answer = keyed.post(&path, Some("a"), &small()).await;
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{answer:?}");
        assert_eq!(answer.json()["error_type"], "concurrent_requests_limit");
        assert_eq!(answer.header("x-fal-error-type"), "concurrent_requests_limit");
        assert_eq!(answer.header("x-fal-needs-retry"), "1");
    }
    keyed.end(&claim).await;
    let path = format!("/run/{ENDPOINT}");
    let input = small();
    let (answer, other) = tokio::join!(keyed.post(&path, Some("a"), &input), async {
        let claim = eventually(async || keyed.claim().await).await;
        let refused = keyed.post(&path, Some("a"), &small()).await;
        keyed.end(&claim).await;
        refused
    });
    assert_eq!(other.status, StatusCode::TOO_MANY_REQUESTS, "{other:?}");
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "its own end: {answer:?}");
}
