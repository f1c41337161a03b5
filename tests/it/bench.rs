//! `latentd bench` as a program: its JSON, its refusals, and a load on a real server.

use crate::support::Program;
use serde_json::{Value, json};
use std::process::{Command, Output, Stdio};

/// What every engine's report has, in this order, and what latentd adds.
const SHARED: [&str; 18] = [
    "bench",
    "engine",
    "gpu",
    "driver",
    "model",
    "width",
    "height",
    "steps",
    "cfg",
    "batch",
    "precision",
    "denoise_s",
    "step_ms",
    "tflops",
    "gemm_peak_tflops",
    "peak_mem_bytes",
    "commit",
    "date",
];
const OURS: [&str; 13] = [
    "memory_mode",
    "command",
    "weights",
    "parameters",
    "text_tokens",
    "tflop_per_run",
    "load_s",
    "warmup",
    "first_s",
    "runs_s",
    "step_histogram",
    "two_streams",
    "machine",
];

fn bench(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_latentd"));
    command.arg("bench").args(arguments).stdin(Stdio::null()).output().expect("the program")
}

fn json_of(arguments: &[&str]) -> Value {
    let output = bench(&[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON and nothing else")
}

fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    (text(&output.stdout), text(&output.stderr))
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

fn sorted<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names: Vec<_> = names.into_iter().collect();
    names.sort_unstable();
    names
}

const SMALL: [&str; 10] =
    ["--width", "128", "--height", "64", "--steps", "3", "--runs", "2", "--dtype", "f32"];

#[test]
fn denoise_reports_what_it_promises() {
    let report = json_of(&[&["denoise"], &SMALL[..]].concat());
    assert_eq!(sorted(keys(&report)), sorted(SHARED.into_iter().chain(OURS)));
    assert_eq!(sorted(keys(&report["denoise_s"])), sorted(["median", "min", "max", "n"]));
    for percentile in ["p50", "p99"] {
        assert!(report["step_ms"][percentile].as_f64() > Some(0.0), "{report}");
    }
    let fixed = json!({ "bench": "denoise", "engine": "latentd", "model": "mini", "width": 128, "height": 64,
        "steps": 3, "cfg": 4.5, "batch": 1, "precision": "f32", "text_tokens": 333, "gpu": null,
        "two_streams": false });
    for (name, value) in fixed.as_object().expect("an object") {
        assert_eq!(&report[name], value, "{name}");
    }
    assert_eq!(report["denoise_s"]["n"], 2);
    assert_eq!(report["step_ms"]["n"], 6);
    let (work, time) = (report["tflop_per_run"].as_f64(), report["denoise_s"]["median"].as_f64());
    let rate = work.expect("a number") / time.expect("a number");
    assert!((report["tflops"].as_f64().expect("a number") / rate - 1.0).abs() < 1e-9);
    assert!(report["gemm_peak_tflops"].as_f64() > Some(0.0));
    assert!(report["date"].as_str().is_some_and(|date| date.len() == 10));
}

#[test]
fn denoise_prints_a_table_and_writes_a_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("run.json");
    let path = file.to_str().expect("text");
    let output = bench(&[&["denoise", "--json", path], &SMALL[..]].concat());
    let (table, complaints) = text(&output);
    assert!(output.status.success(), "{complaints}");
    for word in ["mini in f32", "128x64, 3 steps", "TFLOP/s", "p99", "memory", "% of"] {
        assert!(table.contains(word), "{word}: {table}");
    }
    let written: Value = serde_json::from_slice(&std::fs::read(&file).expect("a file")).expect("JSON");
    assert_eq!(written["bench"], "denoise");
}

/// The middle one of three steps is left out, and counted so.
#[test]
fn shortcuts_are_named_and_measured() {
    let exact = json_of(&[&["denoise"], &SMALL[..]].concat());
    let cached = json_of(&[&["denoise", "--first-block-cache", "100"], &SMALL[..]].concat());
    let shortcuts = &cached["shortcuts"];
    assert_eq!(shortcuts["first_block_cache_reused_steps"], 1, "{shortcuts}");
    assert_eq!((&shortcuts["guidance_interval"], &exact["shortcuts"]), (&Value::Null, &Value::Null));
    assert!(shortcuts["relative_error"].as_f64() > Some(0.0), "{shortcuts}");
    let share = |report: &Value| report["tflop_per_run"].as_f64().expect("a number");
    assert!((share(&cached) * 3.0 / share(&exact) - 2.0).abs() < 1e-9, "{cached}");

    let unguided = json_of(&[&["pipeline", "--guidance-interval", "0,0.99"], &SMALL[..]].concat());
    assert_eq!(unguided["shortcuts"]["unguided_steps"], 1, "{unguided}");
    let table = bench(&[&["denoise", "--guidance-interval", "0,0.99"], &SMALL[..]].concat());
    let (table, complaints) = text(&table);
    for words in ["0 < sigma <= 0.99: 1 steps", "of the exact loop's latents"] {
        assert!(table.contains(words), "{words}: {table}{complaints}");
    }
}

#[test]
fn a_profile_splits_a_step() {
    let report = json_of(&[&["denoise", "--profile"], &SMALL[..]].concat());
    let ops = report["profile"]["ops"].as_array().expect("a list");
    let share: f64 = ops.iter().filter_map(|op| op["share"].as_f64()).sum();
    assert!((share - 1.0).abs() < 1e-6, "{report}");
    for word in ["linear", "attention"] {
        assert!(
            ops.iter().any(|op| op["op"].as_str().is_some_and(|op| op.starts_with(word))),
            "{word}: {report}"
        );
    }
}

/// Real widths without real weights; two blocks, so that it fits into a test.
#[test]
fn denoise_needs_no_files() {
    let synthetic = ["denoise", "--synthetic", "medium", "--blocks", "1"];
    let report = json_of(&[&synthetic, &SMALL[..]].concat());
    assert_eq!(
        (&report["model"], &report["weights"]),
        (&json!("sd3.5-medium (1 blocks)"), &json!("synthetic"))
    );
    assert!(report["parameters"].as_u64() > Some(200_000_000), "{report}");
}

#[test]
fn pipeline_times_every_stage() {
    let report = json_of(&[&["pipeline"], &SMALL[..]].concat());
    assert_eq!(report["memory_mode"], "resident");
    for stage in ["text_s", "denoise_s", "decode_s", "png_s", "jpeg_s", "total_s"] {
        assert!(report[stage]["median"].as_f64() > Some(0.0), "{stage}: {report}");
        assert_eq!(report[stage]["n"], 2, "{stage}");
    }
}

#[test]
fn wrong_flags_are_refused_as_everywhere() {
    let refusals: [(&[&str], &str); 11] = [
        (&["denoise", "--guidance-interval", "0.9,0.1"], "--guidance-interval 0.9,0.1: give"),
        (&["pipeline", "--first-block-cache", "-1"], "--first-block-cache -1: give"),
        (&["denoise", "--width", "65"], "multiple of 64"),
        (&["denoise", "--runs", "0"], "--runs 0"),
        (&["denoise", "--steps", "0"], "steps"),
        (&["denoise", "--precision", "int3"], "int3"),
        (&["denoise", "--synthetic", "sd9"], "--synthetic sd9"),
        (&["denoise", "--synthetic", "large", "--blocks", "39"], "1 to 38"),
        (&["load", "--url", "ftp://x"], "--url ftp://x"),
        (&["load", "--input", "[1]"], "--input"),
        (&["load", "--rate", "0"], "--rate 0"),
    ];
    for (arguments, word) in refusals {
        let output = bench(arguments);
        let (_, complaint) = text(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {complaint}");
        assert!(complaint.contains(word), "{arguments:?}: {complaint}");
    }
}

#[test]
fn load_runs_against_a_real_server() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Program::start(directory.path());
    let url = format!("http://{}", server.address);
    let input = r#"{"prompt":"a fox","image_size":{"width":32,"height":16},"num_inference_steps":1}"#;
    let load = |more: &[&str]| {
        json_of(&[&["load", "--url", &url, "--input", input, "--poll-ms", "20"], more].concat())
    };

    let closed = load(&["--clients", "3", "--requests", "12"]);
    assert_eq!((&closed["loop"], &closed["errors"]), (&json!("closed"), &json!({})), "{closed}");
    for latency in ["submit_ms", "total_ms"] {
        assert_eq!(closed[latency]["n"], 12, "{closed}");
        assert!(closed[latency]["p50"].as_f64() <= closed[latency]["max"].as_f64());
    }
    assert!(closed["submit_ms"]["p50"].as_f64() < closed["total_ms"]["p50"].as_f64(), "{closed}");

    let open = load(&["--rate", "20", "--duration", "0.5", "--submit-only"]);
    assert_eq!(
        (&open["loop"], &open["requests"], &open["total_ms"]),
        (&json!("open"), &json!(10), &json!(null))
    );
    assert_eq!(open["submit_ms"]["n"], 10, "{open}");

    let crowded = load(&["--waiting", "5", "--rate", "20", "--duration", "1", "--submit-only"]);
    assert_eq!((&crowded["errors"], &crowded["submit_ms"]["n"]), (&json!({}), &json!(20)), "{crowded}");
    let waiting = &crowded["waiting"];
    assert_eq!((&waiting["clients"], &waiting["failed"]), (&json!(5), &json!(0)), "{crowded}");
    // Five clients look fifty times in that second if nothing else keeps the processors busy.
    assert!(waiting["status_ms"]["n"].as_u64() >= Some(5), "{crowded}");

    // An input that the model refuses is accepted, as on fal, and fails.
    let refused = bench(&["load", "--url", &url, "--input", "{}", "--requests", "2", "--json"]);
    let report: Value = serde_json::from_slice(&refused.stdout).expect("JSON");
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(report["errors"].as_object().expect("an object").values().collect::<Vec<_>>(), [&json!(2)]);
}

#[test]
fn load_without_a_server_says_so() {
    let output = bench(&["load", "--url", "http://127.0.0.1:9", "--requests", "1"]);
    let (_, complaint) = text(&output);
    assert_eq!((output.status.code(), complaint.contains("no connection")), (Some(1), true), "{complaint}");
}

#[test]
fn measurements_are_compared_and_shown_on_a_page() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let (a, b, other) = (path("a.json"), path("b.json"), path("other.json"));
    for (file, steps) in [(&a, "2"), (&b, "2"), (&other, "1")] {
        let flags = ["--width", "64", "--height", "64", "--runs", "1", "--steps", steps, "--json", file];
        let measured = bench(&[&["denoise"], &flags[..]].concat());
        assert!(measured.status.success(), "{}", text(&measured).1);
    }
    let svg = path("chart.svg");
    let (table, errors) = text(&bench(&["compare", &a, &b, "--svg", &svg]));
    assert!(table.contains("denoise, mini, 64x64, steps 2") && table.contains("1.00x"), "{table}{errors}");
    assert_eq!(table.lines().filter(|line| line.contains('#')).count(), 2, "a bar each: {table}");
    assert!(std::fs::read_to_string(&svg).expect("a chart").starts_with("<svg"));

    let unlike = bench(&["compare", &a, &other]);
    assert_eq!(unlike.status.code(), Some(1));
    let words = format!("steps is 2 in {a} and 1 in {other}");
    assert!(text(&unlike).1.contains(&words), "{}", text(&unlike).1);

    let page = path("page.html");
    let report = bench(&["report", &a, &b, &other, "--output", &page]);
    assert!(report.status.success(), "{}", text(&report).1);
    let html = std::fs::read_to_string(&page).expect("a page");
    assert_eq!(html.matches("<h2>").count(), 2, "two kinds of work");
    assert!(html.contains("bench denoise --width 64"), "the command that measured");
    let measured: Value = serde_json::from_slice(&std::fs::read(&a).expect("a file")).expect("JSON");
    assert!(measured["machine"]["cpu"].is_string(), "the processor: {measured}");

    let missing = bench(&["compare", &path("none.json")]);
    assert!(!missing.status.success() && text(&missing).1.contains("none.json"), "{}", text(&missing).1);
}
