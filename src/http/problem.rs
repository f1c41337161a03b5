//! The bodies of errors: one line, or the items of a 422: where, what and why, in the words of pydantic and of fal's
//! error page.

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

/// Longest piece of input that an error repeats.
const ECHO_CHARS: usize = 200;

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct Problem {
    /// Where: `body`, then the way to the field.
    loc: Vec<String>,
    /// What to change.
    msg: String,
    /// The class of the problem.
    #[serde(rename = "type")]
    #[schema(example = "less_than_equal")]
    kind: &'static str,
    /// What fal says about this class.
    url: String,
    /// The limit that was passed, under its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    ctx: Option<Value>,
    /// What was sent; the beginning, if it is long.
    input: Value,
}

/// The body of a 422.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Problems {
    /// Everything that is wrong.
    pub(super) detail: Vec<Problem>,
}

/// The body of every other error.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct Refusal {
    /// `NOT_FOUND` where there is no such request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) status: Option<&'static str>,
    /// What is wrong, and what to change.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) detail: Option<String>,
    /// The class of the error, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) error_type: Option<&'static str>,
}

impl Problem {
    /// A problem with a header.
    pub(super) fn in_header(name: &str, kind: &'static str, msg: impl Into<String>) -> Self {
        let problem = Self::at(&[], kind, msg, &Value::Null);
        Self { loc: vec!["header".to_owned(), name.to_owned()], ..problem }
    }

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
        self.ctx.get_or_insert_with(|| json!({}))[name] = value.into();
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
