//! Files that nobody names: what a process left that died between a file and its row.

use crate::support::{Server, small};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use latentd::storage::FileKey;
use latentd::sweep;
use std::time::{Duration, SystemTime};

/// Makes files look as if they were written so long ago.
fn age(server: &Server, names: &[String], hours: u64) {
    for name in names {
        let path = server.directory.path().join("files").join(name);
        let file = std::fs::File::options().append(true).open(path).expect("the file");
        file.set_modified(SystemTime::now() - Duration::from_secs(hours * 3600)).expect("a time");
    }
}

#[tokio::test]
async fn old_files_without_a_row_go_and_all_others_stay() {
    let server = Server::start().await;
    let request = server.submit(&small()).await;
    server.paint_all().await;
    let upload = Request::post("/files/upload").header("host", "me").body(Body::from("words"));
    assert_eq!(server.send(upload.expect("a request")).await.status, StatusCode::OK);
    let begun = Request::post("/files/upload/multipart").header("host", "test:1").body(Body::empty());
    let begun = server.send(begun.expect("a request")).await.json();
    let file =
        begun["access_url"].as_str().and_then(|url| url.strip_prefix("http://test:1")).expect("our URL");
    let part = format!("{file}/multipart/{}/1", begun["uploadId"].as_str().expect("an id"));
    let part = Request::put(part).header("host", "me").body(Body::from("part"));
    assert_eq!(server.send(part.expect("a request")).await.status, StatusCode::OK);
    let named = server.files();
    assert_eq!(named.len(), 3, "{named:?}");

    let whole = FileKey::fresh("png");
    server.storage.put(&whole, b"nobody's".to_vec()).await.expect("a file");
    let half = format!("{}#1", FileKey::fresh("bin").as_str());
    let recent = FileKey::fresh("png");
    server.storage.put(&recent, b"its row is yet to come".to_vec()).await.expect("a file");
    let foreign = "notes.txt".to_owned();
    for name in [&half, &foreign] {
        std::fs::write(server.directory.path().join("files").join(name), "x").expect("a file");
    }
    age(&server, &[named.as_slice(), &[whole.as_str().to_owned(), half, foreign.clone()]].concat(), 25);
    sweep::orphans(&server.queue, &server.storage).await.expect("a sweep");

    let mut left = server.files();
    let mut expected = [named.as_slice(), &[recent.as_str().to_owned(), foreign]].concat();
    left.sort();
    expected.sort();
    assert_eq!(left, expected);
    assert_eq!(server.get(&request).await.status, StatusCode::OK);
}
