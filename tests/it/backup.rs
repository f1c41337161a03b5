//! `latentd backup` while a server works, and `latentd restore` elsewhere.

use crate::support::{Program, files};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

fn latentd(command: &str, archive: &Path, data: &Path) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_latentd"));
    program.arg(command).arg(archive).arg("--data-dir").arg(data).output().expect("the program")
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn submit(program: &Program, number: usize) -> String {
    let size = json!({ "width": 32, "height": 32 });
    let prompt = format!("number {number}");
    program.submit_input(&json!({ "prompt": prompt, "image_size": size, "num_inference_steps": 2 }))
}

/// The path below the server and the bytes of a result's image.
fn image(program: &Program, request: &str) -> (String, String) {
    let (code, result) = program.call("GET", request, &Value::Null);
    assert_eq!(code, 200, "{result}");
    let url = result["images"][0]["url"].as_str().expect("a URL").to_owned();
    let path = url.split_once("/files/").map(|(_, name)| format!("/files/{name}")).expect("ours");
    let (head, body) = program.exchange("GET", &path, &Value::Null);
    assert!(head.starts_with("HTTP/1.1 200"), "{path}: {head}");
    (path, body)
}

/// Is it over, and not cancelled?
fn is_done(status: &Value) -> bool {
    status["status"] == "COMPLETED" && status.get("error_type").is_none()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_busy_server_is_served_elsewhere() {
    let place = tempfile::tempdir().expect("a directory");
    let at = |name: &str| place.path().join(name);
    let server = Program::start(&at("data"));
    let (_, uploaded) = server.call("POST", "/files/upload", &json!("words"));
    let upload = uploaded["access_url"].as_str().and_then(|url| url.split_once("/files/")).expect("a URL").1;
    let upload = format!("/files/{upload}");

    let mut requests = Vec::new();
    for round in 0..3 {
        // Some are done, one runs, some wait.
        requests.extend((0..5).map(|number| submit(&server, number)));
        let long = server.submit(50);
        requests.push(long.clone());
        requests.extend((5..10).map(|number| submit(&server, number)));
        server.running(&long).await;
        let done = requests.iter().filter(|request| is_done(&server.status(request)));
        let done: BTreeMap<_, _> = done.map(|request| (request, image(&server, request))).collect();
        assert!(done.len() >= 5);
        let archive = at(&format!("backup{round}.tar"));
        let output = latentd("backup", &archive, &at("data"));
        assert!(output.status.success() && !words(&output).contains("missing"), "{}", words(&output));
        assert_eq!(server.call("PUT", &format!("{long}/cancel"), &Value::Null).0, 202);

        let elsewhere = at(&format!("elsewhere{round}"));
        let output = latentd("restore", &archive, &elsewhere);
        assert!(output.status.success(), "{}", words(&output));
        let restored = Program::start_with(&elsewhere, &["--workers", "0"]);
        for (request, before) in &done {
            assert_eq!(&image(&restored, request), before);
        }
        for request in &requests {
            let status = restored.status(request);
            match status["status"].as_str() {
                Some("COMPLETED") if is_done(&status) => drop(image(&restored, request)),
                Some("COMPLETED" | "IN_QUEUE" | "IN_PROGRESS") => {}
                other => panic!("{other:?}: {status}"),
            }
        }
        assert!(restored.exchange("GET", &upload, &Value::Null).0.starts_with("HTTP/1.1 200"));
    }
    // What waited and what ran is done where it is restored; what was cancelled later ran in that copy.
    let restored = Program::start(&at("elsewhere0"));
    for request in &requests[..11] {
        let status = restored.completed(request).await;
        assert_eq!(status.get("error"), None, "{status}");
        image(&restored, request);
    }
}

#[test]
fn nothing_is_overwritten_and_nothing_damaged_is_restored() {
    let place = tempfile::tempdir().expect("a directory");
    let at = |name: &str| place.path().join(name);
    let server = Program::start_with(&at("data"), &["--workers", "0"]);
    assert_eq!(server.call("POST", "/files/upload", &json!("words")).0, 200);
    drop(server);
    let fails = |command: &str, archive: &Path, data: &Path, why: &str| {
        let output = latentd(command, archive, data);
        let error = words(&output);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(why) && error.lines().count() == 1, "{error}");
    };
    fails("backup", &at("a.tar"), &at("nowhere"), "there is no database");
    let archive = at("a.tar");
    assert!(latentd("backup", &archive, &at("data")).status.success());
    let is_private = |path: &Path| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(path).expect("a file").permissions().mode() & 0o077 == 0
    };
    assert!(is_private(&archive), "the server's keys are inside");
    fails("backup", &archive, &at("data"), "is there already");
    fails("restore", &archive, &at("data"), "not empty");
    fails("restore", &at("nothing.tar"), &at("new"), "nothing.tar");

    let whole = std::fs::read(&archive).expect("the archive");
    let mut flipped = whole.clone();
    let at_words = whole.windows(7).position(|bytes| bytes == b"\"words\"").expect("the upload");
    flipped[at_words] ^= 1;
    let cut = |to: usize| whole[..to].to_vec();
    let mut foreign = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.as_gnu_mut().expect("a GNU header").name[..13].copy_from_slice(b"files/../evil");
    header.set_cksum();
    foreign.append(&header, &b"x"[..]).expect("memory");
    let cases = [
        (flipped, "damaged"),
        (cut(whole.len() / 2), ""),
        (cut(at_words / 512 * 512 + 512), "not whole"),
        (foreign.into_inner().expect("memory"), "no backup does"),
        (b"GIF89a".repeat(1000), "no backup"),
        (Vec::new(), "not whole"),
    ];
    for (number, (bytes, why)) in cases.into_iter().enumerate() {
        let damaged = at(&format!("damaged{number}.tar"));
        std::fs::write(&damaged, bytes).expect("a file");
        let data = at(&format!("new{number}"));
        fails("restore", &damaged, &data, why);
        assert!(!data.join("latentd.sqlite").exists());
        assert!(!data.join("files").exists() || files(&data.join("files")).is_empty(), "nothing is left");
        assert!(latentd("restore", &archive, &data).status.success(), "the next try is not in its way");
    }
    assert!(!at("evil").exists());
    assert!(latentd("restore", &archive, &at("new")).status.success());
    assert!(is_private(&at("new").join("webhook-key.pk8")));
    drop(Program::start_with(&at("new"), &["--workers", "0"]));
}
