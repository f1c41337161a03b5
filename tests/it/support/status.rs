//! Reading a request's status.

use serde_json::Value;

/// The messages of a status that was asked for with its logs.
pub(crate) fn messages(status: &Value) -> Vec<String> {
    let logs = status["logs"].as_array().expect("logs is always a list");
    logs.iter().map(|log| log["message"].as_str().expect("text").to_owned()).collect()
}

/// How many attempts have reached the engine, by the log.
pub(crate) fn attempts(status: &Value) -> usize {
    messages(status).iter().filter(|line| line.starts_with("encoding prompt")).count()
}

/// The steps that an attempt has reported, by the log; the first attempt is number 1.
pub(crate) fn steps_of_attempt(status: &Value, attempt: usize) -> Vec<usize> {
    let lines = messages(status);
    let of_attempt = lines.split(|line| line.starts_with("encoding prompt")).nth(attempt);
    let number = |line: &String| line.strip_prefix("step ")?.split_once('/')?.0.parse().ok();
    of_attempt.unwrap_or_default().iter().filter_map(number).collect()
}
