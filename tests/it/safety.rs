//! The safety checker seen from outside: flags and the request's switch over HTTP, refusals of the program.

use crate::support::{Scripted, Server, id_of, messages, small_with};
use latentd::engine::{Generated, Image, Measure, SafetyVerdict, Timings};
use latentd::queue::Outcome;
use latentd_request::Score;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// An engine whose safety checker, where it runs, finds the second image of a request unsafe.
pub(crate) fn checking_engine() -> Scripted {
    Scripted::new(|call| {
        let request = call.request;
        let image = |index| {
            let level = if index == 1 && request.check_safety { 0 } else { 128 };
            let rgb = vec![level; request.width * request.height * 3];
            Image { width: request.width, height: request.height, rgb }
        };
        let verdict = |index| SafetyVerdict {
            score: [0.25, 0.75][index],
            measure: Measure::Probability,
            flagged: index == 1,
        };
        let generated = Generated {
            images: (0..request.num_images).map(image).collect(),
            verdicts: (0..request.num_images).filter(|_| request.check_safety).map(verdict).collect(),
            timings: Timings::default(),
        };
        Ok(Box::new(move |_| Ok(generated.clone())))
    })
}

/// The output and the log lines of two images, with `change` in the input.
async fn generate(change: Value) -> (Value, Vec<String>) {
    generate_on(&Server::start().await, change).await.1
}

/// The same on one server, and the request's id.
async fn generate_on(server: &Server, change: Value) -> (String, (Value, Vec<String>)) {
    let mut input = small_with("num_images", 2);
    for (name, value) in change.as_object().expect("an object") {
        input[name] = value.clone();
    }
    let request = server.submit(&input).await;
    server.worker("w", checking_engine()).await.tick().await.expect("a worker that goes on");
    let (output, lines) = (server.get(&request).await.json(), messages(&server.status(&request).await));
    (request, (output, lines))
}

/// The output that the worker stored.
async fn stored(server: &Server, request: &str) -> latentd_request::Output {
    let id = id_of(request).parse().expect("an id");
    match server.queue.outcome(id).await.expect("a database") {
        Some(Outcome::Output(value)) => serde_json::from_value(value).expect("an output"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn scores_are_stored_with_the_output_and_not_shown() {
    let server = Server::start().await;
    let (request, (shown, _)) = generate_on(&server, json!({})).await;
    let score = |value| Score { value: Some(value), measure: latentd_request::Measure::Probability };
    assert_eq!(stored(&server, &request).await.scores, [score(0.25), score(0.75)]);
    assert!(shown.get("scores").is_none(), "{shown}");
    let (request, _) = generate_on(&server, json!({ "enable_safety_checker": false })).await;
    assert!(stored(&server, &request).await.scores.is_empty());
}

/// As an earlier version stored it.
#[test]
fn an_output_without_scores_is_read() {
    let output: latentd_request::Output = serde_json::from_value(json!({
        "images": [], "seconds": { "text": 0.0, "denoise": 0.0, "decode": 0.0, "encode": 0.0 },
        "seed": 2, "flagged": [true], "prompt": "a fox"
    }))
    .expect("an output");
    assert!(output.scores.is_empty());
}

#[test]
fn a_score_that_is_not_a_number_is_stored_as_none() {
    let verdict = SafetyVerdict { score: f32::NAN, measure: Measure::Margin, flagged: true };
    let stored = serde_json::to_value(latentd::engine::score(&verdict)).expect("JSON");
    assert_eq!(stored, json!({ "value": null, "measure": "margin" }));
    let read: Score = serde_json::from_value(stored).expect("a score");
    assert_eq!(read, Score { value: None, measure: latentd_request::Measure::Margin });
}

#[tokio::test]
async fn flags_reach_the_client_and_scores_the_log() {
    for change in
        [json!({}), json!({ "enable_safety_checker": true }), json!({ "enable_safety_checks": "yes" })]
    {
        let (output, lines) = generate(change).await;
        assert_eq!(output["has_nsfw_concepts"], json!([false, true]));
        let scores = "safety checker: 0.250, 0.750 (unsafe, made black) in";
        assert!(lines.iter().any(|line| line.starts_with(scores)), "{lines:?}");
    }
}

#[tokio::test]
async fn a_request_that_declines_is_not_checked() {
    for change in [json!({ "enable_safety_checker": false }), json!({ "enable_safety_checks": false })] {
        let (output, lines) = generate(change).await;
        assert_eq!(output["has_nsfw_concepts"], json!([false, false]));
        assert!(!lines.iter().any(|line| line.contains("safety")), "{lines:?}");
    }
    // Where both names are there, fal's own counts.
    let both = json!({ "enable_safety_checker": true, "enable_safety_checks": false });
    assert_eq!(generate(both).await.0["has_nsfw_concepts"], json!([false, true]));
}

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/golden").join(path)
}

fn classifier() -> PathBuf {
    golden("safety/plain")
}

fn latentd(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_latentd"));
    // A backtrace, where one is asked for, is no part of the message.
    command.args(arguments).env("RUST_BACKTRACE", "0").stdin(Stdio::null()).output().expect("the program")
}

/// With another Hugging Face cache.
fn latentd_beside(cache: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_latentd"));
    command.args(arguments).env("RUST_BACKTRACE", "0").env("HF_HOME", cache).env_remove("HF_HUB_CACHE");
    command.stdin(Stdio::null()).output().expect("the program")
}

/// A Hugging Face cache with tiny classifiers in place of the published ones.
fn cache(falconsai: bool, compvis: bool) -> tempfile::TempDir {
    let home = tempfile::tempdir().expect("a directory");
    let published = [
        (falconsai, "models--Falconsai--nsfw_image_detection", "plain"),
        (compvis, "models--CompVis--stable-diffusion-safety-checker", "compvis"),
    ];
    for (_, repository, tiny) in published.into_iter().filter(|(here, ..)| *here) {
        let repository = home.path().join("hub").join(repository);
        let snapshot = repository.join("snapshots/0123456789abcdef0123456789abcdef01234567");
        std::fs::create_dir_all(&snapshot).expect("a directory");
        std::fs::create_dir_all(repository.join("refs")).expect("a directory");
        std::fs::write(repository.join("refs/main"), "0123456789abcdef0123456789abcdef01234567")
            .expect("a file");
        for name in ["config.json", "preprocessor_config.json", "model.safetensors"] {
            std::fs::copy(golden("safety").join(tiny).join(name), snapshot.join(name)).expect("a copy");
        }
    }
    home
}

fn complaint(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

#[test]
fn the_program_checks_what_it_generates() {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("out.png");
    let (file, dir) = (file.to_str().expect("UTF-8"), classifier());
    let generate = |flags: &[&str]| {
        let work =
            ["generate", "a lake", "-o", file, "--width", "64", "--height", "64", "--steps", "1", "--json"];
        let output = latentd(&[&work[..], flags].concat());
        assert!(output.status.success(), "{}", complaint(&output));
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        (report["has_nsfw_concepts"].clone(), complaint(&output))
    };
    let dir = dir.to_str().expect("UTF-8");
    let (flagged, words) = generate(&["--safety-checker", dir, "--safety-threshold", "0"]);
    assert_eq!(flagged, json!([true]));
    assert!(words.contains("image 1 was found unsafe"), "{words}");
    let (flagged, words) = generate(&["--safety-checker", dir, "--safety-threshold", "1"]);
    assert_eq!((flagged, words.as_str()), (json!([false]), ""));
    let (flagged, words) = generate(&["--safety-checker", "none"]);
    assert_eq!((flagged, words.as_str()), (json!([false]), ""));
}

#[test]
fn the_program_does_not_start_without_the_checker_of_its_flags() {
    let folder = tempfile::tempdir().expect("a directory");
    let (missing, broken) = (folder.path().join("nowhere"), folder.path().join("broken"));
    std::fs::create_dir(&broken).expect("a directory");
    for name in ["config.json", "preprocessor_config.json"] {
        std::fs::copy(classifier().join(name), broken.join(name)).expect("a copy");
    }
    std::fs::write(broken.join("model.safetensors"), b"short").expect("written");
    let data = folder.path().join("data");
    let out = folder.path().join("out.png");
    let [missing, broken, data, out] =
        [missing, broken, data, out].map(|path| path.to_str().expect("UTF-8").to_owned());
    for command in [
        vec!["serve", "--listen", "127.0.0.1:0", "--data-dir", &data],
        vec!["worker", "--data-dir", &data],
        vec!["generate", "a fox", "-o", &out],
    ] {
        for (dir, code, word) in [(&missing, 2, "nowhere"), (&broken, 1, "model.safetensors")] {
            let output = latentd(&[&command[..], &["--safety-checker", dir, "--log", "error"]].concat());
            let words = complaint(&output);
            assert_eq!(output.status.code(), Some(code), "{command:?}: {words}");
            assert!(words.contains("latentd: ") && words.contains(word), "{command:?}: {words}");
            assert_eq!(words.lines().count(), 1, "{command:?}: {words}");
        }
    }
}

/// Arguments that generate one small image with a model of the user's own.
fn generate_with_own_model<'a>(out: &'a str, model: &'a str) -> Vec<&'a str> {
    vec![
        "generate",
        "a fox",
        "-o",
        out,
        "--model",
        model,
        "--width",
        "64",
        "--height",
        "64",
        "--steps",
        "1",
        "--t5-tokens",
        "16",
        "--json",
        "--device",
        "cpu",
        "--seed",
        "1",
    ]
}

#[test]
fn a_model_without_a_checker_is_checked_by_falconsai() {
    let here = cache(true, false);
    let (out, model) = (here.path().join("out.png"), golden("base/model"));
    let generate = generate_with_own_model(out.to_str().expect("UTF-8"), model.to_str().expect("UTF-8"));
    for (flags, flagged) in [(["--safety-threshold", "0"], true), (["--safety-threshold", "1"], false)] {
        for checker in [&["--safety-checker", "falconsai"][..], &[]] {
            let output = latentd_beside(here.path(), &[&generate[..], &flags, checker].concat());
            assert!(output.status.success(), "{}", complaint(&output));
            let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
            assert_eq!(report["has_nsfw_concepts"], json!([flagged]), "{flags:?} {checker:?}");
        }
    }
}

#[test]
fn compvis_checks_when_asked_and_takes_no_threshold() {
    let here = cache(false, true);
    let out = here.path().join("out.png");
    let generate =
        ["generate", "a fox", "-o", out.to_str().expect("UTF-8"), "--width", "64", "--height", "64"];
    let generate =
        [&generate[..], &["--steps", "1", "--json", "--device", "cpu", "--safety-checker", "compvis"]]
            .concat();
    let output = latentd_beside(here.path(), &generate);
    assert!(output.status.success(), "{}", complaint(&output));
    let output = latentd_beside(here.path(), &[&generate[..], &["--safety-threshold", "0.5"]].concat());
    let words = complaint(&output);
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("--safety-threshold 0.5") && words.lines().count() == 1, "{words}");
}

#[test]
fn without_the_checker_that_is_meant_nothing_starts() {
    let empty = cache(false, false);
    let (out, model) = (empty.path().join("out.png"), golden("base/model"));
    let (out, model) = (out.to_str().expect("UTF-8"), model.to_str().expect("UTF-8"));
    let data = empty.path().join("data");
    let data = data.to_str().expect("UTF-8");
    let work = ["--data-dir", data, "--log", "error", "--device", "cpu", "--model", model];
    let cases = [
        (vec!["serve", "--listen", "127.0.0.1:0"], "auto", "falconsai"),
        (vec!["worker"], "auto", "falconsai"),
        (vec!["serve", "--listen", "127.0.0.1:0", "--offline"], "compvis", "compvis"),
    ];
    let refused = |arguments: &[&str], name: &str| {
        let output = latentd_beside(empty.path(), arguments);
        let words = complaint(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {words}");
        for word in [&format!("latentd models pull {name}"), "--safety-checker none"] {
            assert!(words.contains(word), "{arguments:?}: {words}");
        }
        assert_eq!(words.lines().count(), 1, "{arguments:?}: {words}");
    };
    for (command, checker, name) in &cases {
        refused(&[&command[..], &work, &["--safety-checker", checker]].concat(), name);
    }
    let generate = generate_with_own_model(out, model);
    refused(&generate, "falconsai");
    assert!(!Path::new(out).exists());
    let output = latentd_beside(empty.path(), &[&generate[..], &["--safety-checker", "none"]].concat());
    assert!(output.status.success(), "{}", complaint(&output));
    // The built-in model has its own.
    let mini = ["generate", "a fox", "-o", out, "--width", "64", "--height", "64", "--steps", "1"];
    assert!(latentd_beside(empty.path(), &mini).status.success());
}
