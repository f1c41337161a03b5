//! A bucket's prefix belongs to one database.

use super::service::Service;
use latentd::identity::{self, IdentityError};
use latentd::queue::Queue;
use std::path::Path;
use std::sync::Arc;

async fn database(path: &Path) -> Queue {
    Queue::open(path, Arc::new(jiff::Timestamp::now)).await.expect("a database")
}

#[tokio::test]
async fn a_prefix_is_refused_to_another_database() {
    let directory = tempfile::tempdir().expect("a directory");
    let service = Service::start().await;
    let storage = service.storage("files");
    let ours = database(&directory.path().join("a.sqlite")).await;
    for _ in 0..2 {
        identity::join(&ours, &storage).await.expect("both are new, then the same two again");
    }
    let other = database(&directory.path().join("b.sqlite")).await;
    for refused in [
        identity::join(&other, &storage).await.expect_err("for a server"),
        identity::check_folder(&other, &storage).await.expect_err("for a worker"),
    ] {
        assert!(matches!(refused, IdentityError::OtherDatabase { .. }), "{refused}");
        assert!(refused.to_string().contains("s3://images/files"), "{refused}");
    }
    identity::join(&other, &service.storage("others")).await.expect("a prefix of its own");
    let files = latentd::storage::FileKey::fresh("png");
    service.storage("unmarked").put(&files, b"x".to_vec()).await.expect("a store");
    let refused = identity::join(&other, &service.storage("unmarked")).await;
    assert!(matches!(refused, Err(IdentityError::UnknownFiles(_))), "{refused:?}");
}

#[tokio::test]
async fn of_two_databases_that_start_at_once_one_gets_the_prefix() {
    let directory = tempfile::tempdir().expect("a directory");
    let service = Service::start().await;
    for round in 0..5 {
        let storage = service.storage(&format!("round-{round}"));
        let first = database(&directory.path().join(format!("{round}-a.sqlite"))).await;
        let second = database(&directory.path().join(format!("{round}-b.sqlite"))).await;
        let joined = tokio::join!(identity::join(&first, &storage), identity::join(&second, &storage));
        assert_eq!(usize::from(joined.0.is_ok()) + usize::from(joined.1.is_ok()), 1, "{joined:?}");
        let again = tokio::join!(identity::join(&first, &storage), identity::join(&second, &storage));
        assert_eq!((again.0.is_ok(), again.1.is_ok()), (joined.0.is_ok(), joined.1.is_ok()), "{again:?}");
    }
}
