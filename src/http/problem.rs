//! One item of a 422: where, what and why, in the words of pydantic and of fal's error page.

use serde::Serialize;
use serde_json::{Value, json};

/// Longest piece of input that an error repeats.
const ECHO_CHARS: usize = 200;

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Problem {
    loc: Vec<String>,
    msg: String,
    #[serde(rename = "type")]
    kind: &'static str,
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ctx: Option<Value>,
    input: Value,
}

impl Problem {
    /// A problem at a path below the body.
    pub(super) fn at(path: &[&str], kind: &'static str, msg: impl Into<String>, input: &Value) -> Self {
        Self {
            loc: std::iter::once("body").chain(path.iter().copied()).map(str::to_owned).collect(),
            msg: msg.into(),
            kind,
            url: format!("https://docs.fal.ai/errors/#{kind}"),
            ctx: None,
            input: shortened(input),
        }
    }

    /// A problem that only the model saw.
    pub(super) fn of_request(message: &str) -> Self {
        Self::at(&[], "value_error", message, &Value::Null)
    }

    /// Adds what a program can read.
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.ctx = Some(json!({ name: value.into() }));
        self
    }
}

fn shortened(input: &Value) -> Value {
    match input {
        Value::String(text) => match text.char_indices().nth(ECHO_CHARS) {
            Some((at, _)) => Value::String(format!("{}…", &text[..at])),
            None => input.clone(),
        },
        Value::Array(_) | Value::Object(_) => {
            let text = input.to_string();
            if text.len() <= ECHO_CHARS { input.clone() } else { shortened(&Value::String(text)) }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => input.clone(),
    }
}
