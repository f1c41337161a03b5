//! `latentd models convert`: files that the model generates with, and what is refused.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/golden").join(name)
}

fn latentd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_latentd")).args(arguments).output().expect("the program")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

fn convert(model: &Path, to: &str, part: &str, output: &Path) -> Output {
    let [model, output] = [model, output].map(|path| path.to_str().expect("UTF-8"));
    latentd(&["models", "convert", model, "--to", to, "--part", part, "-o", output])
}

/// The pixels that a transformer file generates with everything else from the model's directory.
fn pixels(transformer: &Path, others: &Path, folder: &Path) -> Vec<u8> {
    let image = folder.join("image.png");
    let [transformer, others, output] =
        [transformer, others, &image].map(|path| path.to_str().expect("UTF-8"));
    let mut arguments = vec!["generate", "a red fox", "--model", transformer, "--text-encoders", others];
    arguments.extend(["--width", "64", "--height", "48", "--steps", "3", "--seed", "7", "--dtype", "f32"]);
    arguments.extend(["--device", "cpu", "--safety-checker", "none", "-o", output]);
    let run = latentd(&arguments);
    assert!(run.status.success(), "{}", text(&run.stderr));
    image::open(&image).expect("an image").into_rgb8().into_raw()
}

fn mean_difference(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / a.len() as f64
}

/// The model's weights are f16, so that a GGUF file in f16 has the same values and generates the same pixels; with fewer bits
/// they drift away, step by step. The weights are random, which a step magnifies: bounds are of the kind, not of an image.
#[test]
fn a_converted_file_generates_what_the_model_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = golden("checkpoint/checkpoint.safetensors");
    let others = golden("checkpoint/beside/model");
    let original = pixels(&model, &others, folder.path());
    let mut last = 0.0;
    for (to, bound) in [("f16", 0.0), ("q8_0", 4.0), ("q4_0", 40.0)] {
        let file = folder.path().join(format!("{to}.gguf"));
        let output = convert(&model, to, "transformer", &file);
        let words = text(&output.stderr);
        assert!(output.status.success() && words.contains("tensors: "), "{words}");
        let difference = mean_difference(&original, &pixels(&file, &others, folder.path()));
        assert!(difference <= bound && difference >= last, "{to}: {difference}, before {last}");
        last = difference;
    }
    let from_directory = folder.path().join("directory.gguf");
    assert!(convert(&others, "q4_0", "transformer", &from_directory).status.success());
    let bytes = |name: &str| std::fs::read(folder.path().join(name)).expect("a file");
    assert_eq!(bytes("directory.gguf"), bytes("q4_0.gguf"), "both layouts have the same values");
}

#[test]
fn t5_and_fp8_are_recognised() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = golden("base/model");
    for (to, part, file, types) in [
        ("q5_1", "t5", "t5.gguf", &["F16", "F32", "Q5_1"][..]),
        ("fp8", "transformer", "transformer.safetensors", &["F16", "F32", "F8_E4M3"]),
    ] {
        let path = folder.path().join(file);
        let output = convert(&model, to, part, &path);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let inspected = latentd(&["models", "inspect", path.to_str().expect("UTF-8"), "--json"]);
        let inspected: Value = serde_json::from_slice(&inspected.stdout).expect("JSON");
        let found = &inspected["parts"][0];
        let name = if part == "t5" { "T5" } else { "transformer" };
        let dtypes: Vec<_> = found["dtypes"].as_object().expect("types").keys().map(String::as_str).collect();
        assert_eq!((found["name"].as_str(), &dtypes[..]), (Some(name), types), "{inspected}");
    }
}

#[test]
fn what_cannot_be_converted_is_refused_and_nothing_is_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let (model, file) = (golden("base/model"), folder.path().join("model.gguf"));
    let refused = |output: Output, words: &str| {
        let error = text(&output.stderr);
        assert!(!output.status.success() && error.contains(words), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
    };
    refused(convert(&model, "q9_0", "transformer", &file), "q9_0");
    refused(convert(&model, "fp8", "transformer", &file), "ends in .safetensors");
    refused(convert(&golden("no_t5/model"), "q8_0", "t5", &file), "text_encoder_3");
    refused(convert(&golden("sigmas.json"), "q8_0", "transformer", &file), "sigmas.json");
    std::fs::write(&file, "mine").expect("a file");
    let output = convert(&model, "q8_0", "transformer", &file);
    assert!(!output.status.success() && text(&output.stderr).contains("is there already"));
    assert_eq!(std::fs::read(&file).expect("a file"), b"mine");
}
