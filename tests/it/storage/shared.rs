//! Servers and a worker that share a PostgreSQL database and a bucket, and nothing else.

use super::doctor::judged;
use super::program::environment;
use super::service::{BUCKET, SECRET, Service};
use crate::databases::cluster::Cluster;
use crate::support::Program;
use crate::support::within;
use serde_json::{Value, json};
use sqlx::ConnectOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The longest that anything takes on a loaded machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Where the database is.
fn url(cluster: &Cluster) -> PathBuf {
    PathBuf::from(cluster.options().to_url_lossy().as_str())
}

/// Where the files are.
fn storage() -> String {
    format!("s3://{BUCKET}/p")
}

/// A server without workers and with a data directory of its own.
fn gateway(service: &Service, cluster: &Cluster, data: &Path) -> Program {
    let url = url(cluster);
    let variables = [&environment(service, SECRET)[..], &[("LATENTD_DATABASE_URL", url.as_path())]].concat();
    Program::start_in(data, &["--workers", "0", "--storage", &storage()], &variables)
}

/// `latentd worker`, as on a host without a server.
struct Worker(Child);

impl Worker {
    fn start(service: &Service, cluster: &Cluster, data: &Path) -> Self {
        let mut worker = Command::new(env!("CARGO_BIN_EXE_latentd"));
        worker.args(["worker", "--log", "warn", "--device", "cpu", "--storage", &storage(), "--data-dir"]);
        worker.arg(data).envs(environment(service, SECRET)).env("LATENTD_DATABASE_URL", url(cluster));
        Self(worker.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("the program"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The path of a URL of this server.
fn path(server: &Program, url: &Value) -> String {
    let url = url.as_str().expect("a URL");
    url.split_once(&server.address).expect("a URL of this server").1.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_on_one_database_and_one_bucket_serve_each_others_files() {
    let service = Service::start().await;
    let [first, second, third, host, of_postgres] =
        [(); 5].map(|()| tempfile::tempdir().expect("a directory"));
    let cluster = Cluster::start(of_postgres.path(), false);
    // Both start at once: one makes the mark of the bucket, the other finds it.
    let start = |data: &Path| {
        let (data, service, cluster) = (data.to_owned(), &service, &cluster);
        move || gateway(service, cluster, &data)
    };
    let gateways: [Program; 2] = std::thread::scope(|scope| {
        [&first, &second].map(|data| scope.spawn(start(data.path()))).map(|one| one.join().expect("a server"))
    });
    let worker = Worker::start(&service, &cluster, host.path());
    let uploaded = gateways[0].call("POST", "/files/upload", &json!("words")).1;
    let file = path(&gateways[0], &uploaded["access_url"]);
    let (head, body) = gateways[1].exchange("GET", &file, &Value::Null);
    assert!(head.starts_with("HTTP/1.1 200") && body == "\"words\"", "{head}\n{body}");
    let request = gateways[1].submit(2);
    let mut images = Vec::new();
    for gateway in &gateways {
        let done = async || (gateway.status(&request)["status"] == "COMPLETED").then_some(());
        within(LIMIT, done).await;
        let (_, result) = gateway.call("GET", &request, &Value::Null);
        let image = path(gateway, &result["images"][0]["url"]);
        let (head, body) = gateway.exchange("GET", &image, &Value::Null);
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("image/jpeg"), "{head}");
        images.push((image, body));
    }
    assert_eq!(images[0], images[1]);
    // The host that made the image is gone; a server that comes later has the file all the same.
    drop(worker);
    let later = gateway(&service, &cluster, third.path());
    let (head, body) = later.exchange("GET", &images[0].0, &Value::Null);
    assert!(head.starts_with("HTTP/1.1 200") && body == images[0].1, "{head}");
    for data in [&first, &second, &third, &host] {
        assert!(!data.path().join("files").exists(), "nothing is kept beside the bucket");
    }
    // A fourth host, with the right database and with another one.
    let fourth = tempfile::tempdir().expect("a directory");
    let mut admin = cluster.options().connect().await.expect("the cluster");
    sqlx::raw_sql("CREATE DATABASE other").execute(&mut admin).await.expect("a database");
    let other = PathBuf::from(cluster.options().database("other").to_url_lossy().as_str());
    let judged = |url: &Path| judged(&service, fourth.path(), &[("LATENTD_DATABASE_URL", url)]);
    assert_eq!(judged(&url(&cluster)).0, "good");
    let (state, found) = judged(&other);
    assert!(state == "wrong" && found.contains("belong to another database"), "{found}");
}
