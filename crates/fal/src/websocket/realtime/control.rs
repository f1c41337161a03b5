//! Control messages, as fal's clients know them.

use crate::output::error::ApiError;
use axum::http::StatusCode;
use serde_json::{Value, json};

/// Makes a client ask for a new token, and connect again with its next input.
pub(crate) fn unauthorized() -> String {
    json!({ "status": "error", "error": "Unauthorized" }).to_string()
}

/// Nothing was asked for a while; the JavaScript client connects again with its next input.
pub(crate) fn timeout() -> String {
    error("TIMEOUT", "no inputs, reconnect when needed!").to_string()
}

fn error(word: &str, reason: &str) -> Value {
    json!({ "type": "x-fal-error", "error": word, "reason": reason })
}

/// Why an input has no result: the answer it would have had over HTTP.
pub(crate) struct Refusal {
    status: StatusCode,
    body: Value,
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        let (status, _, body) = error.answer();
        Self { status, body }
    }
}

impl Refusal {
    pub(crate) fn of((status, body): (StatusCode, Value)) -> Self {
        Self { status, body }
    }

    /// The same as a control message about the input of this name.
    pub(crate) fn message(self, request_id: Option<String>) -> String {
        let class = self.body["error_type"].as_str().map(str::to_uppercase);
        let class = class.unwrap_or_else(|| match self.status {
            StatusCode::UNPROCESSABLE_ENTITY => "INVALID_INPUT".into(),
            _ => "BAD_REQUEST".into(),
        });
        let mut message = error(&class, &words(&self.body["detail"]));
        if self.body["detail"].is_array() {
            message["detail"] = self.body["detail"].clone();
        }
        if let Some(id) = request_id {
            message["request_id"] = id.into();
        }
        message.to_string()
    }
}

/// A detail in one line.
fn words(detail: &Value) -> String {
    let Value::Array(problems) = detail else {
        return detail.as_str().map_or_else(|| detail.to_string(), str::to_owned);
    };
    let one = |problem: &Value| {
        let path = problem["loc"].as_array().into_iter().flatten().skip(1);
        let path: Vec<&str> = path.filter_map(Value::as_str).collect();
        let text = problem["msg"].as_str().unwrap_or_default();
        if path.is_empty() { text.to_owned() } else { format!("{}: {text}", path.join(".")) }
    };
    problems.iter().map(one).collect::<Vec<_>>().join("; ")
}
