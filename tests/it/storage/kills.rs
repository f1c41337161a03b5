//! Processes killed between the object and the row that owns it: what is left is known by a row, and goes.

use super::program::serve;
use super::service::{Fault, Service};
use crate::support::{ENDPOINT, HOUR, eventually, small};
use crate::support::{Program, attempts, signal};
use axum::http::Method;
use latentd::queue::{LeaseClock, Queue};
use latentd::sweep;
use serde_json::{Value, json};
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const PREFIX: &str = "of/kills";

/// The files that a program's database owns, in order, after a sweep two hours from now.
async fn swept(service: &Service, data: &Path) -> Vec<String> {
    let later = || jiff::Timestamp::now() + jiff::SignedDuration::from_secs(2 * HOUR);
    let queue = Queue::open(&data.join("latentd.sqlite"), Arc::new(later)).await.expect("the database");
    let queue = queue.with_lease_clock(LeaseClock::new("the machine was started again", || Duration::ZERO));
    sweep::once(&queue, &service.storage(PREFIX)).await.expect("a sweep");
    let mut owned = queue.owned_files().await.expect("a database");
    owned.sort();
    owned
}

fn files(service: &Service) -> Vec<String> {
    service.objects(PREFIX).into_iter().filter(|name| name != "identity.json").collect()
}

/// Begins an upload of `length` bytes and sends so many of them.
fn begin_upload(program: &Program, length: usize, sent: usize) -> TcpStream {
    let mut stream = TcpStream::connect(&program.address).expect("a connection");
    let address = &program.address;
    let head = format!("POST /files/upload HTTP/1.1\r\nhost: {address}\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("a head");
    stream.write_all(&vec![7; sent]).expect("a body");
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_between_put_and_row_leaves_nothing_for_good() {
    let service = Service::start().await;
    let data = tempfile::tempdir().expect("a directory");
    for round in 1..=3 {
        let program = serve(&service, data.path(), PREFIX, &["--workers", "0"]);
        assert_eq!(program.call("POST", "/files/upload", &json!("whole")).0, 200);
        service.plan(Method::PUT, Fault::HoldAnswer);
        let before = files(&service).len();
        let _client = begin_upload(&program, 1000, 1000);
        eventually(async || (files(&service).len() > before).then_some(())).await;
        drop(program); // kill -9
        service.recover();
        assert_eq!(files(&service).len(), 2 * round, "the object is there, and nobody owns it");
    }
    // A kill in the middle of an upload in parts.
    let program = serve(&service, data.path(), PREFIX, &["--workers", "0"]);
    let _client = begin_upload(&program, 30_000_000, 20_000_000);
    eventually(async || (service.unfinished() > 0).then_some(())).await;
    drop(program);
    assert_eq!(files(&service).len(), 6, "an object is there when it is whole");
    service.add_object(PREFIX, "0123456789abcdef0123456789abcdef.bin");
    let owned = swept(&service, data.path()).await;
    assert_eq!(owned.len(), 3);
    let foreign = ["0123456789abcdef0123456789abcdef.bin".to_owned()];
    let mut expected = [&owned[..], &foreign].concat();
    expected.sort();
    assert_eq!(files(&service), expected, "what no row names is anybody's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_between_put_and_row_costs_one_more_attempt_and_no_object() {
    let service = Service::start().await;
    let data = tempfile::tempdir().expect("a directory");
    let program = serve(&service, data.path(), PREFIX, &["--workers", "1"]);
    service.plan(Method::PUT, Fault::HoldAnswer);
    let (code, accepted) = program.call("POST", &format!("/queue/{ENDPOINT}"), &small());
    assert_eq!(code, 200, "{accepted}");
    let id = accepted["request_id"].as_str().expect("an id");
    let request = format!("/queue/{ENDPOINT}/requests/{id}");
    let first = eventually(async || files(&service).pop()).await;
    signal("KILL", program.workers()[0]);
    let status = program.completed(&request).await;
    assert_eq!((status.get("error"), attempts(&status)), (None, 2), "{status}");
    let (_, result) = program.call("GET", &request, &Value::Null);
    let url = result["images"][0]["url"].as_str().expect("a URL");
    let (_, second) = url.split_once("/files/").expect("a file of the server's");
    assert_ne!(second, first);
    drop(program);
    assert_eq!(swept(&service, data.path()).await, [second]);
    assert_eq!(files(&service), [second]);
}
