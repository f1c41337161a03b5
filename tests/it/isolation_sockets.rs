//! `--isolate-keys` over web sockets: what one key runs there is hidden from other keys and from every token, and what it
//! names is its own.

use crate::isolation::{IMAGE_TO_IMAGE, ask, path_name, send, start, upload};
use crate::keys::Keyed;
use crate::sockets::{Listening, Socket};
use crate::support::{ENDPOINT, Scripted, eventually, small, tick_until_idle};
use axum::http::{Method, StatusCode};
use latentd::queue::{Claim, FailureKind, Verdict};
use serde_json::{Value, json};

const ALIAS: &str = "stable-diffusion-v35-large";

/// The paths at which an endpoint runs over a web socket.
fn sockets_of(endpoint: &str) -> [String; 3] {
    [format!("/{endpoint}/realtime"), format!("/ws/{endpoint}"), format!("/ws/{endpoint}/stream")]
}

async fn listen() -> Listening {
    let Keyed { server, .. } = start(true).await;
    Listening::over(server).await
}

/// A token of a key.
async fn token(listening: &Listening, key: &str) -> String {
    let wish = json!({ "allowed_apps": [ALIAS], "token_expiration": 3000 });
    let answer = send(&listening.server, Method::POST, "/tokens/", Some(key), &wish).await;
    answer.json().as_str().expect("a token").to_owned()
}

async fn by_key(listening: &Listening, path: &str, key: &str) -> Socket {
    let key = format!("Key {key}:secret");
    listening.try_connect(path, &[("authorization", &key)]).await.expect("a web socket")
}

async fn by_token(listening: &Listening, path: &str, key: &str) -> Socket {
    let path = format!("{path}?fal_jwt_token={}", token(listening, key).await);
    listening.try_connect(&path, &[]).await.expect("a web socket")
}

/// The request that came over a web socket.
async fn claimed(listening: &Listening) -> Claim {
    eventually(async || listening.server.try_claim("w").await).await
}

/// Nobody waits for it any more.
async fn drop_claim(listening: &Listening, claim: &Claim) {
    listening.server.queue.give_back(claim).await.expect("a database");
    listening.server.queue.cancel(claim.id, FailureKind::Cancelled).await.expect("a database");
}

/// Asserts that neither another key nor any token sees, fetches, deletes or cancels a request.
async fn is_hidden(listening: &Listening, claim: &Claim) {
    let server = &listening.server;
    let tokens = [token(listening, "a").await, token(listening, "b").await];
    for (method, below) in
        [("GET", "/status"), ("GET", "/status/stream"), ("GET", ""), ("GET", "/response"), ("PUT", "/cancel")]
    {
        let path = format!("/requests/{}{below}", claim.id);
        assert_eq!(ask(server, method, &path, "b").await.status, StatusCode::NOT_FOUND, "{path}");
        for token in &tokens {
            let path = format!("{path}?fal_jwt_token={token}");
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            let answer = send(server, method, &path, None, &Value::Null).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "a token of a run opens nothing else");
        }
    }
    let watched = format!("/requests/{}/status/stream", claim.id);
    assert_eq!(listening.refused(&watched, &[("authorization", "Key b:secret")]).await, 404);
    for token in &tokens {
        let path = format!("{watched}?fal_jwt_token={token}");
        let mut socket = listening.try_connect(&path, &[]).await.expect("a refusal on the socket");
        assert_eq!(socket.text().await["error"], "Unauthorized");
        assert_eq!(socket.code().await, 1008);
    }
}

#[tokio::test]
async fn what_a_key_runs_over_a_web_socket_is_hidden_from_others_who_cannot_end_it() {
    let listening = listen().await;
    for path in sockets_of(ENDPOINT) {
        for is_by_token in [false, true] {
            let mut own = match is_by_token {
                true => by_token(&listening, &path, "a").await,
                false => by_key(&listening, &path, "a").await,
            };
            own.json(&small()).await;
            let claim = claimed(&listening).await;
            is_hidden(&listening, &claim).await;
            // Another key gives its request this name, and goes away.
            let mut other = by_token(&listening, &path, "b").await;
            let mut named = small();
            named["request_id"] = json!(claim.id.to_string());
            other.json(&named).await;
            let of_other = claimed(&listening).await;
            assert_ne!(of_other.id, claim.id);
            drop(other);
            let verdict = async |claim| listening.server.queue.verdict(claim).await.expect("a database");
            let is_cancelled = async || (verdict(&of_other).await == Verdict::Cancelled).then_some(());
            eventually(is_cancelled).await;
            assert!(matches!(verdict(&claim).await, Verdict::Continue { .. }));
            drop_claim(&listening, &of_other).await;
            listening.server.queue.give_back(&claim).await.expect("a database");
            tick_until_idle(&mut listening.server.worker("w", Scripted::grey()).await).await;
            let status = format!("/requests/{}/status", claim.id);
            assert_eq!(ask(&listening.server, "GET", &status, "a").await.json()["status"], "COMPLETED");
            assert_eq!(ask(&listening.server, "GET", &status, "b").await.status, StatusCode::NOT_FOUND);
            let first = own.text().await;
            assert!(first["seed"] == 7 || first["type"] == "start" && first["status"] == 200, "{first}");
        }
    }
}

#[tokio::test]
async fn an_input_on_a_web_socket_cannot_name_a_file_of_another_key() {
    let listening = listen().await;
    let hidden = upload(&listening.server, "a", "hide").await;
    let mut input = small();
    input.as_object_mut().expect("an object").remove("image_size");
    input["image_url"] = json!(format!("http://{}{hidden}", listening.address));
    for path in sockets_of(IMAGE_TO_IMAGE) {
        for (key, is_owner) in [("a", true), ("b", false)] {
            for mut socket in [by_key(&listening, &path, key).await, by_token(&listening, &path, key).await] {
                socket.json(&input).await;
                let claim = claimed(&listening).await;
                let named = claim.body["begin"]["source"]["stored"].as_str().expect("a name");
                assert_eq!(named == path_name(&hidden), is_owner, "{path} {key}");
                drop_claim(&listening, &claim).await;
            }
        }
    }
}

#[tokio::test]
async fn an_idempotency_key_of_a_web_socket_finds_requests_of_its_own_key_alone() {
    let listening = listen().await;
    for path in sockets_of(ENDPOINT) {
        let name = format!("of {path}");
        let open = async |key: &str| {
            let key = format!("Key {key}:secret");
            let headers = [("authorization", key.as_str()), ("idempotency-key", name.as_str())];
            let mut socket = listening.try_connect(&path, &headers).await.expect("a web socket");
            socket.json(&small()).await;
            socket
        };
        let _first = open("a").await;
        let of_a = claimed(&listening).await;
        let _second = open("b").await;
        let of_b = claimed(&listening).await;
        assert_ne!(of_a.id, of_b.id);
        for claim in [&of_a, &of_b] {
            drop_claim(&listening, claim).await;
        }
    }
}
