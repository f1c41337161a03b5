//! Files without an owner: what a process left that died while it wrote. Each is known by a row, and nothing else goes.

use crate::support::{HOUR, Program, Server, eventually, files, small};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use latentd::queue::{LeaseClock, Lost, Queue};
use latentd::storage::{FileKey, Storage};
use latentd::sweep;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Makes a file look as if it was written a month ago.
fn age(path: &Path) {
    let file = std::fs::File::options().append(true).open(path).expect("the file");
    file.set_modified(SystemTime::now() - Duration::from_secs(30 * 86_400)).expect("a time");
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

#[tokio::test]
async fn a_file_goes_by_its_row_and_never_for_want_of_one() {
    let server = Server::start().await;
    let folder = server.directory.path().join("files");
    let request = server.submit(&small()).await;
    server.generate_all().await;
    let upload = Request::post("/files/upload").header("host", "me").body(Body::from("words"));
    assert_eq!(server.send(upload.expect("a request")).await.status, StatusCode::OK);
    let begun = Request::post("/files/upload/multipart").header("host", "test:1").body(Body::empty());
    let begun = server.send(begun.expect("a request")).await.json();
    let file =
        begun["access_url"].as_str().and_then(|url| url.strip_prefix("http://test:1")).expect("our URL");
    let part = format!("{file}/multipart/{}/1", begun["uploadId"].as_str().expect("an id"));
    for bytes in ["part", "the same part, sent again"] {
        let part = Request::put(&part).header("host", "me").body(Body::from(bytes));
        assert_eq!(server.send(part.expect("a request")).await.status, StatusCode::OK);
    }
    let owned = server.files();
    assert_eq!(owned.len(), 3, "{owned:?}");

    // A file that no row names may be anybody's: it stays, however old it is.
    let unknown = FileKey::fresh("png");
    server.storage.put(&unknown, b"of another database".to_vec()).await.expect("a file");
    std::fs::write(folder.join("notes.txt"), "x").expect("a file");
    for name in owned.iter().map(String::as_str).chain([unknown.as_str(), "notes.txt"]) {
        age(&folder.join(name));
    }
    // What the server began and left: whole, in the middle, and not even begun.
    let [whole, half, none] = [(); 3].map(|()| FileKey::fresh("bin"));
    let keys = [whole.as_str(), half.as_str(), none.as_str()];
    assert!(server.queue.expect_files(&keys, None).await.expect("a database"));
    server.storage.put(&whole, b"nobody's".to_vec()).await.expect("a file");
    std::fs::write(folder.join(format!("{}#1", half.as_str())), "ha").expect("a file");
    // What an attempt of a request writes that still runs.
    server.submit(&small()).await;
    let claim = server.claim("w").await;
    let of_attempt = FileKey::fresh("png");
    assert!(server.queue.expect_files(&[of_attempt.as_str()], Some(&claim)).await.expect("a database"));
    server.storage.put(&of_attempt, b"soon owned".to_vec()).await.expect("a file");

    let all = sorted(server.files());
    let sweep = async || sweep::once(&server.queue, &server.storage).await.expect("a sweep");
    sweep().await;
    server.clock.advance(HOUR - 60);
    sweep().await;
    assert_eq!(sorted(server.files()), all, "their writers may live");

    server.clock.advance(120);
    sweep().await;
    let stay = [unknown.as_str(), "notes.txt", of_attempt.as_str()].map(str::to_owned);
    assert_eq!(sorted(server.files()), sorted([owned.as_slice(), &stay].concat()));
    server.queue.reclaim(Lost::Died("w")).await.expect("a database");
    assert!(
        !server.queue.expect_files(&[none.as_str()], Some(&claim)).await.expect("a database"),
        "too late"
    );
    sweep().await;
    assert_eq!(sorted(server.files()), sorted([owned.as_slice(), &stay[..2]].concat()));
    assert_eq!(server.get(&request).await.status, StatusCode::OK);
}

#[tokio::test]
async fn what_was_given_up_gets_no_owner() {
    let server = Server::start().await;
    let begun = Request::post("/files/upload/multipart").header("host", "test:1").body(Body::empty());
    let begun = server.send(begun.expect("a request")).await.json();
    let ticket: uuid::Uuid = begun["uploadId"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    let late = FileKey::fresh("bin");
    server.queue.expect_files(&[late.as_str()], None).await.expect("a database");
    // The clock jumps while the file is written.
    server.clock.advance(2 * HOUR);
    sweep::once(&server.queue, &server.storage).await.expect("a sweep");
    server.clock.advance(-2 * HOUR);
    let refused = server.queue.close_upload(ticket, late.as_str(), 1).await.expect_err("it may be gone");
    assert!(refused.to_string().contains("cannot have an owner"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_kills_in_the_middle_of_uploads_leave_no_file_for_good() {
    let data = tempfile::tempdir().expect("a directory");
    let folder = data.path().join("files");
    let mut left = 0;
    let mut sent = 0;
    for _ in 0..20 {
        let program = Program::start_with(data.path(), &["--workers", "0"]);
        let (code, _) = program.call("POST", "/files/upload", &serde_json::json!("whole"));
        assert_eq!(code, 200);
        sent += 1;
        let mut stream = TcpStream::connect(&program.address).expect("a connection");
        let head = format!(
            "POST /files/upload HTTP/1.1\r\nhost: {}\r\ncontent-length: 2000000\r\n\r\n",
            program.address
        );
        stream.write_all(head.as_bytes()).expect("a head");
        stream.write_all(&vec![7; 1_200_000]).expect("a part of the body");
        let half = |name: &String| name.contains('#');
        let before = left;
        eventually(async || {
            left = files(&folder).iter().filter(|name| half(name)).count();
            (left > before).then_some(())
        })
        .await;
        drop(program); // kill -9
    }
    assert_eq!(left, 20);
    let later = || jiff::Timestamp::now() + jiff::SignedDuration::from_secs(2 * HOUR);
    let queue =
        Queue::open(&data.path().join("latentd.sqlite"), Arc::new(later)).await.expect("the database");
    let queue = queue.with_lease_clock(LeaseClock::new("the machine was started again", || Duration::ZERO));
    let storage = Storage::local(&folder).expect("the folder");
    sweep::once(&queue, &storage).await.expect("a sweep");
    let owned = sorted(queue.owned_files().await.expect("a database"));
    assert_eq!((owned.len(), sorted(files(&folder))), (sent, owned.clone()));
}
