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
