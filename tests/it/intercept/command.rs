//! `latentd serve --intercept` and `latentd env`, the real program.

use crate::support::Program;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Variables that change what `latentd env` prints.
const ENVIRONMENT: [&str; 4] = ["NODE_OPTIONS", "PYTHONPATH", "NO_PROXY", "no_proxy"];

fn latentd(arguments: &[&str], data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_latentd"));
    command.args(arguments).arg("--data-dir").arg(data).stdin(Stdio::null());
    for name in ENVIRONMENT {
        command.env_remove(name);
    }
    command
}

/// A running `latentd serve --intercept` without workers.
pub(super) fn serve(data: &Path, more: &[&str]) -> Program {
    let flags = ["--workers", "0", "--intercept", "127.0.0.1:0"];
    Program::start_with(data, &[&flags, more].concat())
}

/// What a shell has under a name after it evaluated `latentd env`.
fn in_a_shell(data: &Path, name: &str) -> String {
    let script = format!(r#"eval "$("$0" env --data-dir "$1")" && printf %s "${name}""#);
    let output = Command::new("sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_latentd")])
        .arg(data)
        .env("NODE_OPTIONS", "--no-warnings")
        .env("PYTHONPATH", "/of/mine")
        .env("NO_PROXY", "*,corp.example")
        .env("FAL_KEY", "from:before")
        .output()
        .expect("a shell");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

pub(super) fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_shell_gets_everything_that_programs_need() {
    let root = tempfile::tempdir().expect("a directory");
    let data = root.path().join("it's here");
    let nothing = latentd(&["env"], &data).output().expect("the program");
    assert_eq!(nothing.status.code(), Some(1));
    assert!(error(&nothing).contains("serve --intercept") && !data.exists(), "{nothing:?}");

    let program = serve(&data, &[]);
    let proxy = in_a_shell(&data, "HTTPS_PROXY");
    assert!(proxy.starts_with("http://127.0.0.1:"), "{proxy}");
    let folder = data.join("intercept");
    let file = |name: &str| folder.join(name).to_str().expect("UTF-8").to_owned();
    assert_eq!(in_a_shell(&data, "https_proxy"), proxy);
    assert_eq!(in_a_shell(&data, "SSL_CERT_FILE"), file("bundle.pem"));
    assert_eq!(in_a_shell(&data, "REQUESTS_CA_BUNDLE"), file("bundle.pem"));
    assert_eq!(in_a_shell(&data, "NODE_EXTRA_CA_CERTS"), file("ca.pem"));
    assert_eq!(
        in_a_shell(&data, "NODE_OPTIONS"),
        format!(r#"--no-warnings --require "{}""#, file("preload.cjs"))
    );
    assert_eq!(in_a_shell(&data, "PYTHONPATH"), format!("{}:/of/mine", file("python")));
    assert_eq!(in_a_shell(&data, "NO_PROXY"), "localhost,127.0.0.1,corp.example");
    assert_eq!(in_a_shell(&data, "FAL_KEY"), "local:key");
    let running = latentd(&["env"], &data).output().expect("the program");
    assert_eq!(error(&running), "");

    drop(program);
    let stopped = latentd(&["env"], &data).output().expect("the program");
    assert!(stopped.status.success() && error(&stopped).contains("nothing listens"), "{stopped:?}");
}

#[test]
fn a_key_is_asked_for_and_never_made_up() {
    let given = tempfile::tempdir().expect("a directory");
    let made = tempfile::tempdir().expect("a directory");
    let key = latentd(&["keys", "create"], made.path()).output().expect("the program");
    assert!(key.status.success());
    let _programs = [serve(given.path(), &["--api-key", "a:b"]), serve(made.path(), &[])];
    for data in [given.path(), made.path()] {
        assert_eq!(in_a_shell(data, "FAL_KEY"), "from:before", "what was there stays");
        let output = latentd(&["env"], data).output().expect("the program");
        assert!(error(&output).contains("latentd keys create"), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("# FAL_KEY:"), "{output:?}");
    }
}

#[test]
fn wrong_flags_are_refused() {
    let data = tempfile::tempdir().expect("a directory");
    let cases: [(&[&str], &str); 5] = [
        (&["--intercept", "0.0.0.0:8443"], "127.0.0.1:8443"),
        (&["--intercept", "[::]:1"], "this machine only"),
        (&["--intercept-tunnel"], "give --intercept too"),
        (&["--intercept", "--intercept-tunnel-allow", "10.0.0.0/8"], "give --intercept-tunnel too"),
        (&["--intercept", "--intercept-tunnel", "--intercept-tunnel-allow", "a b"], "host name"),
    ];
    for (flags, words) in cases {
        let output = latentd(&[&["serve"], flags].concat(), data.path()).output().expect("the program");
        assert_eq!(output.status.code(), Some(2), "{flags:?} {output:?}");
        assert!(error(&output).contains(words), "{flags:?} {output:?}");
    }
    assert_eq!(std::fs::read_dir(data.path()).expect("the directory").count(), 0, "nothing is made");
}
