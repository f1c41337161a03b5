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
