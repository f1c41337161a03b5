//! What only a server can do: be opened by several processes at once, be newer, signal other processes, go away and come back.

use crate::cluster::Cluster;
use crate::rig::{Rig, claim, connect, request, run, submit};
use jiff::Timestamp;
use latentd_queue::fault::Fault;
use latentd_queue::queue::{Database, Lost, Queue, QueueError, Reclaimed};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Looks until it is so; the limit only ends a test that has failed.
async fn eventually(mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < Duration::from_secs(60), "still not so");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn options(rig: &Rig) -> sqlx::postgres::PgConnectOptions {
    match &rig.database {
        Database::Postgres { options, .. } => (**options).clone(),
        Database::Sqlite(_) => panic!("not for SQLite"),
    }
}

#[tokio::test]
async fn processes_that_start_at_once_make_one_schema() {
    let rig = Rig::postgres().await;
    let opening: Vec<_> = (0..6)
        .map(|_| {
            let rig = rig.clone();
            tokio::spawn(async move { rig.open().await })
        })
        .collect();
    let mut ids = Vec::new();
    for queue in opening {
        ids.push(queue.await.expect("no panic").identity().await.expect("a database").id);
    }
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    rig.end().await;
}

#[tokio::test]
async fn a_newer_schema_refuses_an_older_program() {
    let rig = Rig::postgres().await;
    rig.open().await.close().await;
    run(&mut connect(&options(&rig)).await, "UPDATE latentd_schema SET version = 99".into()).await;
    let refused = Queue::open(&rig.database, Arc::new(Timestamp::now)).await.err().expect("a refusal");
    assert!(matches!(refused, QueueError::NewerSchema(99)), "{refused}");
    assert!(refused.to_string().contains("upgrade latentd"), "{refused}");
    rig.end().await;
}

/// The worker was killed while the server worked on its claim.
#[tokio::test]
async fn a_claim_that_is_committed_after_its_worker_died_is_put_back() {
    let rig = Rig::postgres().await;
    let queue = rig.open().await;
    let id = submit(&queue, &request()).await;
    let mut of_the_dead = connect(&options(&rig)).await;
    let claimed = format!(
        "BEGIN; UPDATE requests SET state = 'running', worker = 'dead', attempt = 1, lease_until = latentd_now() + 60000000
            WHERE id = '{id}'"
    );
    run(&mut of_the_dead, claimed).await;
    assert_eq!(queue.reclaim(Lost::Died("dead")).await.expect("a database"), Reclaimed::default());
    assert_eq!(queue.reclaim_late().await.expect("a database"), Reclaimed::default());
    run(&mut of_the_dead, "COMMIT".into()).await;
    assert_eq!(claim(&queue, "alive").await, None);
    assert_eq!(queue.reclaim_late().await.expect("a database").waiting, 1);
    assert_eq!(claim(&queue, "alive").await.map(|claim| claim.id), Some(id));
    assert_eq!(queue.reclaim_late().await.expect("a database"), Reclaimed::default());
    drop(of_the_dead);
    rig.end().await;
}

/// Signals reach another process, and go on to once the connection that carries them was cut.
#[tokio::test]
async fn other_processes_are_signalled_of_work_and_of_changes() {
    let rig = Rig::postgres().await;
    let (gateway, worker) = (rig.open().await, rig.open().await);
    let (mut work, mut moved) = (worker.events().work(), gateway.events().moved());
    let listens =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    let mut admin = connect(&options(&rig)).await;
    for _ in ["at first", "after the connections were cut"] {
        let both = async || {
            let count = sqlx::query_scalar::<_, i64>(listens);
            count.fetch_one(&mut admin).await.expect("a number") == 2
        };
        eventually(both).await;
        work.borrow_and_update();
        submit(&gateway, &request()).await;
        tokio::time::timeout(Duration::from_secs(30), work.changed()).await.expect("a signal").expect("open");
        moved.borrow_and_update();
        claim(&worker, "w").await.expect("a request");
        tokio::time::timeout(Duration::from_secs(30), moved.changed())
            .await
            .expect("a signal")
            .expect("open");
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
        run(&mut admin, cut.into()).await;
        eventually(async || gateway.identity().await.is_ok() && worker.identity().await.is_ok()).await;
    }
    rig.end().await;
}

/// kill -9 of the server in the middle of submissions: what was accepted is there, and no process is started again.
#[tokio::test]
async fn a_server_that_dies_fails_operations_as_the_machines_fault_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut cluster = Cluster::start(folder.path(), true);
    let rig = Rig::of_postgres(cluster.options());
    let queue = rig.open().await;
    let mut accepted = Vec::new();
    for _round in 0..2 {
        let submitting = tokio::spawn({
            let queue = queue.clone();
            async move {
                let mut accepted = Vec::new();
                loop {
                    match queue.submit(&request()).await {
                        Ok(latentd_queue::queue::Submission::Accepted { id, .. }) => accepted.push(id),
                        Ok(other) => panic!("{other:?}"),
                        Err(error) => return (accepted, error),
                    }
                }
            }
        });
        tokio::time::sleep(Duration::from_millis(300)).await;
        cluster.kill();
        let (ids, error) = submitting.await.expect("no panic");
        assert!(error.is_machines(), "{error:?}");
        assert!(!ids.is_empty());
        accepted.extend(ids);
        let away = queue.claim("w", &[]).await.expect_err("there is no server");
        assert!(away.is_machines(), "{away:?}");
        cluster.start_again(true);
        eventually(async || queue.identity().await.is_ok()).await;
    }
    for id in &accepted {
        assert!(queue.status(*id).await.expect("a database").is_some(), "an accepted request is lost");
    }
    assert!(claim(&queue, "w").await.is_some());
}

#[tokio::test]
async fn a_database_of_a_server_cannot_be_copied_like_a_file() {
    let rig = Rig::postgres().await;
    let refused = rig.open().await.copy_to(std::path::Path::new("copy")).await.expect_err("a refusal");
    assert!(refused.to_string().contains("pg_dump"), "{refused}");
    rig.end().await;
}

#[test]
fn a_database_is_named_by_its_url_without_its_password() {
    let parse = |url: &str| url.parse::<Database>();
    let server = parse("postgres://me:secret@db.example:5433/latentd").expect("a URL");
    assert_eq!(server.to_string(), "latentd at db.example:5433");
    assert_eq!(format!("{server:?}"), "latentd at db.example:5433");
    assert_eq!(parse("sqlite:/a/b").expect("a URL").to_string(), "/a/b");
    for nonsense in ["", "mysql://x", "sqlite:", "sqlite::memory:", "/plain/path"] {
        assert!(parse(nonsense).is_err(), "{nonsense}");
    }
}
