//! `latentd bundle` and `latentd unbundle`: every kind of model arrives whole, and what is interrupted leaves nothing.

use super::*;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::time::Instant;

/// The safety checker of models that have none.
pub(super) const CLASSIFIER: &str = "Falconsai/nsfw_image_detection";

/// A machine with a hub that has the tiny model and its safety checker.
pub(super) async fn connected() -> (StandIn, TempDir) {
    let classifier = Repository::of(&golden().join("../../safety/plain"));
    let repositories = [(NAME.to_owned(), tiny()), (CLASSIFIER.to_owned(), classifier)];
    (StandIn::start(repositories).await, tempfile::tempdir().expect("a directory"))
}

/// The program on a machine without a network, whose user's home this is.
pub(super) fn elsewhere(home: &Path) -> Command {
    at_home(home, env!("CARGO_BIN_EXE_latentd"))
}

fn at_home(home: &Path, program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("HOME", home).env("PATH", std::env::var_os("PATH").expect("a path"));
    command
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// The bundle of the tiny model.
pub(super) async fn bundle_of_tiny(hub: &StandIn, home: &TempDir) -> PathBuf {
    let file = home.path().join("tiny.latentd");
    let mut command = program(hub, home);
    command.args(["bundle", NAME, "-o"]).arg(&file);
    let output = output(command).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    file
}

fn unbundle(file: &Path, home: &Path) -> String {
    let output = elsewhere(home).arg("unbundle").arg(file).output().expect("the program");
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// The picture of a model, as `serve`'s flags name it, by `generate`.
fn picture(home: &Path, line: &str) -> Vec<u8> {
    let flags = line.trim().split_once("latentd serve ").expect("a command").1;
    let image = home.join("fox.png");
    let script = format!(
        "exec '{}' generate 'a fox' --steps 2 --width 48 --height 40 --seed 7 -o '{}' {flags}",
        env!("CARGO_BIN_EXE_latentd"),
        image.display()
    );
    let mut generate = at_home(home, "sh");
    generate.args(["-c", &script]).env("HF_HUB_OFFLINE", "1");
    let output = generate.output().expect("a shell");
    assert!(output.status.success(), "{script}: {}", text(&output.stderr));
    std::fs::read(image).expect("a picture")
}

/// Files below a directory that are no links, but locks.
pub(super) fn left_in(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type().expect("a type") {
            kind if kind.is_dir() => found.extend(left_in(&path)),
            _ if path.extension().is_some_and(|extension| extension == "lock") => {}
            _ => found.push(path),
        }
    }
    found
}

#[tokio::test]
async fn bundles_of_one_model_are_equal_and_can_be_unbundled_again() {
    let (hub, home) = connected().await;
    let file = bundle_of_tiny(&hub, &home).await;
    let first = std::fs::read(&file).expect("a bundle");
    let mut again = program(&hub, &home);
    again.args(["bundle", NAME, "-o"]).arg(&file);
    let refused = output(again).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("is there already: give another name"));
    std::fs::remove_file(&file).expect("a bundle");
    // What a process that was killed has left.
    std::fs::write(home.path().join("tiny.latentd.part"), vec![7; 10_000_000]).expect("a file");
    assert_eq!(std::fs::read(bundle_of_tiny(&hub, &home).await).expect("a bundle"), first);
    assert!(!home.path().join("tiny.latentd.part").exists());

    let there = tempfile::tempdir().expect("a directory");
    let cache = there.path().join(".cache/huggingface/hub");
    let staging = cache.join(".unbundle");
    std::fs::create_dir_all(&staging).expect("a directory");
    std::fs::write(staging.join("0".repeat(64)), "of a process that was killed").expect("a file");
    let line = unbundle(&file, there.path());
    assert_eq!(line, "latentd serve --model me/tiny --offline\n");
    assert!(!staging.exists());
    let snapshot = cache.join("models--me--tiny/snapshots").join(stand_in::COMMIT);
    assert!(is_whole(&snapshot));
    let blob = snapshot.join(LARGE).canonicalize().expect("a file");
    let inode = || blob.metadata().expect("a file").ino();
    let before = inode();
    unbundle(&file, there.path());
    assert_eq!(inode(), before, "what is there and whole is not written again");
    let mut damaged = std::fs::read(&blob).expect("bytes");
    damaged[1000] ^= 4;
    std::fs::write(&blob, damaged).expect("damage");
    unbundle(&file, there.path());
    assert!(is_whole(&snapshot) && inode() != before);

    // Another cache is part of the command.
    let odd = there.path().join("the cache");
    let output = elsewhere(there.path()).env("HF_HUB_CACHE", &odd).arg("unbundle").arg(&file).output();
    let line = text(&output.expect("the program").stdout);
    let expected = format!("HF_HUB_CACHE='{}' latentd serve --model me/tiny --offline\n", odd.display());
    assert_eq!(line, expected);
    // What was unbundled is a model of the hub as if it were pulled.
    let verified = elsewhere(there.path()).args(["models", "verify", NAME]).output().expect("the program");
    assert!(verified.status.success(), "{}", text(&verified.stderr));
}

#[test]
fn files_of_a_directory_and_of_a_checkpoint_arrive_too() {
    let goldens = golden().join("../..");
    let path = |name: &str| goldens.join(name).to_str().expect("UTF-8").to_owned();
    let (checkpoint, beside) = (path("checkpoint/checkpoint.safetensors"), path("checkpoint/beside/model"));
    let (directory, gguf, own) = (path("base/model"), path("gguf/model"), path("safety/plain"));
    let cases: [(&[&str], &str); 4] = [
        (&[&directory, "--safety-checker", "none"], "--model local/model --safety-checker none"),
        (&[&directory, "--safety-checker", &own], "--model local/model --safety-checker /"),
        (
            &[&checkpoint, "--text-encoders", &beside, "--safety-checker", "none"],
            "/checkpoint.safetensors --text-encoders /",
        ),
        (&[&gguf, "--safety-checker", "none"], "/snapshots/"),
    ];
    for (index, (arguments, expected)) in cases.into_iter().enumerate() {
        let place = tempfile::tempdir().expect("a directory");
        let (home, file) = (place.path().join("home"), place.path().join("model.latentd"));
        std::fs::create_dir(&home).expect("a directory");
        let bundled = elsewhere(place.path()).arg("bundle").args(arguments).arg("-o").arg(&file).output();
        let bundled = bundled.expect("the program");
        assert!(bundled.status.success(), "{index}: {}", text(&bundled.stderr));
        let line = unbundle(&file, &home);
        assert!(line.contains(expected) && line.ends_with(" --offline\n"), "{index}: {line}");
        let before = picture(place.path(), &format!("latentd serve --model {}", arguments.join(" ")));
        assert!(picture(&home, &line) == before, "{index}: another picture");
    }
}

#[tokio::test]
async fn what_cannot_be_bundled_is_refused_with_what_to_change() {
    let (hub, home) = connected().await;
    let file = home.path().join("x.latentd");
    let folder = home.path().join("no/folder/x.latentd");
    let pipe = home.path().join("model");
    std::fs::create_dir(&pipe).expect("a directory");
    for (model, file, code, words) in [
        ("mini", &file, 2, "mini is inside the program"),
        ("nothing", &file, 2, "latentd: nothing: there is no such directory or file"),
        (NAME, &folder, 2, "there is no folder"),
        ("me/other", &file, 1, "has no model me/other"),
        (pipe.to_str().expect("UTF-8"), &file, 1, "has no model_index.json"),
    ] {
        let mut command = program(&hub, &home);
        command.args(["bundle", model, "-o"]).arg(file);
        let output = output(command).await;
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{error}");
        // The pull of one that is named by its hub id is in the log.
        assert!(error.lines().last().is_some_and(|line| line.contains(words)), "{error}");
    }
    // A damaged file of the cache, small or large.
    bundle_of_tiny(&hub, &home).await;
    for path in ["vae/config.json", LARGE] {
        let snapshot = home.path().join("hub/models--me--tiny/snapshots").join(stand_in::COMMIT);
        let blob = snapshot.join(path).canonicalize().expect("a file");
        let good = std::fs::read(&blob).expect("bytes");
        let mut bytes = good.clone();
        bytes[10] ^= 1;
        std::fs::write(&blob, bytes).expect("damage");
        let mut command = program(&hub, &home);
        command.args(["bundle", NAME, "-o"]).arg(&file);
        let output = output(command).await;
        let error = text(&output.stderr);
        assert!(output.status.code() == Some(1) && error.contains("damaged"), "{error}");
        assert!(error.contains("--verify` fetches damaged files"), "{error}");
        std::fs::write(&blob, good).expect("the file");
    }
    assert!(!file.exists() && !home.path().join("x.latentd.part").exists());
}

/// A signal while gigabytes are written.
#[test]
fn a_signal_ends_a_bundle_and_leaves_nothing() {
    let place = tempfile::tempdir().expect("a directory");
    let model = place.path().join("model");
    let copied = Command::new("cp").args(["-r"]).arg(golden()).arg(&model).status().expect("cp");
    assert!(copied.success());
    std::fs::create_dir(model.join("safety_checker")).expect("a directory");
    let large = std::fs::File::create(model.join("safety_checker/model.safetensors")).expect("a file");
    large.set_len(2 << 30).expect("a sparse file");
    let part = place.path().join("x.latentd.part");
    let mut child = elsewhere(place.path())
        .arg("bundle")
        .arg(&model)
        .arg("-o")
        .arg(place.path().join("x.latentd"))
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the program");
    let started = Instant::now();
    while !part.metadata().is_ok_and(|part| part.len() > 1 << 20) {
        assert!(started.elapsed() < Duration::from_secs(120), "it writes");
        assert_eq!(child.try_wait().expect("a process"), None);
        std::thread::sleep(Duration::from_millis(5));
    }
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    assert!(killed.success());
    let output = child.wait_with_output().expect("the program");
    assert_eq!((output.status.code(), output.status.signal()), (Some(1), None));
    assert!(text(&output.stderr).contains("stopped by a signal"), "{}", text(&output.stderr));
    assert!(!part.exists() && !place.path().join("x.latentd").exists());
}
