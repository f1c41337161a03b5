//! Real servers that share a PostgreSQL database, and what they do while it is away.

use crate::databases::cluster::Cluster;
use crate::support::{ENDPOINT, Program, attempts, exchange, signal, small, within};
use serde_json::{Value, json};
use sqlx::ConnectOptions;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest that anything takes on a loaded machine.
const LIMIT: Duration = Duration::from_secs(120);

/// A server with this many workers beside others, with a data directory of its own and files that all share.
fn serve(directory: &Path, name: &str, cluster: &Cluster, workers: &str) -> Program {
    serve_with(directory, name, cluster, &["--workers", workers, "--drain-timeout", "60"])
}

/// The same with these flags.
fn serve_with(directory: &Path, name: &str, cluster: &Cluster, flags: &[&str]) -> Program {
    let url = PathBuf::from(cluster.options().to_url_lossy().as_str());
    let files = directory.join("files");
    let flags = [flags, &["--storage", files.to_str().expect("text")]].concat();
    Program::start_in(&directory.join(name), &flags, &[("LATENTD_DATABASE_URL", &url)])
}

#[tokio::test]
async fn what_one_server_accepts_another_runs_and_both_show() {
    let directory = tempfile::tempdir().expect("a directory");
    let of_postgres = tempfile::tempdir().expect("a directory of another user");
    let cluster = Cluster::start(of_postgres.path(), false);
    let gateway = serve(directory.path(), "gateway", &cluster, "0");
    let other = serve(directory.path(), "other", &cluster, "1");
    let request = gateway.submit(2);
    // The URLs are those of the server that is asked.
    let mut results = Vec::new();
    for server in [&gateway, &other] {
        let completed = async || {
            (server.status(&request)["status"] == "COMPLETED")
                .then(|| server.call("GET", &request, &Value::Null))
        };
        let (code, result) = within(LIMIT, completed).await;
        assert_eq!(code, 200, "{result}");
        let url = result["images"][0]["url"].as_str().expect("a URL").to_owned();
        let (_, path) = url.split_once(&server.address).expect("a URL of this server");
        assert_eq!(server.call("GET", path, &Value::Null).0, 200);
        results.push(path.to_owned());
    }
    assert_eq!(results[0], results[1]);
    // A server that starts takes nothing away from those that live.
    let third = serve(directory.path(), "third", &cluster, "0");
    assert_eq!(third.status(&request)["status"], "COMPLETED");
}

#[tokio::test]
async fn while_the_database_is_away_clients_get_503_and_then_it_goes_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let of_postgres = tempfile::tempdir().expect("a directory of another user");
    let mut cluster = Cluster::start(of_postgres.path(), true);
    let server = serve(directory.path(), "server", &cluster, "0");
    let accepted = server.submit(2);
    cluster.kill();
    let submit = || server.exchange("POST", &format!("/queue/{ENDPOINT}"), &small());
    for _ in 0..2 {
        let (head, body) = submit();
        assert!(
            head.starts_with("HTTP/1.1 503") && head.to_lowercase().contains("retry-after"),
            "{head}\n{body}"
        );
    }
    assert_eq!(server.call("GET", "/health/live", &Value::Null).0, 200);
    cluster.start_again(true);
    within(LIMIT, async || submit().0.starts_with("HTTP/1.1 200").then_some(())).await;
    assert_eq!(server.status(&accepted)["status"], "IN_QUEUE", "nothing that was accepted is lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_and_who_waits_for_it_outlive_an_outage_of_the_database() {
    let directory = tempfile::tempdir().expect("a directory");
    let of_postgres = tempfile::tempdir().expect("a directory of another user");
    let mut cluster = Cluster::start(of_postgres.path(), true);
    let server = serve(directory.path(), "server", &cluster, "1");
    let input = json!({ "prompt": "an outage", "image_size": "square", "num_inference_steps": 50 });
    let queued = server.submit_input(&input);
    server.running(&queued).await;
    std::thread::scope(|scope| {
        // One client waits for its result, and one reads the statuses of the other request.
        let run = scope.spawn(|| server.exchange("POST", &format!("/run/{ENDPOINT}"), &input));
        let follow = scope.spawn(|| server.exchange("GET", &format!("{queued}/status/stream"), &Value::Null));
        let begun = std::time::Instant::now();
        while !server
            .exchange("GET", "/metrics", &Value::Null)
            .1
            .contains("latentd_queue_depth{priority=\"normal\"} 1")
        {
            assert!(begun.elapsed() < LIMIT, "the run is not there");
            std::thread::sleep(Duration::from_millis(20));
        }
        cluster.kill();
        std::thread::sleep(Duration::from_secs(7)); // longer than a call waits for a connection
        cluster.start_again(true);
        let (head, body) = run.join().expect("no panic");
        assert!(head.starts_with("HTTP/1.1 200") && body.contains("\"images\""), "{head}\n{body}");
        let (_, events) = follow.join().expect("no panic");
        assert!(events.contains("\"COMPLETED\""), "{events}");
    });
    let status = server.completed(&queued).await;
    assert_eq!((status.get("error"), attempts(&status)), (None, 1), "{status}");
}

/// The time of the result, of which the server that was stopped has 60 seconds.
#[tokio::test]
async fn a_server_that_is_stopped_answers_what_workers_elsewhere_make_for_its_clients() {
    let directory = tempfile::tempdir().expect("a directory");
    let of_postgres = tempfile::tempdir().expect("a directory of another user");
    let cluster = Cluster::start(of_postgres.path(), false);
    let mut gateway = serve(directory.path(), "gateway", &cluster, "0");
    let address = gateway.address.clone();
    let run = std::thread::spawn(move || {
        let path = format!("/run/{ENDPOINT}");
        exchange(&address, "POST", &path, "", small().to_string().as_bytes())
    });
    let waits = async || {
        let (_, metrics) = gateway.exchange("GET", "/metrics", &Value::Null);
        metrics.contains("latentd_queue_depth{priority=\"normal\"} 1").then_some(())
    };
    within(LIMIT, waits).await;
    signal("TERM", gateway.child.id());
    let _other = serve(directory.path(), "other", &cluster, "1");
    let (head, body) = run.join().expect("no panic");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}\n{}", String::from_utf8_lossy(&body));
    assert!(gateway.child.wait().expect("its end").success());
}

#[tokio::test]
async fn what_a_server_that_is_stopped_cannot_wait_for_is_cancelled() {
    let directory = tempfile::tempdir().expect("a directory");
    let of_postgres = tempfile::tempdir().expect("a directory of another user");
    let cluster = Cluster::start(of_postgres.path(), false);
    let other = serve(directory.path(), "other", &cluster, "0");
    let mut gateway =
        serve_with(directory.path(), "gateway", &cluster, &["--workers", "0", "--drain-timeout", "1"]);
    let address = gateway.address.clone();
    let run = std::thread::spawn(move || {
        let path = format!("/run/{ENDPOINT}");
        std::panic::catch_unwind(|| exchange(&address, "POST", &path, "", small().to_string().as_bytes()))
    });
    let depth = async |waiting: u32| {
        let (_, metrics) = other.exchange("GET", "/metrics", &Value::Null);
        metrics.contains(&format!("latentd_queue_depth{{priority=\"normal\"}} {waiting}")).then_some(())
    };
    within(LIMIT, async || depth(1).await).await;
    signal("TERM", gateway.child.id());
    within(LIMIT, async || depth(0).await).await;
    assert!(gateway.child.wait().expect("its end").success());
    drop(run.join());
}
