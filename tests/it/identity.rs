//! A database and its storage belong together: neither is used with another's.

use crate::support::{HOUR, Program, TestClock, attempts, files};
use latentd::identity::{self, IdentityError};
use latentd::queue::Queue;
use latentd::storage::{FileKey, Storage};
use latentd::sweep;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A database and a folder, not together yet.
async fn open(database: &Path, folder: &Path, clock: &TestClock) -> (Queue, Storage) {
    let reading = clock.clone();
    let queue = Queue::open(database, Arc::new(move || reading.now())).await.expect("a database");
    let queue = queue.with_lease_clock(clock.lease_clock());
    (queue, Storage::local(folder).expect("a folder"))
}

/// A file with an owner: an upload.
async fn upload(queue: &Queue, storage: &Storage) -> FileKey {
    let object = FileKey::fresh("bin");
    let new = latentd::queue::NewUpload {
        ticket: uuid::Uuid::new_v4(),
        key: FileKey::fresh("txt").as_str().to_owned(),
        content_type: "text/plain".into(),
        file_name: None,
        lifetime: None,
        access: None,
        api_key: None,
    };
    queue.open_upload(&new, 10).await.expect("a database").expect("few are open");
    queue.expect_files(&[object.as_str()], None).await.expect("a database");
    storage.put(&object, b"words".to_vec()).await.expect("a folder");
    assert!(queue.close_upload(new.ticket, object.as_str(), 1).await.expect("a database"));
    object
}

fn unmark(folder: &Path) {
    std::fs::remove_file(folder.join("identity.json")).expect("the mark");
}

#[tokio::test]
async fn a_folder_is_used_with_its_own_database_alone() {
    let place = tempfile::tempdir().expect("a directory");
    let at = |name: &str| place.path().join(name);
    let clock = TestClock::default();
    let (queue, storage) = open(&at("a.sqlite"), &at("files"), &clock).await;
    identity::join(&queue, &storage).await.expect("both are new");
    let file = upload(&queue, &storage).await;
    identity::join(&queue, &storage).await.expect("the same two again");

    let (other, _) = open(&at("typo.sqlite"), &at("files"), &clock).await;
    let refused = identity::join(&other, &storage).await.expect_err("another database");
    assert!(
        matches!(refused, IdentityError::OtherDatabase { .. })
            && refused.to_string().contains("--database-url")
    );
    let refused = identity::check_folder(&other, &storage).await.expect_err("nor may a worker use it");
    assert!(matches!(refused, IdentityError::OtherDatabase { .. }));

    let (_, elsewhere) = open(&at("a.sqlite"), &at("unmounted"), &clock).await;
    let refused = identity::join(&queue, &elsewhere).await.expect_err("an empty folder").to_string();
    assert!(refused.contains("is its disk mounted"), "{refused}");
    let (_, mark) = refused.split_once("put ").expect("what to do");
    let (mark, _) = mark.split_once(" into").expect("where");
    std::fs::write(at("unmounted").join("identity.json"), mark).expect("a mark");
    identity::join(&queue, &elsewhere).await.expect("as the message says");

    // From before there were marks.
    unmark(&at("files"));
    let refused = identity::join(&other, &storage).await.expect_err("it knows none of the files");
    assert!(matches!(refused, IdentityError::UnknownFiles(_)), "{refused}");
    identity::join(&queue, &storage).await.expect("they know each other");
    std::fs::write(at("files").join("identity.json"), "{").expect("a broken mark");
    assert!(matches!(identity::join(&queue, &storage).await, Err(IdentityError::Io(..))));
    assert_eq!(files(&at("files")), [file.as_str()]);
}

#[tokio::test]
async fn nothing_is_removed_in_the_first_hour_nor_by_an_earlier_copy() {
    let place = tempfile::tempdir().expect("a directory");
    let at = |name: &str| place.path().join(name);
    let clock = TestClock::default();
    let (queue, storage) = open(&at("a.sqlite"), &at("files"), &clock).await;
    identity::join(&queue, &storage).await.expect("both are new");
    let unowned = FileKey::fresh("bin");
    queue.expect_files(&[unowned.as_str()], None).await.expect("a database");
    storage.put(&unowned, b"x".to_vec()).await.expect("a folder");
    queue.copy_to(&at("copy.sqlite")).await.expect("a copy");
    queue.give_up_file(unowned.as_str()).await.expect("a database");
    clock.advance(HOUR - 10);
    sweep::once(&queue, &storage).await.expect("a sweep");
    assert_eq!(files(&at("files")).len(), 1);
    clock.advance(20);
    sweep::once(&queue, &storage).await.expect("a sweep");
    assert_eq!(files(&at("files")).len(), 0);

    // The file gets an owner after the copy, and the copy comes back.
    storage.put(&unowned, b"of a request by now".to_vec()).await.expect("a folder");
    identity::join(&queue, &storage).await.expect("another start");
    let (copy, _) = open(&at("copy.sqlite"), &at("files"), &clock).await;
    identity::join(&copy, &storage).await.expect("the same database");
    clock.advance(3 * HOUR);
    sweep::once(&copy, &storage).await.expect("a sweep");
    assert_eq!(files(&at("files")), [unowned.as_str()], "what it says of files is of another time");
}

/// Starts a server that must refuse; what it says.
async fn refused(data: &Path, database: &Path) -> String {
    let program = tokio::process::Command::new(env!("CARGO_BIN_EXE_latentd"))
        .args(["serve", "--listen", "127.0.0.1:0", "--workers", "0", "--data-dir"])
        .arg(data)
        .arg("--database-url")
        .arg(format!("sqlite:{}", database.display()))
        .kill_on_drop(true)
        .output();
    // The limit only ends a test that has failed.
    let output = tokio::time::timeout(Duration::from_secs(30), program).await.expect("it does not serve");
    let output = output.expect("the program");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), error.lines().count()), (Some(1), 1), "{error}");
    error
}

#[tokio::test]
async fn twenty_starts_with_a_mistyped_database_remove_no_file() {
    let data = tempfile::tempdir().expect("a directory");
    let folder = data.path().join("files");
    let program = Program::start_with(data.path(), &["--workers", "0"]);
    for _ in 0..5 {
        assert_eq!(program.call("POST", "/files/upload", &json!("mine")).0, 200);
    }
    drop(program);
    for name in files(&folder) {
        let file = std::fs::File::options().append(true).open(folder.join(name)).expect("the file");
        let old = std::time::SystemTime::now() - Duration::from_secs(2 * 86_400);
        file.set_modified(old).expect("a time");
    }
    for number in 0..20 {
        let error = refused(data.path(), &data.path().join(format!("latend{number}.sqlite"))).await;
        assert!(error.contains("belong to another database"), "{error}");
        assert_eq!(files(&folder).len(), 5);
    }
    drop(Program::start_with(data.path(), &["--workers", "0"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_servers_with_directories_of_their_own_keep_out_of_a_database_in_use() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Program::start(data.path());
    let request = server.submit(50);
    server.running(&request).await;
    let database = data.path().join("latentd.sqlite");
    let link = data.path().join("link.sqlite");
    std::os::unix::fs::symlink(&database, &link).expect("a link");
    for number in 0..20 {
        let other = tempfile::tempdir().expect("a directory");
        let error = refused(other.path(), if number % 2 == 0 { &database } else { &link }).await;
        assert!(error.contains("in use by another"), "{error}");
    }
    let status = server.completed(&request).await;
    assert_eq!((status.get("error"), attempts(&status)), (None, 1), "{status}");
}
