//! Servers that share a PostgreSQL database and a bucket, and nothing else.

use super::program::environment;
use super::service::{BUCKET, SECRET, Service};
use crate::crash::Program;
use crate::databases::cluster::Cluster;
use crate::support::within;
use serde_json::{Value, json};
use sqlx::ConnectOptions;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest that anything takes on a loaded machine.
const LIMIT: Duration = Duration::from_secs(120);

/// A server with a data directory of its own.
fn serve(service: &Service, cluster: &Cluster, data: &Path, workers: &str) -> Program {
    let url = PathBuf::from(cluster.options().to_url_lossy().as_str());
    let mut variables = environment(service, SECRET).to_vec();
    variables.push(("LATENTD_DATABASE_URL", &url));
    let storage = format!("s3://{BUCKET}/shared");
    Program::start_in(data, &["--workers", workers, "--storage", &storage], &variables)
}

/// The path of a URL of this server.
fn path(server: &Program, url: &Value) -> String {
    let url = url.as_str().expect("a URL");
    url.split_once(&server.address).expect("a URL of this server").1.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_on_one_database_and_one_bucket_serve_each_others_files() {
    let service = Service::start().await;
    let [first, second, third, of_postgres] = [(); 4].map(|()| tempfile::tempdir().expect("a directory"));
    let cluster = Cluster::start(of_postgres.path(), false);
    // Both start at once: one makes the mark of the bucket, the other finds it.
    let start = |data: &Path, workers: &'static str| {
        let data = data.to_owned();
        let (service, cluster) = (&service, &cluster);
        move || serve(service, cluster, &data, workers)
    };
    let (gateway, worker) = std::thread::scope(|scope| {
        let (gateway, worker) =
            (scope.spawn(start(first.path(), "0")), scope.spawn(start(second.path(), "1")));
        (gateway.join().expect("a server"), worker.join().expect("a server"))
    });
    let uploaded = gateway.call("POST", "/files/upload", &json!("words")).1;
    let file = path(&gateway, &uploaded["access_url"]);
    let (head, body) = worker.exchange("GET", &file, &Value::Null);
    assert!(head.starts_with("HTTP/1.1 200") && body == "\"words\"", "{head}\n{body}");
    let request = gateway.submit(2);
    let mut images = Vec::new();
    for server in [&gateway, &worker] {
        let done = async || (server.status(&request)["status"] == "COMPLETED").then_some(());
        within(LIMIT, done).await;
        let (_, result) = server.call("GET", &request, &Value::Null);
        let image = path(server, &result["images"][0]["url"]);
        let (head, body) = server.exchange("GET", &image, &Value::Null);
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("image/jpeg"), "{head}");
        images.push((image, body));
    }
    assert_eq!(images[0], images[1]);
    // The one that wrote the image dies; a server that comes later has the file all the same.
    drop(worker);
    let later = serve(&service, &cluster, third.path(), "0");
    for server in [&gateway, &later] {
        let (head, body) = server.exchange("GET", &images[0].0, &Value::Null);
        assert!(head.starts_with("HTTP/1.1 200") && body == images[0].1, "{head}");
    }
    let local = |data: &Path| data.join("files").exists();
    assert!(!local(first.path()) && !local(second.path()), "nothing is kept beside the bucket");
}
