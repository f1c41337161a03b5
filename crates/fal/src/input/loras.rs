//! `loras`: LoRA adapters, each a file of the client, one on the Hugging Face hub or one that the operator named, with a
//! scale. A path of this server's disk is never taken.

use crate::input::adapter_path;
use crate::input::field::{Field, Ranged};
use crate::input::fields::Fields;
use crate::output::names::{ADAPTER_PATH, LORAS};
use crate::output::problem::{Problem, Step};
use crate::routing::call::Call;
use latentd_request::{LORA_SCALE, LoraRef, MAX_LORAS};
use serde_json::{Map, Value};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema};
use utoipa::openapi::{Ref, RefOr};

/// Of the field.
pub(crate) const NAME: &str = LORAS;

/// The schema of an item, which the document names so, as fal's does.
pub(crate) const ITEM: &str = "LoraWeight";

const PATH: &str = ADAPTER_PATH;

const SCALE: Ranged<f64> = Ranged {
    name: "scale",
    about: "What the adapter's products are multiplied by before they are added to the model's.",
    default: 1.0,
    range: LORA_SCALE,
};

/// The schema of the field.
pub(crate) fn field_schema() -> RefOr<Schema> {
    let about = "LoRA adapters, summed. They change the model for this request alone.";
    ArrayBuilder::new()
        .items(Ref::from_schema_name(ITEM))
        .max_items(Some(MAX_LORAS))
        .default(Some(Value::Array(Vec::new())))
        .description(Some(about))
        .into()
}

/// The schema of an item; `names` are those of the operator's files.
pub(crate) fn item_schema(names: &[String]) -> ObjectBuilder {
    let about = "The adapter's `.safetensors` file: a URL that this server can reach, that of a file sent to it, a data URI \
                 of up to 10 MiB, `owner/name` or `owner/name/file.safetensors` on the Hugging Face hub, or a name that the \
                 operator gave a file.";
    ObjectBuilder::new()
        .title(Some(ITEM))
        .property(PATH, adapter_path::schema(about, names))
        .property(SCALE.name, SCALE.schema())
        .required(PATH)
}

/// The adapters of a request; `names` are those of the operator's files.
pub(crate) fn read(fields: &mut Fields<'_>, call: &Call, names: &[String]) -> Vec<LoraRef> {
    let items = match fields.value(NAME) {
        None | Some(Value::Null) => return Vec::new(),
        Some(Value::Array(items)) => items,
        Some(_) => {
            fields.refuse(fields.problem(NAME, "list_type", "Input should be a valid list"));
            return Vec::new();
        }
    };
    if items.len() > MAX_LORAS {
        let problem =
            fields.problem(NAME, "sequence_too_long", format!("Input should have at most {MAX_LORAS} items"));
        fields.refuse(problem.with("max_length", MAX_LORAS));
        return Vec::new();
    }
    let read = items.iter().enumerate().filter_map(|(index, item)| match item {
        Value::Object(map) => lora(fields, index, map, call, names),
        other => {
            let words = "Input should be a valid dictionary or object to extract fields from";
            let problem = Problem::at(&[], "model_attributes_type", words, other);
            fields.refuse(problem.within(&[NAME.into(), Step::Item(index)]));
            None
        }
    });
    read.collect()
}

fn lora(
    fields: &mut Fields<'_>,
    index: usize,
    map: &Map<String, Value>,
    call: &Call,
    names: &[String],
) -> Option<LoraRef> {
    let mut item = Fields::of_item(NAME, index, map);
    let (name, source) = adapter_path::read(&mut item, PATH, call, names);
    let scale = SCALE.read(&mut item);
    fields.absorb(item);
    Some(LoraRef { name, source: source?, scale })
}
