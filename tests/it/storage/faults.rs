//! A service of S3 that breaks off, is busy, is slow or refuses: what is read and written is whole or an error.

use super::service::{BUCKET, Fault, KEY, SECRET, Service};
use super::{pattern, read, read_all};
use crate::support::eventually;
use axum::http::Method;
use futures_util::TryStreamExt;
use latentd::fault::Fault as _;
use latentd::storage::{FileKey, Location, Span, Storage};
use std::time::Duration;

const PART: usize = 8 * 1024 * 1024;

/// The longest that anything takes on a loaded machine.
const LIMIT: Duration = Duration::from_secs(120);

/// A store whose calls object_store makes once, so that what is tried again is tried by this program.
fn impatient(service: &Service) -> Storage {
    let mut location = service.location("once");
    location.retry = Duration::ZERO;
    Storage::open(&Location::S3(location)).expect("a client")
}

async fn stored(storage: &Storage, length: usize) -> (FileKey, Vec<u8>) {
    let (key, bytes) = (FileKey::fresh("bin"), pattern(length));
    storage.put(&key, bytes.clone()).await.expect("a store");
    (key, bytes.to_vec())
}

#[tokio::test]
async fn a_read_that_breaks_off_goes_on_where_it_was() {
    let service = Service::start().await;
    for storage in [service.storage("often"), impatient(&service)] {
        let (key, bytes) = stored(&storage, 3_000_000).await;
        for _ in 0..3 {
            service.plan(Method::GET, Fault::CutAnswer(700_001));
        }
        service.seen();
        assert!(read_all(&storage, &key).await == bytes, "the bytes differ");
        let ranges: Vec<_> = service.seen().iter().map(|seen| seen.header("range").to_owned()).collect();
        assert_eq!((ranges.len(), ranges[0].as_str()), (4, ""), "{ranges:?}");
        let start = |range: &String| {
            let range = range.strip_prefix("bytes=").and_then(|range| range.strip_suffix("-2999999"));
            range.and_then(|start| start.parse::<u32>().ok())
        };
        let starts: Vec<_> = ranges[1..].iter().map(start).collect();
        assert!(starts.is_sorted() && starts[0].is_some() && starts[2] > Some(0), "{ranges:?}");
        service.plan(Method::GET, Fault::CutAnswer(5));
        let (_, part) = read(&storage, &key, Some(Span::Within(10, 99))).await;
        assert_eq!(part, Some((bytes[10..100].to_vec(), 10..100)));
    }
}

#[tokio::test]
async fn an_object_that_is_another_by_now_is_not_read_on() {
    let service = Service::start().await;
    let storage = impatient(&service);
    let (key, _) = stored(&storage, 3_000_000).await;
    service.plan(Method::GET, Fault::CutAnswer(1_000_000));
    let file = storage.get(&key, None).await.expect("a store").expect("a file");
    let (mut bytes, _) = file.part.expect("bytes");
    let mut came = bytes.try_next().await.expect("the beginning").expect("the beginning").len();
    storage.put(&key, vec![0; 3_000_000]).await.expect("a store");
    let error = loop {
        match bytes.try_next().await {
            Ok(Some(more)) => came += more.len(),
            Ok(None) => panic!("a mixture of two objects came, {came} bytes"),
            Err(error) => break error,
        }
    };
    assert!(came <= 1_000_000, "{came}");
    assert!(error.is_machines(), "{error}");
}

#[tokio::test]
async fn a_read_that_always_breaks_off_fails() {
    let service = Service::start().await;
    let storage = impatient(&service);
    let (key, _) = stored(&storage, 3_000_000).await;
    for _ in 0..10 {
        service.plan(Method::GET, Fault::CutAnswer(0));
    }
    let file = storage.get(&key, None).await.expect("a store").expect("a file");
    let read: Result<Vec<_>, _> = file.part.expect("bytes").0.try_collect().await;
    assert!(read.is_err(), "{} pieces", read.map_or(0, |pieces| pieces.len()));
}

#[tokio::test]
async fn small_files_go_in_one_call_and_large_ones_in_parts() {
    let service = Service::start().await;
    let storage = service.storage("p");
    let calls = async |length: usize| {
        service.seen();
        let mut writer = storage.create(&FileKey::fresh("bin")).await.expect("a store");
        for piece in pattern(length).chunks(100_000) {
            writer.write(piece.to_vec().into()).await.expect("a store");
        }
        writer.finish().await.expect("a store");
        let seen = service.seen();
        let length = |call: &super::service::Seen| call.header("content-length").parse::<usize>();
        for call in &seen {
            assert_eq!(call.header("x-amz-acl"), "", "an object is private by default");
        }
        let puts: Vec<_> = seen.iter().filter(|call| call.method == Method::PUT).collect();
        assert!(puts.iter().all(|call| !call.header("x-amz-checksum-sha256").is_empty()), "{puts:?}");
        let posts = seen.iter().filter(|call| call.method == Method::POST).count();
        (puts.into_iter().map(|call| length(call).expect("a length")).collect::<Vec<_>>(), posts)
    };
    assert_eq!(calls(1000).await, (vec![1000], 0));
    assert_eq!(calls(1_500_000).await, (vec![1_500_000], 0));
    assert_eq!(calls(2 * PART + 5).await, (vec![PART, PART, 5], 2));
    assert_eq!(calls(2 * PART).await, (vec![PART, PART], 2));
}

#[tokio::test]
async fn an_upload_that_is_given_up_or_fails_is_aborted() {
    let service = Service::start().await;
    let storage = service.storage("p");
    let mut writer = storage.create(&FileKey::fresh("bin")).await.expect("a store");
    writer.write(pattern(2 * PART + 1)).await.expect("a store");
    assert!(service.unfinished() > 0, "parts are there");
    drop(writer);
    eventually(async || (service.unfinished() == 0).then_some(())).await;

    let mut writer = storage.create(&FileKey::fresh("bin")).await.expect("a store");
    writer.write(pattern(PART)).await.expect("a store");
    for _ in 0..20 {
        service.plan(Method::PUT, Fault::SlowDown);
    }
    let error = writer.write(pattern(PART)).await.expect_err("the service is busy");
    assert!(error.is_machines() && error.to_string().contains("SlowDown"), "{error}");
    drop(writer);
    eventually(async || (service.unfinished() == 0).then_some(())).await;
    let aborted = service.seen().into_iter().filter(|seen| seen.method == Method::DELETE);
    assert_eq!(aborted.filter(|seen| seen.path.contains("uploadId=")).count(), 2);
}

#[tokio::test]
async fn a_write_that_breaks_off_or_meets_a_busy_service_is_made_again() {
    let service = Service::start().await;
    let storage = service.storage("p");
    for fault in [Fault::CutRequest(100_000), Fault::CutRequest(0), Fault::SlowDown] {
        service.plan(Method::PUT, fault);
        let (key, bytes) = stored(&storage, 1_500_000).await;
        assert!(read_all(&storage, &key).await == bytes, "{fault:?}");
        let (key, bytes) = (FileKey::fresh("bin"), pattern(2 * PART + 9));
        let mut writer = storage.create(&key).await.expect("a store");
        for method in [Method::PUT, Method::PUT, Method::POST] {
            service.plan(method, fault);
        }
        for piece in bytes.chunks(1 << 20) {
            writer.write(piece.to_vec().into()).await.expect("a store");
        }
        writer.finish().await.expect("a store");
        assert!(read_all(&storage, &key).await == bytes, "{fault:?}");
    }
}

#[tokio::test]
async fn a_service_that_does_not_answer_is_asked_again() {
    let service = Service::start().await;
    let mut location = service.location("slow");
    (location.stall, location.retry) = (Duration::from_secs(1), LIMIT);
    let storage = Storage::open(&Location::S3(location)).expect("a client");
    let ask = async {
        service.plan(Method::PUT, Fault::Silent);
        let (key, bytes) = stored(&storage, 3_000_000).await;
        for fault in [Fault::Silent, Fault::StallAnswer(1_000_000)] {
            service.plan(Method::GET, fault);
            assert!(read_all(&storage, &key).await == bytes, "{fault:?}: the bytes differ");
        }
    };
    tokio::time::timeout(LIMIT, ask).await.expect("no call is waited for in vain");
}

#[tokio::test]
async fn a_call_whose_answer_is_lost_is_done_once() {
    let service = Service::start().await;
    let storage = service.storage("p");
    service.plan(Method::PUT, Fault::LoseAnswer);
    let (small, bytes) = stored(&storage, 1000).await;
    assert_eq!(read_all(&storage, &small).await, bytes);
    // The service forgets an upload that is complete, and says so when the call is repeated.
    let (large, bytes) = (FileKey::fresh("bin"), pattern(PART + 5));
    let mut writer = storage.create(&large).await.expect("a store");
    writer.write(bytes.clone()).await.expect("a store");
    service.seen();
    service.plan(Method::POST, Fault::LoseAnswer);
    writer.finish().await.expect("the object is there");
    let completions = service.seen().into_iter().filter(|seen| seen.path.contains("uploadId="));
    assert_eq!(completions.filter(|seen| seen.method == Method::POST).count(), 2);
    assert!(read_all(&storage, &large).await == bytes, "the bytes differ");
    assert_eq!((service.objects("p").len(), service.unfinished()), (2, 0));
    service.plan(Method::DELETE, Fault::LoseAnswer);
    storage.delete(&small).await.expect("it is gone, by the first call or the second");
    assert_eq!(service.objects("p"), [large.as_str()]);
    service.plan(Method::PUT, Fault::LoseAnswer);
    assert!(!storage.create_mark(b"ours".to_vec()).await.expect("a store"), "the second call finds it");
    assert_eq!(storage.read_mark().await.expect("a store").as_deref(), Some(&b"ours"[..]));
}

#[tokio::test]
async fn a_refusal_is_no_absence_and_is_named() {
    let service = Service::start().await;
    let storage = service.storage("p");
    let (key, _) = stored(&storage, 1000).await;
    for (fault, words) in [(Fault::Denied, "s3:GetObject"), (Fault::WrongRegion, "AWS_REGION")] {
        service.always(None, fault);
        for error in [
            storage.get(&key, None).await.err().expect("of a read"),
            storage.get(&FileKey::fresh("png"), None).await.err().expect("of a read of what is not there"),
            storage.put(&key, b"x".to_vec()).await.expect_err("of a write"),
            storage.delete(&key).await.expect_err("of a removal"),
            storage.check().await.expect_err("of a check"),
        ] {
            assert!(error.is_machines() && error.to_string().contains(words), "{error}");
        }
        service.recover();
    }
    for (method, words) in
        [(Method::GET, "cannot list: "), (Method::PUT, "cannot write: "), (Method::DELETE, "cannot delete: ")]
    {
        service.always(Some(method), Fault::Denied);
        let error = storage.check().await.expect_err("of a check").to_string();
        assert!(error.contains(words), "{error}");
        service.recover();
    }
    storage.delete(&key).await.expect("a store");
    storage.check().await.expect("all rights");
    assert_eq!(service.objects("p"), ["probe"; 0], "a check leaves nothing");
}

#[tokio::test]
async fn a_mistake_in_the_settings_is_named() {
    let service = Service::start().await;
    for (place, key, secret, words) in [
        (BUCKET, "somebody", SECRET, "AWS_ACCESS_KEY_ID"),
        (BUCKET, KEY, "a mistake", "AWS_SECRET_ACCESS_KEY"),
        ("another-bucket/p", KEY, SECRET, "no such bucket"),
    ] {
        let location = service.location_of(place, key, secret);
        let storage = Storage::open(&Location::S3(location)).expect("a client");
        let name = FileKey::fresh("png");
        let list: Result<Vec<_>, _> = storage.list().try_collect().await;
        for error in [
            storage.probe().await.expect_err("of the mark"),
            storage.put(&name, b"x".to_vec()).await.expect_err("of a write"),
            storage.get(&name, None).await.err().expect("of a read"),
            storage.get(&name, Some(Span::Last(1))).await.err().expect("of a part"),
            list.expect_err("of a list"),
        ] {
            let line = error.to_string();
            assert!(line.contains(words) && line.lines().count() == 1, "{line}");
            assert!(!line.contains(SECRET) && !line.contains("a mistake"), "{line}");
        }
    }
}

#[tokio::test]
async fn a_service_that_is_not_there_is_named_and_is_the_machines_fault() {
    let service = Service::start().await;
    let storage = service.storage("p");
    let endpoint = service.endpoint.clone();
    drop(service);
    let error = storage.put(&FileKey::fresh("png"), b"x".to_vec()).await.expect_err("nobody listens");
    assert!(error.is_machines() && error.to_string().contains(&endpoint), "{error}");
    assert!(error.to_string().contains("AWS_ENDPOINT_URL"), "{error}");
}
