//! `/admin/…`: what an administrator sees and does, and that nobody else does.

use crate::isolation::{ask, send, start};
use crate::support::{Answer, ENDPOINT, Server, id_of, small};
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use latentd::disk::Disks;
use latentd::keys::KeyHash;
use latentd::queue::{Failure, FailureKind, NewKey, Scope, WorkerState};
use latentd::storage_limit::StorageLimit;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

const LISTS: [&str; 4] = ["/admin/requests", "/admin/workers", "/admin/keys", "/admin/storage"];

/// Every call of administrators, with a key that may be revoked.
const CALLS: [(&str, &str); 6] = [
    ("GET", "/admin/requests"),
    ("GET", "/admin/workers"),
    ("GET", "/admin/keys"),
    ("GET", "/admin/storage"),
    ("DELETE", "/admin/keys/b"),
    ("POST", "/admin/drain"),
];

/// What a call with the administrator's key answers.
async fn seen(server: &Server, path: &str) -> Value {
    let answer = ask(server, "GET", path, "boss").await;
    assert_eq!((answer.status, answer.header("cache-control")), (StatusCode::OK, "no-store"), "{answer:?}");
    answer.json()
}

async fn submit(server: &Server, key: &str, headers: &[(&str, &str)]) -> String {
    let authorization = format!("Key {key}:secret");
    let headers = [&[("authorization", authorization.as_str())], headers].concat();
    id_of(&server.submit_with(&headers, &small()).await).to_owned()
}

#[tokio::test]
async fn only_an_administrators_key_opens_them() {
    for is_isolated in [false, true] {
        let keyed = start(is_isolated).await;
        let server = &keyed.server;
        for (method, path) in CALLS {
            let without = server.call(method.parse().expect("a method"), path, &Value::Null).await;
            assert_eq!(without.status, StatusCode::UNAUTHORIZED, "{path}");
            let refused = ask(server, method, path, "a").await;
            assert_eq!(refused.status, StatusCode::FORBIDDEN, "{path}");
            assert!(refused.json()["detail"].as_str().is_some_and(|detail| detail.contains("--scope admin")));
        }
        for (method, path) in CALLS {
            assert_eq!(ask(server, method, path, "boss").await.status, StatusCode::OK, "{path}");
        }
    }
}

#[tokio::test]
async fn who_needs_no_key_is_an_administrator_and_pages_of_other_sites_are_not() {
    let server = Server::start().await;
    for (method, path) in CALLS {
        let from = async |origin: &'static str| {
            let request = Request::builder().method(method).uri(path).header("host", "test:1");
            let request = request.header("origin", origin).body(Body::empty()).expect("a request");
            server.send(request).await.status
        };
        assert_eq!(from("https://evil.example").await, StatusCode::FORBIDDEN, "{method} {path}");
        // There is no key `b`.
        let expected = if method == "DELETE" { StatusCode::NOT_FOUND } else { StatusCode::OK };
        assert_eq!(from("http://test:1").await, expected, "{method} {path}");
        let elsewhere = Request::builder().method(method).uri(path).header("host", "evil.example");
        let elsewhere = server.send(elsewhere.body(Body::empty()).expect("a request")).await;
        assert_eq!(elsewhere.status, StatusCode::MISDIRECTED_REQUEST, "{method} {path}");
    }
}

#[tokio::test]
async fn the_page_is_public_and_loads_what_is_its_own() {
    let server = Server::with_key("secret").await;
    let page = server.get("/admin").await;
    assert_eq!((page.status, page.header("content-type")), (StatusCode::OK, "text/html; charset=utf-8"));
    assert!(page.header("content-security-policy").contains("frame-ancestors 'none'"));
    assert_eq!(server.get("/playground/admin.js").await.status, StatusCode::OK);
    for path in LISTS {
        assert_eq!(server.get(path).await.status, StatusCode::UNAUTHORIZED, "{path}");
    }
}

#[tokio::test]
async fn requests_are_listed_in_their_order_with_their_ages_and_keys() {
    let keyed = start(false).await;
    let server = &keyed.server;
    let sha256 = KeyHash::of("named:secret").0;
    let named =
        NewKey { id: "named".into(), sha256, name: "studio".into(), scope: Scope::Api, concurrency: None };
    server.queue.add_key(&named).await.expect("a database");
    keyed.ring.refresh(&server.queue).await.expect("a database");
    let low = submit(server, "a", &[("x-fal-queue-priority", "low")]).await;
    let first = submit(server, "named", &[]).await;
    let second = submit(server, "a", &[]).await;
    server.clock.advance(60);
    let claim = server.claim("w1").await;
    assert_eq!(claim.id.to_string(), first);
    server.clock.advance(5);

    let list = seen(server, "/admin/requests").await;
    assert_eq!((&list["waiting"], &list["running"]), (&json!(2), &json!(1)));
    let ids = |list: &Value, of: &str| -> Vec<String> {
        let rows = list[of].as_array().expect("a list").iter();
        rows.map(|row| row["request_id"].as_str().expect("an id").to_owned()).collect()
    };
    assert_eq!(ids(&list, "requests"), [first.clone(), second.clone(), low.clone()]);
    let [running, waiting, last] = list["requests"].as_array().expect("a list").as_slice() else {
        panic!("{list}")
    };
    let expected = json!({ "state": "running", "endpoint": ENDPOINT, "key": "named", "key_name": "studio",
        "priority": "normal", "is_run": false, "worker": "w1", "attempt": 1 });
    for (field, value) in expected.as_object().expect("fields") {
        assert_eq!(&running[field], value, "{field}");
    }
    let seconds = |row: &Value, field: &str| row[field].as_f64().expect("seconds");
    assert!((65.0..75.0).contains(&seconds(running, "age_seconds")), "{running}");
    assert!((5.0..15.0).contains(&seconds(running, "running_seconds")), "{running}");
    assert_eq!((&waiting["state"], &waiting["worker"]), (&json!("waiting"), &Value::Null));
    assert_eq!((&waiting["running_seconds"], &last["priority"]), (&Value::Null, &json!("low")));

    // The administrator cancels requests of others.
    let cancel = async |id: &str| ask(server, "PUT", &format!("/requests/{id}/cancel"), "boss").await;
    assert_eq!(cancel(&second).await.status, StatusCode::OK);
    assert_eq!(cancel(&first).await.status, StatusCode::ACCEPTED);
    let list = seen(server, "/admin/requests").await;
    assert_eq!(ids(&list, "requests"), [first.clone(), low.clone()]);
    assert_eq!(list["requests"][0]["state"], "cancelling");
    server.queue.fail(&claim, &Failure::of(FailureKind::Cancelled)).await.expect("a database");
    let claim = server.claim("w1").await;
    let failure =
        Failure { kind: FailureKind::Engine, message: "the engine is on fire".into(), detail: None };
    server.queue.fail(&claim, &failure).await.expect("a database");

    let list = seen(server, "/admin/requests").await;
    assert_eq!(list["requests"], json!([]));
    assert_eq!(ids(&list, "failures"), [low], "a request that was cancelled is no failure");
    let failed = &list["failures"][0];
    assert_eq!((&failed["outcome"], &failed["message"]), (&json!("engine"), &json!("the engine is on fire")));
    assert!(failed["failed_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{failed}");
}

#[tokio::test]
async fn workers_and_devices_are_listed_with_their_states() {
    let keyed = start(false).await;
    let server = &keyed.server;
    assert_eq!(seen(server, "/admin/workers").await, json!({ "workers": [], "devices": [] }));
    for (worker, device, state) in
        [("w1", "cuda:0", WorkerState::Ready), ("w2", "cuda:1", WorkerState::Loading)]
    {
        server.queue.heartbeat(worker, device, state, &[]).await.expect("a database");
    }
    server.queue.report_loaded_models("w1", &["mini".into()]).await.expect("a database");
    server.queue.set_device("cuda:0", None);
    server.queue.set_device("cuda:1", Some("5 failures within 10 minutes".into()));
    server.clock.advance(10);
    server.queue.heartbeat("w1", "cuda:0", WorkerState::Ready, &[]).await.expect("a database");

    let list = seen(server, "/admin/workers").await;
    let [one, two] = list["workers"].as_array().expect("a list").as_slice() else { panic!("{list}") };
    assert_eq!(
        (&one["id"], &one["device"], &one["state"], &one["models"]),
        (&json!("w1"), &json!("cuda:0"), &json!("ready"), &json!(["mini"]))
    );
    assert_eq!((&two["id"], &two["state"], &two["models"]), (&json!("w2"), &json!("loading"), &json!([])));
    let seconds = |row: &Value, field: &str| row[field].as_f64().expect("seconds");
    assert!(seconds(one, "age_seconds") >= 10.0 && seconds(one, "silent_seconds") < 8.0, "{one}");
    assert!(seconds(two, "silent_seconds") >= 10.0, "{two}");
    assert_eq!(
        list["devices"],
        json!([{ "device": "cuda:0", "set_aside": null },
               { "device": "cuda:1", "set_aside": "5 failures within 10 minutes" }])
    );
    server.queue.set_silent("w1", true);
    server.clock.advance(10);
    assert_eq!(seen(server, "/admin/workers").await["workers"], json!([]), "one is dead, one is silent");
}

#[tokio::test]
async fn a_key_is_listed_without_its_secret_and_is_refused_at_once_when_it_is_revoked() {
    let keyed = start(false).await;
    let server = &keyed.server;
    let keys = seen(server, "/admin/keys").await;
    let text = keys.to_string();
    assert!(!text.contains("secret") && !text.contains("sha256"), "{text}");
    let [a, b, boss] = keys["keys"].as_array().expect("a list").as_slice() else { panic!("{keys}") };
    assert_eq!((&a["id"], &a["scope"], &a["concurrency"]), (&json!("a"), &json!("api"), &json!(3)));
    assert_eq!(
        (&b["concurrency"], &b["is_own"], &b["revoked_at"]),
        (&Value::Null, &json!(false), &Value::Null)
    );
    assert_eq!((&boss["scope"], &boss["is_own"]), (&json!("admin"), &json!(true)));

    let status = async |key: &str| ask(server, "GET", "/v1/models", key).await.status;
    assert_eq!(status("a").await, StatusCode::OK);
    let revoke = async |id: &str| ask(server, "DELETE", &format!("/admin/keys/{id}"), "boss").await;
    assert_eq!(revoke("a").await.json(), json!({ "id": "a", "status": "revoked" }));
    assert_eq!(status("a").await, StatusCode::UNAUTHORIZED);
    assert_eq!(status("b").await, StatusCode::OK);
    assert_eq!(revoke("a").await.json(), json!({ "id": "a", "status": "revoked before" }));
    let unknown: Answer = revoke("nobody").await;
    assert_eq!(
        (unknown.status, unknown.json()["detail"].as_str()),
        (StatusCode::NOT_FOUND, Some("There is no such key"))
    );
    assert!(seen(server, "/admin/keys").await["keys"][0]["revoked_at"].is_string());
}

#[tokio::test]
async fn storage_says_what_is_stored_and_what_is_free() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().to_owned();
    let server = Server::with(|api| {
        api.disks = Disks::new([path.clone()], 7);
        api.storage_limit = StorageLimit::new(Some(1_000_000));
        api.adapter_cache_bytes = Arc::new(|| 5);
    });
    let server = server.await;
    server.submit(&small()).await;
    server.generate_all().await;
    let storage = server.get("/admin/storage").await.json();
    assert!(storage["stored_bytes"].as_u64() > Some(0), "{storage}");
    assert_eq!((&storage["max_bytes"], &storage["adapter_cache_bytes"]), (&json!(1_000_000), &json!(5)));
    assert_eq!(storage["deletable_bytes"], 0, "the result is an hour old at most");
    let [disk] = storage["disks"].as_array().expect("a list").as_slice() else { panic!("{storage}") };
    assert_eq!((&disk["path"], &disk["min_free_bytes"]), (&json!(path), &json!(7)));
    assert!(disk["free_bytes"].as_u64() > Some(0), "{storage}");
}

#[tokio::test]
async fn draining_tells_the_server_to_stop() {
    let mut drain = Arc::new(Notify::new());
    let server = Server::with(|api| drain = api.drain.clone()).await;
    let answer = send(&server, Method::GET, "/admin/drain", None, &Value::Null).await;
    assert_eq!((answer.status, answer.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "POST"));
    let answer = send(&server, Method::POST, "/admin/drain", None, &json!({})).await;
    assert_eq!((answer.status, answer.json()), (StatusCode::OK, json!({ "status": "draining" })));
    tokio::time::timeout(Duration::from_secs(5), drain.notified()).await.expect("the server is told");
}
