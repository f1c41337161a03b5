//! `latentd generate`: what it does where nothing was said.

use std::path::Path;
use std::process::{Command, Stdio};

/// What the file says of itself under this name.
fn said(file: &Path, name: &str) -> String {
    let bytes = std::io::BufReader::new(std::fs::File::open(file).expect("a file"));
    let reader = png::Decoder::new(bytes).read_info().expect("a PNG");
    let text = &reader.info().utf8_text;
    let found = text.iter().find(|chunk| chunk.keyword == name).expect("it is said");
    found.get_text().expect("text")
}

/// Exit code and standard error of `latentd generate` with more flags, into a file.
fn generate(file: &Path, flags: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_latentd"));
    command
        .args(["generate", "a fox", "--steps", "1", "--safety-checker", "none"])
        .args(flags)
        .arg("-o")
        .arg(file);
    let output = command.stdin(Stdio::null()).output().expect("the program");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_size_that_cannot_be_is_refused_as_it_was_typed() {
    let folder = tempfile::tempdir().expect("a directory");
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/golden/base/model");
    let model = model.to_str().expect("a path");
    for (flags, words) in [
        (&["--model", model, "--width", "5000"][..], "--width 5000: give at most "),
        (&["--model", model, "--width", "64", "--height", "5001"], "--height 5001: give at most "),
        (&["--width", "14143"], "--width 14143: give at most 14142, the longest side of this model"),
        (&["--width", "14000", "--height", "14000"], "--width 14000 --height 14000: at most 16777216"),
        (&["--width", "0"], "--width 0: give 1 or more"),
    ] {
        let (code, told) = generate(&folder.path().join("out.png"), flags);
        assert_eq!(code, Some(2), "{told}");
        assert!(told.contains(words), "{told}");
    }
}

#[test]
fn the_built_in_model_scales_to_sizes_that_it_does_not_generate() {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("out.png");
    let flags = ["--width", "1792", "--height", "64", "--seed", "18446744073709551615"];
    let (code, told) = generate(&file, &flags);
    assert_eq!(code, Some(0), "{told}");
    assert!(
        told.contains("generated at 1536x55, the largest that this model generates, and scaled to 1792x64"),
        "{told}"
    );
    let reader = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(&file).expect("a file")));
    let reader = reader.read_info().expect("a PNG");
    assert_eq!((reader.info().width, reader.info().height), (1792, 64));
    assert_eq!((said(&file, "seed"), said(&file, "model")), ("18446744073709551615".into(), "mini".into()));
}

#[test]
fn steps_and_guidance_are_those_of_the_published_model() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/golden");
    let folder = tempfile::tempdir().expect("a directory");
    let turbo = folder.path().join("my-turbo");
    std::fs::create_dir(&turbo).expect("a directory");
    for entry in std::fs::read_dir(golden.join("base/model")).expect("a model") {
        let entry = entry.expect("a file");
        std::os::unix::fs::symlink(entry.path(), turbo.join(entry.file_name())).expect("a link");
    }
    let cases = [
        (golden.join("base/model"), "28", "3.5"),
        (turbo, "4", "1"),
        (golden.join("dual/model"), "40", "4.5"), // as Medium is built
    ];
    for (model, steps, guidance) in cases {
        let file = folder.path().join("out.png");
        let mut command = Command::new(env!("CARGO_BIN_EXE_latentd"));
        command.args(["generate", "a fox", "--width", "64", "--height", "64", "--t5-tokens", "16"]);
        command.args(["--safety-checker", "none"]).arg("--model").arg(&model).arg("-o").arg(&file);
        let output = command.stdin(Stdio::null()).output().expect("the program");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let found = (said(&file, "steps"), said(&file, "guidance"));
        assert_eq!(found, (steps.to_owned(), guidance.to_owned()), "{}", model.display());
    }
}
