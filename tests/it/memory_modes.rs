//! `--memory-mode` on the command line and of a server.

use crate::support::Program;
use serde_json::{Value, json};
use std::fs::File;
use std::process::{Command, Output};

fn latentd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_latentd")).args(arguments).output().expect("the program")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn every_mode_generates_the_same_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |mode: &str| {
        let path = folder.path().join(format!("{mode}.png"));
        let output = path.to_str().expect("UTF-8");
        let mut arguments =
            vec!["generate", "a red house", "--width", "128", "--height", "64", "--steps", "2"];
        arguments.extend(["--seed", "3", "--device", "cpu", "--memory-mode", mode, "-o", output]);
        let run = latentd(&arguments);
        assert!(run.status.success(), "{}", text(&run.stderr));
        std::fs::read(path).expect("an image")
    };
    let resident = file("resident");
    for mode in ["offload", "stream", "auto"] {
        assert!(file(mode) == resident, "{mode}: another file");
    }
}

#[test]
fn an_unknown_mode_is_refused() {
    let run = latentd(&["generate", "a fox", "--memory-mode", "swap", "-o", "fox.png"]);
    let words = text(&run.stderr);
    assert!(!run.status.success(), "{words}");
    assert!(words.contains("--memory-mode swap: give `auto`, `resident`, `offload` or `stream`"), "{words}");
}

/// The plan's table, and what `auto` takes of the sizes that cards have.
#[test]
fn doctor_says_what_each_mode_needs() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().to_str().expect("UTF-8");
    let run =
        latentd(&["doctor", "--json", "--device", "cpu", "--listen", "127.0.0.1:0", "--data-dir", data]);
    let report: Value = serde_json::from_slice(&run.stdout).expect("JSON");
    let findings = report["findings"].as_array().expect("findings");
    let plan = findings.iter().find(|finding| finding["about"] == "memory plan").expect("a plan");
    let plan = plan["found"].as_str().expect("text");
    assert!(plan.contains("memory mode resident\n"), "{plan}");
    for line in ["  resident ", "  offload ", "  stream ", "auto takes, where so much is free", "  24.0 GB "]
    {
        assert!(plan.contains(line), "{line}: {plan}");
    }
}

/// Workers get the mode from their server.
#[test]
fn a_server_generates_in_the_mode() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    let mut command = Program::command(&data, &["--device", "cpu", "--memory-mode", "stream"]);
    command.env("LATENTD_LOG", "info").stderr(File::create(&log).expect("a file"));
    let server = Program::spawn(&mut command);
    let input = json!({ "prompt": "a red house", "image_size": { "width": 64, "height": 64 }, "num_inference_steps": 1 });
    let (code, body) = server.call("POST", "/run/fal-ai/stable-diffusion-v35-large", &input);
    assert_eq!(code, 200, "{body}");
    let log = std::fs::read_to_string(log).expect("a log");
    assert!(log.contains("memory mode stream"), "{log}");
}
