//! What every store does, done by a directory and by a bucket.

use super::service::Service;
use super::{pattern, read, read_all};
use futures_util::TryStreamExt;
use latentd::storage::{FileKey, Span, Storage};

/// More than two parts of an upload to S3.
const LARGE: usize = 17 * 1024 * 1024 + 123;

async fn every_store(check: impl AsyncFn(&str, Storage)) {
    let directory = tempfile::tempdir().expect("a directory");
    check("directory", Storage::local(directory.path()).expect("a directory")).await;
    let service = Service::start().await;
    check("bucket", service.storage("a/prefix")).await;
    check("bucket without a prefix", service.storage("")).await;
}

#[tokio::test]
async fn a_file_comes_back_whole_and_in_parts() {
    every_store(async |name, storage| {
        let key = FileKey::fresh("jpeg");
        for span in [None, Some(Span::Last(3))] {
            assert!(storage.get(&key, span).await.expect("a store").is_none(), "{name}");
        }
        storage.put(&key, b"0123456789".to_vec()).await.expect("a store");
        for (span, expected) in [
            (None, Some((&b"0123456789"[..], 0..10))),
            (Some(Span::Within(2, 4)), Some((&b"234"[..], 2..5))),
            (Some(Span::Within(8, 99)), Some((&b"89"[..], 8..10))),
            (Some(Span::Last(3)), Some((&b"789"[..], 7..10))),
            (Some(Span::Last(30)), Some((&b"0123456789"[..], 0..10))),
            (Some(Span::Last(0)), None),
            (Some(Span::From(4)), Some((&b"456789"[..], 4..10))),
            (Some(Span::From(10)), None),
        ] {
            let (size, part) = read(&storage, &key, span).await;
            assert_eq!(size, 10, "{name}");
            let expected = expected.map(|(bytes, range)| (bytes.to_vec(), range));
            assert_eq!(part, expected, "{name}: {span:?}");
        }
        storage.put(&key, b"again".to_vec()).await.expect("a store");
        assert_eq!(read_all(&storage, &key).await, b"again", "{name}");
    })
    .await;
}

#[tokio::test]
async fn an_empty_file_is_a_file() {
    every_store(async |name, storage| {
        let key = FileKey::fresh("bin");
        storage.create(&key).await.expect("a store").finish().await.expect("a store");
        assert_eq!(read(&storage, &key, None).await, (0, Some((Vec::new(), 0..0))), "{name}");
        assert_eq!(read(&storage, &key, Some(Span::From(0))).await, (0, None), "{name}");
    })
    .await;
}

#[tokio::test]
async fn a_file_written_in_pieces_of_any_size_is_what_was_written() {
    every_store(async |name, storage| {
        for (length, piece) in [(10, 3), (200_000, 70_001), (8 << 20, 1 << 20), (LARGE, 1_000_003)] {
            let (key, bytes) = (FileKey::fresh("bin"), pattern(length));
            let mut writer = storage.create(&key).await.expect("a store");
            for at in (0..length).step_by(piece) {
                writer.write(bytes.slice(at..length.min(at + piece))).await.expect("a store");
            }
            assert_eq!(writer.size(), length as u64);
            assert!(storage.get(&key, None).await.expect("a store").is_none(), "{name}: not whole yet");
            writer.finish().await.expect("a store");
            assert!(read_all(&storage, &key).await == bytes, "{name}: {length} bytes differ");
            let (_, part) = read(&storage, &key, Some(Span::Last(5))).await;
            assert_eq!(part.expect("a part").0, bytes.slice(length - 5..), "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_deleted_or_given_up_is_not_listed() {
    every_store(async |name, storage| {
        let list = async || {
            let mut keys: Vec<_> = storage.list().try_collect().await.expect("a store");
            keys.sort_by(|a: &FileKey, b| a.as_str().cmp(b.as_str()));
            keys
        };
        assert_eq!(list().await, [], "{name}");
        storage.write_mark(b"{}".to_vec()).await.expect("a store");
        let mut keys: Vec<_> = (0..3).map(|_| FileKey::fresh("png")).collect();
        keys.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        for key in &keys {
            storage.put(key, b"x".to_vec()).await.expect("a store");
        }
        let mut given_up = storage.create(&FileKey::fresh("bin")).await.expect("a store");
        given_up.write(pattern(100_000)).await.expect("a store");
        drop(given_up);
        assert_eq!(list().await, keys, "{name}");
        for _ in 0..2 {
            storage.delete(&keys[1]).await.expect("one that is gone is no error");
        }
        assert_eq!(list().await, [keys[0].clone(), keys[2].clone()], "{name}");
    })
    .await;
}

#[tokio::test]
async fn the_mark_is_kept_beside_the_files() {
    every_store(async |name, storage| {
        assert_eq!(storage.read_mark().await.expect("a store"), None, "{name}");
        storage.probe().await.expect("a store that answers");
        assert!(storage.create_mark(b"first".to_vec()).await.expect("a store"), "{name}");
        storage.write_mark(b"second".to_vec()).await.expect("a store");
        assert_eq!(storage.read_mark().await.expect("a store").as_deref(), Some(&b"second"[..]), "{name}");
    })
    .await;
}
