//! Where the key of a bucket may be: a file of profiles, and a file with the token of a service that gives keys.

use super::service::{BUCKET, KEY, SECRET, Service};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use latentd::storage::{Location, Storage};
use serde_json::json;

async fn check(service: &Service, variables: &[(&str, &str)]) -> Result<(), String> {
    let location = service.location_with(&format!("{BUCKET}/p"), variables);
    let storage = Storage::open(&Location::S3(location)).expect("a client");
    storage.check().await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_key_comes_from_a_file_of_profiles() {
    let service = Service::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("credentials");
    let profile = |name: &str, key: &str, secret: &str| {
        format!("[{name}]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")
    };
    let text = profile("default", KEY, "a mistake") + &profile("images", KEY, SECRET);
    std::fs::write(&path, text).expect("a file");
    let file = ("AWS_SHARED_CREDENTIALS_FILE", path.to_str().expect("text"));
    assert_eq!(check(&service, &[file, ("AWS_PROFILE", "images")]).await, Ok(()));
    let refused = check(&service, &[file]).await.expect_err("the default profile has a mistake");
    assert!(refused.contains("the secret does not belong to the access key"), "{refused}");
    let environment = [("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET)];
    let both = [&[file], &environment[..]].concat();
    assert_eq!(check(&service, &both).await, Ok(()), "the environment goes first");
}

/// Gives keys to whoever sends the token, as the agent of EKS does; returns its URL.
async fn agent(token: &'static str) -> String {
    let give = async move |headers: HeaderMap| match headers.get("authorization").map(|sent| sent == token) {
        Some(true) => {
            let until = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
            Ok(Json(json!({
                "AccessKeyId": KEY, "SecretAccessKey": SECRET, "Token": "", "Expiration": until.to_string(),
            })))
        }
        _ => Err(StatusCode::UNAUTHORIZED),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/credentials", listener.local_addr().expect("bound"));
    let router = Router::new().route("/credentials", get(give));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

#[tokio::test]
async fn a_key_comes_from_a_service_by_a_token_in_a_file() {
    let service = Service::start().await;
    let url = agent("of-the-pod").await;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("token");
    let variables = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", path.to_str().expect("text")),
    ];
    std::fs::write(&path, "of-another-pod").expect("a token");
    let refused = check(&service, &variables).await.expect_err("another token");
    assert!(!refused.contains("of-another-pod") && refused.lines().count() == 1, "{refused}");
    std::fs::write(&path, "of-the-pod").expect("a token");
    assert_eq!(check(&service, &variables).await, Ok(()));
}
