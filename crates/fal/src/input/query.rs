//! Input in a URL's query, where the client of a GET puts it: every value is text.

use crate::input::value::from_json;
use crate::routing::call::Call;
use serde_json::{Map, Value};

/// Fields whose value is never text alone; in a query it is written as JSON.
const NESTED: [&str; 5] = ["image_size", "skip_guidance_layers", "loras", "controlnet", "ip_adapter"];

/// Parameters for the server and not for the model begin so.
const OURS: &str = "fal_";

/// The input. Texts are left to be read as what the field is; of a field that is there twice, the last counts.
pub(crate) fn input(call: &Call) -> Value {
    let fields = call.parameters().filter(|(name, _)| !name.starts_with(OURS));
    Value::Object(fields.map(|(name, text)| (name.to_string(), value(&name, &text))).collect::<Map<_, _>>())
}

fn value(name: &str, text: &str) -> Value {
    if !NESTED.contains(&name) {
        return text.into();
    }
    match from_json(text.as_bytes()) {
        Ok(value @ (Value::Object(_) | Value::Array(_) | Value::Null)) => value,
        // An empty list, as clients write it.
        _ if text.is_empty() => Value::Null,
        _ => text.into(),
    }
}
