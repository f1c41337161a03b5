//! A checkpoint file on the command line: looked at, generated with, refused.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/golden/checkpoint").join(name)
}

fn latentd(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_latentd"));
    command
        .args(arguments)
        .args(["--log", "info"])
        .env_remove("LATENTD_TEXT_ENCODERS")
        .output()
        .expect("the program")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

fn inspected(path: &Path) -> Value {
    let output = latentd(&["models", "inspect", path.to_str().expect("UTF-8"), "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().expect("parts").iter().map(|part| part["name"].as_str().expect("a name")).collect()
}

/// Both layouts of one model have the same parameters, but for what is one tensor in the one and three in the other.
#[test]
fn inspect_tells_the_same_of_both_layouts() {
    let checkpoint = inspected(&golden("checkpoint.safetensors"));
    let directory = inspected(&golden("beside/model"));
    assert_eq!((&checkpoint["layout"], &directory["layout"]), (&"original".into(), &"diffusers".into()));
    assert_eq!((&checkpoint["runs"], &directory["runs"]), (&false.into(), &true.into()));
    assert_eq!(checkpoint["what"], directory["what"]);
    assert_eq!(names(&checkpoint["parts"]), ["transformer", "VAE"]);
    assert_eq!(names(&directory["parts"]), ["transformer", "VAE", "CLIP-L", "CLIP-G", "T5"]);
    for index in 0..2 {
        let (ours, theirs) = (&checkpoint["parts"][index], &directory["parts"][index]);
        for key in ["parameters", "bytes", "dtypes"] {
            assert_eq!(ours[key], theirs[key], "{key}");
        }
    }
    assert_eq!(checkpoint["parts"][1]["tensors"], directory["parts"][1]["tensors"]);
    let missing = checkpoint["missing"].as_array().expect("what is missing");
    let required: Vec<_> = missing.iter().map(|missing| missing["required"] == true).collect();
    assert_eq!(required, [true, true, false]);
}

#[test]
fn inspect_is_a_table_for_people() {
    let path = golden("checkpoint.safetensors");
    let output = latentd(&["models", "inspect", path.to_str().expect("UTF-8")]);
    let table = text(&output.stdout);
    for words in [
        "is a model like Stable Diffusion 3.5 (3 blocks, 32 wide)",
        "transformer",
        "F16",
        "missing: no CLIP-L",
    ] {
        assert!(table.contains(words), "{table}");
    }
    assert!(table.contains("optional: no T5"), "{table}");
}

#[test]
fn inspect_names_what_is_no_model() {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("model.safetensors");
    std::fs::write(&file, b"\x80\x02}q\x00.").expect("a file");
    let output = latentd(&["models", "inspect", file.to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(1));
    let words = text(&output.stderr);
    assert!(words.starts_with("latentd: ") && words.contains("is a pickle"), "{words}");
    assert_eq!(inspected(&golden("encoders.safetensors"))["runs"], false);
}

#[test]
fn generate_generates_with_encoders_from_a_directory() {
    let folder = tempfile::tempdir().expect("a directory");
    let image = folder.path().join("fox.png");
    let (model, encoders) = (golden("checkpoint.safetensors"), golden("beside/model"));
    let [model, encoders, image] = [&model, &encoders, &image].map(|path| path.to_str().expect("UTF-8"));
    let work =
        ["--width", "48", "--height", "40", "--steps", "2", "--device", "cpu", "--safety-checker", "none"];
    let arguments = [&["generate", "a fox", "-o", image, "--model", model][..], &work].concat();
    let without = latentd(&arguments);
    assert_eq!(without.status.code(), Some(1));
    let words = text(&without.stderr);
    assert!(words.contains("has no CLIP-L and no CLIP-G inside: give --text-encoders DIR"), "{words}");
    let with = latentd(&[&arguments[..], &["--text-encoders", encoders]].concat());
    assert!(with.status.success() && Path::new(image).is_file(), "{}", text(&with.stderr));
    let nowhere = latentd(&[&arguments[..], &["--text-encoders", "no/such/folder"]].concat());
    assert_eq!(nowhere.status.code(), Some(2), "{}", text(&nowhere.stderr));
}
