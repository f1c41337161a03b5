//! The real program: `latentd serve` in a process of its own, and calls to it.

use super::http::{code, exchange};
use super::{ENDPOINT, messages, within};
use crate::databases;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The longest that a request takes on a loaded machine.
const LIMIT: Duration = Duration::from_secs(120);

/// A running `latentd serve`, which is killed when this is dropped.
pub(crate) struct Program {
    pub(crate) child: Child,
    /// Host and port, as it printed them.
    pub(crate) address: String,
}

impl Program {
    /// The command of a server with a data directory. It listens on a free port and logs warnings, but for other flags.
    pub(crate) fn command(data: &Path, flags: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_latentd"));
        command.env("LATENTD_LISTEN", "127.0.0.1:0").env("LATENTD_LOG", "warn");
        command.envs(databases::environment_of(data));
        command.args(["serve", "--data-dir"]).arg(data).args(flags);
        command
    }

    /// Starts a server and waits until it listens.
    pub(crate) fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    /// The same with more flags.
    pub(crate) fn start_with(data: &Path, flags: &[&str]) -> Self {
        Self::start_in(data, flags, &[])
    }

    /// The same with more environment variables.
    pub(crate) fn start_in(data: &Path, flags: &[&str], environment: &[(&str, &Path)]) -> Self {
        let mut command = Self::command(data, flags);
        Self::spawn(command.envs(environment.iter().copied()))
    }

    /// Runs a command that serves, and waits until it has printed where it listens.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the program");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let first = lines.next().expect("a line").expect("text");
        let address = first.split("http://").nth(1).expect("a URL").trim().to_owned();
        // What it prints later goes nowhere, but must not find the pipe closed.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    /// Kills it; returns what it logged, if its standard error is a pipe.
    pub(crate) fn kill(mut self) -> String {
        self.child.kill().expect("a process");
        self.child.wait().expect("its end");
        let mut log = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut log).expect("text");
        }
        log
    }

    /// Status code and JSON of an answer.
    pub(crate) fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let (head, body) = self.exchange(method, path, body);
        (code(&head), serde_json::from_str(&body).unwrap_or(Value::Null))
    }

    /// Head and body of an answer, as text.
    pub(crate) fn exchange(&self, method: &str, path: &str, body: &Value) -> (String, String) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (head, body) = exchange(&self.address, method, path, "", body.as_bytes());
        (head, String::from_utf8_lossy(&body).into_owned())
    }

    /// Submits an input; returns the request's path below the server.
    pub(crate) fn submit_input(&self, input: &Value) -> String {
        let (code, body) = self.call("POST", &format!("/queue/{ENDPOINT}"), input);
        assert_eq!(code, 200, "{body}");
        format!("/queue/{ENDPOINT}/requests/{}", body["request_id"].as_str().expect("an id"))
    }

    /// Submits a request of this many steps.
    pub(crate) fn submit(&self, steps: u32) -> String {
        self.submit_input(
            &json!({ "prompt": "a crash", "image_size": "square", "num_inference_steps": steps, "seed": 1 }),
        )
    }

    pub(crate) fn status(&self, request: &str) -> Value {
        self.call("GET", &format!("{request}/status?logs=1"), &Value::Null).1
    }

    /// Waits until the request has taken a step.
    pub(crate) async fn running(&self, request: &str) {
        within(LIMIT, async || {
            let status = self.status(request);
            assert_ne!(status["status"], "COMPLETED", "too late to disturb it");
            messages(&status).iter().any(|line| line.starts_with("step 2/")).then_some(())
        })
        .await;
    }

    /// Waits until a state of the request after more than so many steps is stored; returns after how many it is.
    pub(crate) async fn stored_after(&self, data: &Path, request: &str, steps: usize) -> usize {
        let id = request.rsplit('/').next().expect("an id");
        within(LIMIT, async || {
            let status = self.status(request);
            assert_ne!(status["status"], "COMPLETED", "too late to disturb it");
            databases::steps_of_state(data, id).await.filter(|stored| *stored > steps)
        })
        .await
    }

    /// Waits until the request is over; returns its status.
    pub(crate) async fn completed(&self, request: &str) -> Value {
        within(LIMIT, async || {
            let status = self.status(request);
            (status["status"] == "COMPLETED").then_some(status)
        })
        .await
    }

    /// Process ids of the workers.
    pub(crate) fn workers(&self) -> Vec<u32> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("Linux");
        let children = tasks.flatten().map(|task| std::fs::read_to_string(task.path().join("children")));
        let children = children.map(Result::unwrap_or_default).collect::<String>();
        let mut ids: Vec<u32> = children.split_whitespace().filter_map(|id| id.parse().ok()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal by its name.
pub(crate) fn signal(name: &str, process: u32) {
    let status = Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status();
    assert!(status.expect("kill").success());
}
