//! `--storage s3://…` of the real program: server, worker and doctor take the keys from the environment.

use super::service::{BUCKET, KEY, SECRET, Service};
use crate::support::Program;
use crate::support::{ENDPOINT, eventually};
use futures_util::TryStreamExt;
use latentd::storage::FileKey;
use serde_json::json;
use std::path::Path;
use std::process::{Command, Output};

/// A server with files below a prefix of the bucket.
pub(super) fn serve(service: &Service, data: &Path, prefix: &str, flags: &[&str]) -> Program {
    let storage = format!("s3://{BUCKET}/{prefix}");
    Program::start_in(data, &[&["--storage", &storage], flags].concat(), &environment(service, SECRET))
}

pub(crate) fn environment<'a>(service: &'a Service, secret: &'a str) -> [(&'static str, &'a Path); 4] {
    [
        ("AWS_ACCESS_KEY_ID", Path::new(KEY)),
        ("AWS_SECRET_ACCESS_KEY", Path::new(secret)),
        ("AWS_ENDPOINT_URL", Path::new(&service.endpoint)),
        ("AWS_ALLOW_HTTP", Path::new("true")),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn server_and_worker_keep_their_files_in_a_bucket() {
    let service = Service::start().await;
    let data = tempfile::tempdir().expect("a directory");
    let storage = format!("s3://{BUCKET}/of/a/program?region=us-east-1");
    let program = Program::start_in(data.path(), &["--storage", &storage], &environment(&service, SECRET));
    let input =
        json!({ "prompt": "a house", "image_size": { "width": 64, "height": 64 }, "num_inference_steps": 1 });
    let (code, accepted) = program.call("POST", &format!("/queue/{ENDPOINT}"), &input);
    assert_eq!(code, 200, "{accepted}");
    let id = accepted["request_id"].as_str().expect("an id");
    let request = format!("/queue/{ENDPOINT}/requests/{id}");
    let is_done = async || (program.status(&request)["status"] == "COMPLETED").then_some(());
    eventually(is_done).await;
    let (_, result) = program.call("GET", &request, &json!(null));
    let url = result["images"][0]["url"].as_str().expect("a URL").to_owned();
    let (_, path) = url.split_once("/files/").expect("a file of the server's");
    let (head, _) = program.exchange("GET", &format!("/files/{path}"), &json!(null));
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let keys: Vec<FileKey> = service.storage("of/a/program").list().try_collect().await.expect("the bucket");
    assert_eq!(keys.iter().map(FileKey::as_str).collect::<Vec<_>>(), [path]);
    assert!(!data.path().join("files").exists(), "nothing is kept in the data directory");
}

pub(super) fn run(service: &Service, secret: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_latentd"));
    command.args(arguments).envs(environment(service, secret));
    command.output().expect("the program")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_named_by_serve_and_by_doctor() {
    let service = Service::start().await;
    let data = tempfile::tempdir().expect("a directory");
    let data = data.path().to_str().expect("text");
    let storage = format!("s3://{BUCKET}/p");
    let flags = ["--data-dir", data, "--storage", &storage, "--listen", "127.0.0.1:0"];
    let serve = run(&service, "a mistake", &[&["serve"], &flags[..]].concat());
    let line = String::from_utf8_lossy(&serve.stderr).into_owned();
    assert_eq!(serve.status.code(), Some(1), "{line}");
    assert!(line.contains("AWS_SECRET_ACCESS_KEY") && !line.contains("a mistake"), "{line}");
    for (secret, words) in [("a mistake", "AWS_SECRET_ACCESS_KEY"), (SECRET, "can be listed")] {
        let doctor = run(&service, secret, &[&["doctor"], &flags[..]].concat());
        let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
        let line = text.lines().skip_while(|line| !line.contains(" storage "));
        let line = line.take(4).collect::<Vec<_>>().join(" ");
        assert!(line.contains(words) && !text.contains("a mistake"), "{text}");
    }
    let backup = run(&service, SECRET, &["backup", "/nowhere", "--data-dir", data, "--storage", &storage]);
    let line = String::from_utf8_lossy(&backup.stderr).into_owned();
    assert!(!backup.status.success() && line.contains("files in a directory"), "{line}");
}
