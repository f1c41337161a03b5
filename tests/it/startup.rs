//! A server and a worker that are started while the database or the bucket is away: they wait, and the server answers
//! meanwhile. What waiting does not help ends the start at once.

use crate::databases::cluster::Cluster;
use crate::storage::program::environment;
use crate::storage::service::{BUCKET, SECRET, Service};
use crate::support::{ENDPOINT, Program, exchange, signal, small, within};
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The longest that anything takes on a loaded machine.
const LIMIT: Duration = Duration::from_secs(120);

/// A process that is killed when this is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server that cannot print where it listens yet, and waits until it answers there.
async fn serve(mut command: Command) -> Program {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address").to_string();
    drop(free);
    command.env("LATENTD_LISTEN", &address).stdin(Stdio::null()).stdout(Stdio::null());
    let program = Program { child: command.spawn().expect("the program"), address };
    within(LIMIT, async || TcpStream::connect(&program.address).ok()).await;
    program
}

/// Asserts that a server which waits says that it is alive and what it waits for, and answers every other call with a 503.
async fn assert_waits(server: &Program, status: &str) {
    within(LIMIT, async || (ready(server) == (503, status.into())).then_some(())).await;
    assert_eq!(server.call("GET", "/health/live", &Value::Null), (200, json!({ "status": "live" })));
    let submit = format!("/queue/{ENDPOINT}");
    let paths = ["/", "/health", "/metrics", "/openapi.json", "/no/such/path", "/files/a.png"];
    for (method, path) in paths.map(|path| ("GET", path)).into_iter().chain([("POST", submit.as_str())]) {
        let (head, body) = exchange(&server.address, method, path, "", small().to_string().as_bytes());
        let head = head.to_lowercase();
        assert!(head.starts_with("http/1.1 503"), "{method} {path}: {head}");
        assert!(
            head.contains("retry-after: ") && head.contains("x-fal-request-id"),
            "{method} {path}: {head}"
        );
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        assert!(body["detail"].is_string() || body["status"] == status, "{method} {path}: {body}");
    }
}

fn ready(server: &Program) -> (u16, Value) {
    let (code, body) = server.call("GET", "/health/ready", &Value::Null);
    (code, body["status"].clone())
}

/// The variable by which a program is told of a database.
fn database(options: &PgConnectOptions) -> (&'static str, String) {
    ("LATENTD_DATABASE_URL", options.to_url_lossy().into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_and_a_worker_wait_for_a_database_that_is_started_later() {
    let folder = tempfile::tempdir().expect("a folder");
    let of_postgres = tempfile::tempdir().expect("a folder of another user");
    let mut cluster = Cluster::start(of_postgres.path(), false);
    cluster.kill();
    let (name, url) = database(&cluster.options());
    let files = folder.path().join("files");
    let flags = ["--storage", files.to_str().expect("text")];
    let gateway = folder.path().join("gateway");
    let mut command = Program::command(&gateway, &[&["--workers", "0"], &flags[..]].concat());
    command.env(name, &url);
    let server = serve(command).await;
    let mut worker = Command::new(env!("CARGO_BIN_EXE_latentd"));
    worker.args(["worker", "--log", "warn", "--data-dir"]).arg(folder.path().join("worker")).args(flags);
    let mut worker = Process(worker.env(name, &url).stdin(Stdio::null()).spawn().expect("the program"));
    assert_waits(&server, "database unavailable").await;
    assert_eq!(worker.0.try_wait().expect("our own process"), None, "the worker waits too");

    cluster.start_again(false);
    within(LIMIT, async || (ready(&server) == (200, "ready".into())).then_some(())).await;
    let request = server.submit(1);
    assert_eq!(server.completed(&request).await.get("error"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_waits_ends_by_a_signal() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Program::command(folder.path(), &[]);
    command.env("LATENTD_DATABASE_URL", "postgres://latentd@127.0.0.1:1/nobody-listens");
    let mut server = serve(command).await;
    assert_waits(&server, "database unavailable").await;
    signal("TERM", server.child.id());
    let ended = async || server.child.try_wait().expect("our own process");
    assert_eq!(within(LIMIT, ended).await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_waits_for_a_bucket() {
    let service = Service::start().await;
    service.set_away(true);
    let folder = tempfile::tempdir().expect("a folder");
    let storage = format!("s3://{BUCKET}/late");
    let mut command = Program::command(folder.path(), &["--storage", &storage]);
    command.envs(environment(&service, SECRET));
    let server = serve(command).await;
    assert_waits(&server, "storage unavailable").await;
    service.set_away(false);
    within(LIMIT, async || (ready(&server) == (200, "ready".into())).then_some(())).await;
    let request = server.submit(1);
    assert_eq!(server.completed(&request).await.get("error"), None);
}

/// What a server and a worker say when they end by themselves.
async fn refusals(folder: &Path, options: &PgConnectOptions) -> [String; 2] {
    let (name, url) = database(options);
    ["serve", "worker"].map(|command| {
        let mut program = Command::new("timeout");
        program.args(["120", env!("CARGO_BIN_EXE_latentd"), command, "--log", "error", "--data-dir"]);
        let output = program.arg(folder).env(name, &url).env("LATENTD_LISTEN", "127.0.0.1:0").output();
        let output = output.expect("the program");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{command}: {text}");
        text
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waiting_does_not_help_ends_the_start_with_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let of_postgres = tempfile::tempdir().expect("a folder of another user");
    let mut cluster = Cluster::start(of_postgres.path(), false);
    for line in refusals(folder.path(), &cluster.options().database("unknown")).await {
        assert!(line.contains("database \"unknown\" does not exist"), "{line}");
    }
    let mut admin = cluster.options().connect().await.expect("a database");
    let newer = "CREATE TABLE latentd_schema (version BIGINT NOT NULL);
        INSERT INTO latentd_schema VALUES (1000)";
    sqlx::raw_sql(newer).execute(&mut admin).await.expect("a statement");
    for line in refusals(folder.path(), &cluster.options()).await {
        assert!(line.contains("schema version 1000") && line.contains("upgrade latentd"), "{line}");
    }
    sqlx::raw_sql("ALTER ROLE latentd PASSWORD 'right'").execute(&mut admin).await.expect("a statement");
    admin.close().await.expect("a connection");
    cluster.kill();
    let access = of_postgres.path().join("data/pg_hba.conf");
    std::fs::write(access, "local all all scram-sha-256\n").expect("a disk");
    cluster.start_again(false);
    for line in refusals(folder.path(), &cluster.options().password("wrong")).await {
        assert!(line.contains("password authentication failed") && !line.contains("wrong"), "{line}");
    }
}
