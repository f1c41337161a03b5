//! Short-lived tokens: who gets one, what it opens, and what ends it.

use crate::keys::Keyed;
use crate::support::{Answer, ENDPOINT, Scripted, eventually, small};
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

const ALIAS: &str = "stable-diffusion-v35-large";

async fn keyed() -> Keyed {
    let keyed = Keyed::start().await;
    keyed.add("a", None).await;
    keyed
}

async fn token(keyed: &Keyed, app: &str) -> String {
    let wish = json!({ "allowed_apps": [app], "token_expiration": 120 });
    let answer = keyed.post("/tokens/", Some("a"), &wish).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.json().as_str().expect("a bare JSON string").to_owned()
}

/// Runs an input that is refused after the caller was let in: 422 means that the token opened.
async fn run(keyed: &Keyed, path: &str, token: &str) -> Answer {
    keyed.post(&format!("{path}?fal_jwt_token={token}"), None, &json!({ "num_images": 9 })).await
}

async fn opens(keyed: &Keyed, token: &str) -> bool {
    let status = run(keyed, &format!("/{ENDPOINT}"), token).await.status;
    assert!([StatusCode::UNPROCESSABLE_ENTITY, StatusCode::UNAUTHORIZED].contains(&status), "{status}");
    status == StatusCode::UNPROCESSABLE_ENTITY
}

#[tokio::test]
async fn a_token_is_had_by_every_path_of_the_clients_but_not_without_a_key() {
    let keyed = keyed().await;
    let wish = json!({ "allowed_apps": [ALIAS] });
    for path in ["/tokens", "/tokens/"] {
        assert_eq!(keyed.post(path, None, &wish).await.status, StatusCode::UNAUTHORIZED);
        assert!(keyed.post(path, Some("a"), &wish).await.json().is_string());
    }
    for host in ["rest.fal.ai", "rest.alpha.fal.ai"] {
        let request = Request::post("/api/fal/proxy")
            .header("host", "me")
            .header("authorization", "Key a:secret")
            .header("x-fal-target-url", format!("https://{host}/tokens/"));
        let answer = keyed.server.send(request.body(Body::from(wish.to_string())).expect("a request")).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(opens(&keyed, answer.json().as_str().expect("text")).await);
    }
    let answer = keyed.server.call(Method::GET, "/tokens/", &Value::Null).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "nothing is answered without a key");
}

#[tokio::test]
async fn a_token_runs_its_application() {
    let keyed = keyed().await;
    for app in [ALIAS, ENDPOINT] {
        let token = token(&keyed, app).await;
        for path in [format!("/{ENDPOINT}"), format!("/run/{ENDPOINT}/turbo"), format!("/{ENDPOINT}/stream")]
        {
            let answer = run(&keyed, &path, &token).await;
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{path} {answer:?}");
        }
    }
    let path = format!("/{ENDPOINT}?fal_jwt_token={}", token(&keyed, ALIAS).await);
    let input = small();
    let (answer, ()) = tokio::join!(keyed.post(&path, None, &input), async {
        let mut worker = keyed.server.worker("w", Scripted::grey()).await;
        eventually(async || (worker.tick().await.ok()? == latentd::worker::Tick::Worked).then_some(())).await;
    });
    assert_eq!((answer.status, &answer.json()["seed"]), (StatusCode::OK, &json!(7)));
}

#[tokio::test]
async fn a_token_opens_nothing_else() {
    let keyed = keyed().await;
    let token = token(&keyed, ALIAS).await;
    let id = "00000000-0000-4000-8000-000000000000";
    let calls = [
        (Method::POST, format!("/queue/{ENDPOINT}")),
        (Method::GET, format!("/requests/{id}")),
        (Method::GET, format!("/requests/{id}/status")),
        (Method::PUT, format!("/requests/{id}/cancel")),
        (Method::POST, "/tokens/".into()),
        (Method::POST, "/storage/upload/initiate".into()),
        (Method::POST, "/storage/auth/token".into()),
        (Method::POST, "/files/upload".into()),
        (Method::POST, "/fal-ai/another".into()),
        (Method::POST, format!("/another/{ALIAS}s")),
        (Method::POST, "/".into()),
    ];
    for (method, path) in calls {
        let answer = keyed.server.call(method, &format!("{path}?fal_jwt_token={token}"), &json!({})).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
    }
    let header = Request::post(format!("/{ENDPOINT}")).header("authorization", format!("Key {token}"));
    let answer = keyed.server.send(header.body(Body::empty()).expect("a request")).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "a token is no key");
}

#[tokio::test]
async fn a_token_ends_with_its_time_and_with_its_key() {
    let keyed = keyed().await;
    let token = token(&keyed, ALIAS).await;
    keyed.server.clock.advance(118);
    assert!(opens(&keyed, &token).await);
    keyed.server.clock.advance(3);
    assert!(!opens(&keyed, &token).await);

    let token = self::token(&keyed, ALIAS).await;
    assert!(opens(&keyed, &token).await);
    keyed.revoke("a").await;
    assert!(!opens(&keyed, &token).await);
}

#[tokio::test]
async fn a_token_of_the_time_without_keys_ends_with_the_first_key() {
    let keyed = Keyed::start().await;
    let token = token(&keyed, ALIAS).await;
    assert!(opens(&keyed, &token).await && opens(&keyed, "nonsense").await);
    keyed.add("a", None).await;
    assert!(!opens(&keyed, &token).await);
}

#[tokio::test]
async fn a_token_that_was_changed_or_made_elsewhere_opens_nothing() {
    let keyed = keyed().await;
    let token = token(&keyed, ALIAS).await;
    let parts: Vec<&str> = token.split('.').collect();
    let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let payload = URL_SAFE_NO_PAD.decode(parts[1]).expect("base64");
    let mut claims: Value = serde_json::from_slice(&payload).expect("JSON");
    assert_eq!((&claims["sub"], &claims["allowed_apps"]), (&json!("a"), &json!([ALIAS])));
    claims["exp"] = json!(4_000_000_000_u64);
    let longer = encode(claims);
    let unsigned = encode(json!({ "alg": "none", "typ": "JWT" }));
    let elsewhere = self::token(&self::keyed().await, ALIAS).await;
    let wrong = [
        format!("{}.{longer}.{}", parts[0], parts[2]),
        format!("{unsigned}.{longer}."),
        format!("{unsigned}.{}.{}", parts[1], parts[2]),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}.{}", parts[0], parts[1]),
        token[..token.len() - 2].to_owned(),
        elsewhere,
        String::new(),
        "...".into(),
    ];
    for wrong in wrong {
        assert!(!opens(&keyed, &wrong).await, "{wrong}");
    }
    assert!(opens(&keyed, &token).await);
}

#[tokio::test]
async fn a_wish_that_cannot_be_met_is_refused_by_its_field() {
    let keyed = keyed().await;
    let long = json!(vec!["x"; 101]);
    let cases = [
        (json!({}), "allowed_apps"),
        (json!({ "allowed_apps": [] }), "allowed_apps"),
        (json!({ "allowed_apps": "x" }), "allowed_apps"),
        (json!({ "allowed_apps": [1] }), "allowed_apps"),
        (json!({ "allowed_apps": long }), "allowed_apps"),
        (json!({ "allowed_apps": ["x"], "token_expiration": 0 }), "token_expiration"),
        (json!({ "allowed_apps": ["x"], "token_expiration": 3601 }), "token_expiration"),
        (json!({ "allowed_apps": ["x"], "token_expiration": "soon" }), "token_expiration"),
    ];
    for (wish, field) in cases {
        let answer = keyed.post("/tokens/", Some("a"), &wish).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{wish}");
        assert_eq!(answer.json()["detail"][0]["loc"], json!(["body", field]), "{wish}");
    }
}
