//! `latentd run`, the real program: it becomes the program that it runs, leaves nothing behind, and says what is in its
//! way. What programs reach is tested by tests/clients/isolated.

use super::command::{error, serve};
use crate::support::eventually;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// `latentd run` without variables that would change how a program connects.
fn run(data: &Path, program: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_latentd"));
    command.args(["run", "--data-dir"]).arg(data).arg("--").args(program);
    command.stdin(Stdio::null());
    for name in ["NODE_OPTIONS", "PYTHONPATH", "NO_PROXY", "no_proxy", "FAL_KEY", "JAVA_TOOL_OPTIONS"] {
        command.env_remove(name);
    }
    command
}

fn output(data: &Path, program: &[&str]) -> Output {
    run(data, program).output().expect("the program")
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// The relays of a data directory that run.
fn relays(data: &Path) -> usize {
    let directory = data.to_str().expect("UTF-8").as_bytes();
    let is_relay = |process: &Path| {
        let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split(|byte| *byte == 0).collect();
        words.contains(&&b"relay"[..]) && words.contains(&directory)
    };
    let processes = std::fs::read_dir("/proc").expect("processes");
    processes.filter(|process| process.as_ref().is_ok_and(|process| is_relay(&process.path()))).count()
}

#[test]
fn a_server_that_is_not_there_is_missed() {
    let data = tempfile::tempdir().expect("a directory");
    let never = output(data.path(), &["true"]);
    assert_eq!(never.status.code(), Some(1), "{never:?}");
    assert!(error(&never).contains("start `latentd serve --intercept`"), "{never:?}");
    drop(serve(data.path(), &[]));
    let stopped = output(data.path(), &["true"]);
    assert_eq!(stopped.status.code(), Some(1), "{stopped:?}");
    assert!(error(&stopped).starts_with("latentd: no server listens on 127.0.0.1:"), "{stopped:?}");
    assert_eq!(error(&stopped).lines().count(), 1, "{stopped:?}");
    let nothing = Command::new(env!("CARGO_BIN_EXE_latentd")).arg("run").output().expect("the program");
    assert_eq!(nothing.status.code(), Some(2), "{nothing:?}");
}

#[test]
fn the_process_becomes_the_program() {
    let data = tempfile::tempdir().expect("a directory");
    let _server = serve(data.path(), &[]);
    assert_eq!(output(data.path(), &["sh", "-c", "exit 7"]).status.code(), Some(7));
    let killed = output(data.path(), &["sh", "-c", "kill -TERM $$"]);
    assert_eq!(killed.status.signal(), Some(15), "{killed:?}");
    let in_a_shell = format!(
        "'{}' run --data-dir '{}' -- sh -c 'kill -KILL $$'; echo $?",
        env!("CARGO_BIN_EXE_latentd"),
        data.path().display()
    );
    let said = Command::new("sh").args(["-c", &in_a_shell]).output().expect("a shell");
    assert_eq!(text(&said), "137\n");

    let missing = output(data.path(), &["no-such-program"]);
    assert_eq!(missing.status.code(), Some(127), "{missing:?}");
    assert!(error(&missing).starts_with("latentd: no-such-program: "), "{missing:?}");
    assert_eq!(output(data.path(), &["/etc/hosts"]).status.code(), Some(126));

    let mut child =
        run(data.path(), &["sh", "-c", "echo $$; cat; ls /sys >/dev/null; jobs -p; echo all >&2"]);
    let child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().expect("the program");
    let id = child.id();
    child.stdin.take().expect("its input").write_all(b"from outside\n").expect("a pipe");
    let ended = child.wait_with_output().expect("its output");
    assert_eq!(text(&ended), format!("{id}\nfrom outside\n"));
    assert_eq!(error(&ended), "all\n");
}

#[test]
fn arguments_and_environment_are_the_programs_own() {
    let data = tempfile::tempdir().expect("a directory");
    let _server = serve(data.path(), &[]);
    assert_eq!(
        text(&output(data.path(), &["printf", "%s|", "--help", "-v", "--", "a b"])),
        "--help|-v|--|a b|"
    );
    let variable = |name: &str| text(&output(data.path(), &["sh", "-c", &format!("printf %s \"${name}\"")]));
    let file = |name: &str| data.path().join("intercept").join(name).to_str().expect("UTF-8").to_owned();
    for name in ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"] {
        assert_eq!(variable(name), file("bundle.pem"), "{name}");
    }
    assert_eq!(variable("NODE_EXTRA_CA_CERTS"), file("ca.pem"));
    assert_eq!(
        variable("JAVA_TOOL_OPTIONS"),
        format!("-Djavax.net.ssl.trustStore={}", file("truststore.jks"))
    );
    assert_eq!(variable("FAL_KEY"), "local:key");
    let own = run(data.path(), &["sh", "-c", "echo $FAL_KEY $https_proxy ${NO_PROXY-none}"])
        .env("FAL_KEY", "of:mine")
        .env("https_proxy", "http://proxy.example:3128")
        .output();
    assert_eq!(text(&own.expect("the program")), "of:mine none\n");
}

#[test]
fn a_server_with_keys_asks_for_one() {
    let data = tempfile::tempdir().expect("a directory");
    let _server = serve(data.path(), &["--api-key", "a:b"]);
    let without = output(data.path(), &["sh", "-c", "echo ${FAL_KEY-none}"]);
    assert_eq!(text(&without), "none\n");
    assert!(error(&without).contains("latentd keys create"), "{without:?}");
    let with = run(data.path(), &["true"]).env("FAL_KEY", "a:b").output().expect("the program");
    assert_eq!((with.status.code(), error(&with).as_str()), (Some(0), ""));
}

#[tokio::test]
async fn the_relay_ends_with_the_last_process_inside() {
    let data = tempfile::tempdir().expect("a directory");
    let _server = serve(data.path(), &[]);
    let output = output(data.path(), &["sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!"]);
    let left_behind = text(&output);
    assert_eq!(relays(data.path()), 1, "what the program left behind still needs it");
    let killed = Command::new("kill").arg(left_behind.trim()).status().expect("kill");
    assert!(killed.success());
    eventually(async || (relays(data.path()) == 0).then_some(())).await;
}

#[test]
fn nothing_inside_shows_outside() {
    let data = tempfile::tempdir().expect("a directory");
    let _server = serve(data.path(), &[]);
    let looks = ["cat", "/etc/resolv.conf", "/etc/hosts", "/proc/net/dev", "/proc/net/route"];
    let inside = text(&output(data.path(), &looks));
    assert!(
        inside.starts_with("nameserver 127.0.0.1\n") && inside.contains("127.0.0.1 localhost"),
        "{inside}"
    );
    let interfaces = inside.lines().filter(|line| line.contains(": ")).count();
    assert_eq!(interfaces, 1, "the loopback interface alone: {inside}");
    let before = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    assert!(!before.contains(data.path().to_str().expect("UTF-8")), "{before}");
    let place = data.path().join("intercept/inside");
    assert_eq!(std::fs::read_dir(place).expect("the directory").count(), 0);
}

#[test]
fn a_kernel_that_refuses_is_named_with_what_to_change() {
    let script = r#"echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all --inh-caps=-all "$0" run --check"#;
    let refused = Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c", script, env!("CARGO_BIN_EXE_latentd")])
        .output()
        .expect("unshare");
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(error(&refused).contains("sudo sysctl user.max_user_namespaces=10000"), "{refused:?}");
    assert_eq!(error(&refused).lines().count(), 1, "{refused:?}");
    let allowed = Command::new(env!("CARGO_BIN_EXE_latentd")).args(["run", "--check"]).output();
    let allowed = allowed.expect("the program");
    assert!(allowed.status.success(), "{allowed:?}");
}
