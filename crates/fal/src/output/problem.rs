//! The bodies of errors: one line, or the items of a 422: where, what and why, in the words of pydantic and of fal's
//! error page.

use serde::Serialize;
use serde_json::{Map, Value, json};
use std::fmt;
use std::io;
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{AnyOfBuilder, Array, ArrayBuilder, ObjectBuilder, Type};

/// Longest piece of input that an error repeats.
const ECHO_CHARS: usize = 200;

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// Where: `body`, then the way to the field. Items of lists are numbers, from 0.
    #[schema(schema_with = loc_schema)]
    loc: Vec<Step>,
    /// What to change.
    msg: String,
    /// The class of the problem.
    #[serde(rename = "type")]
    #[schema(example = "less_than_equal")]
    kind: &'static str,
    /// fal's page about this class.
    url: String,
    /// The limit that was passed, under its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    ctx: Option<Value>,
    /// What was sent; the beginning, if it is long.
    input: Value,
}

/// A step on the way to a field.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Step {
    /// Into a field.
    Field(String),
    /// To an item of a list.
    Item(usize),
}

impl From<&str> for Step {
    fn from(name: &str) -> Self {
        Self::Field(name.to_owned())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => out.write_str(name),
            Self::Item(index) => write!(out, "{index}"),
        }
    }
}

fn loc_schema() -> Array {
    let of_type = |kind| ObjectBuilder::new().schema_type(kind);
    let step = AnyOfBuilder::new().item(of_type(Type::String)).item(of_type(Type::Integer).minimum(Some(0)));
    ArrayBuilder::new().items(RefOr::T(step.build().into())).build()
}

/// The body of a 422.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problems {
    /// Everything that is wrong.
    pub(crate) detail: Vec<Problem>,
}

/// The body of every other error.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct Refusal {
    /// `NOT_FOUND` where there is no such request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) status: Option<&'static str>,
    /// What is wrong, and what to change.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) detail: Option<String>,
    /// The class of the error, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) error_type: Option<&'static str>,
}

impl Problem {
    /// A problem with a header.
    pub(crate) fn in_header(name: &str, kind: &'static str, msg: impl Into<String>) -> Self {
        let problem = Self::at(&[], kind, msg, &Value::Null);
        Self { loc: vec!["header".into(), name.into()], ..problem }
    }

    /// A problem at a path below the body.
    pub(crate) fn at(path: &[&str], kind: &'static str, msg: impl Into<String>, input: &Value) -> Self {
        Self {
            loc: std::iter::once("body").chain(path.iter().copied()).map(Step::from).collect(),
            msg: msg.into(),
            kind,
            url: format!("https://docs.fal.ai/errors/#{kind}"),
            ctx: None,
            input: shortened(input),
        }
    }

    /// A field that must be there and is not, in the object that was sent.
    pub(crate) fn missing(name: &str, object: &Map<String, Value>) -> Self {
        let problem = Self::at(&[name], "missing", "Field required", &Value::Null);
        Self { input: beginning(object), ..problem }
    }

    /// The same problem, at the same path below these steps.
    pub(crate) fn within(mut self, steps: &[Step]) -> Self {
        self.loc.splice(1..1, steps.iter().cloned());
        self
    }

    /// The field of the input; `None` where it is all of it, or a header.
    pub(crate) fn field(&self) -> Option<String> {
        let (root, path) = self.loc.split_first()?;
        let path: Vec<String> = path.iter().map(Step::to_string).collect();
        (*root == Step::from("body") && !path.is_empty()).then(|| path.join("."))
    }

    /// The class of the problem.
    pub(crate) fn kind(&self) -> &'static str {
        self.kind
    }

    /// What to change.
    pub(crate) fn message(&self) -> &str {
        &self.msg
    }

    /// A problem that only the model saw.
    pub(crate) fn of_request(message: &str) -> Self {
        Self::at(&[], "value_error", message, &Value::Null)
    }

    /// Adds what a program can read.
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
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
        Value::Array(_) | Value::Object(_) => beginning(input),
        Value::Null | Value::Bool(_) | Value::Number(_) => input.clone(),
    }
}

/// A list or an object as it is, or if it is long, the beginning of its text. No more of it is written than that.
fn beginning(input: &impl Serialize) -> Value {
    let mut out = Beginning(Vec::new());
    match serde_json::to_writer(&mut out, input) {
        Ok(()) if out.0.len() <= ECHO_CHARS => serde_json::from_slice(&out.0).unwrap_or_default(),
        _ => shortened(&String::from_utf8_lossy(&out.0).into()),
    }
}

/// Takes no more than the bytes of [`ECHO_CHARS`], and a character more.
struct Beginning(Vec<u8>);

impl io::Write for Beginning {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = 4 * (ECHO_CHARS + 1) - self.0.len();
        self.0.extend_from_slice(&bytes[..bytes.len().min(left)]);
        if bytes.len() > left { Err(io::ErrorKind::WriteZero.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_input_is_cut_to_its_beginning() {
        let short = json!({ "a": [1, 2] });
        assert_eq!(shortened(&short), short);
        for long in [json!(vec!["é"; 1000]), json!({ "a": "é".repeat(1000) }), json!("é".repeat(1000))] {
            let cut = shortened(&long);
            let text = cut.as_str().expect("a text");
            assert_eq!((text.chars().count(), text.ends_with('…')), (ECHO_CHARS + 1, true), "{text}");
        }
        let between = json!(["x".repeat(300)]);
        assert!(shortened(&between).as_str().is_some_and(|text| text.starts_with("[\"xxx")), "{between}");
    }
}
