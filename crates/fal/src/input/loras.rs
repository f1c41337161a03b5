//! `loras`: LoRA adapters, each a file of the client, one on the Hugging Face hub or one that the operator named, with a
//! scale. A path of this server's disk is never taken.

use crate::input::field::{Field, Ranged, of_type};
use crate::input::fields::Fields;
use crate::input::source;
use crate::output::names::{LORA_PATH, LORAS};
use crate::output::problem::{Problem, Step};
use crate::routing::call::Call;
use latentd_request::{LORA_SCALE, LoraRef, LoraSource, MAX_LORAS};
use serde_json::{Map, Value};
use url::Url;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, Type};
use utoipa::openapi::{Ref, RefOr};

/// Of the field.
pub(crate) const NAME: &str = LORAS;

/// The schema of an item, which the document names so, as fal's does.
pub(crate) const ITEM: &str = "LoraWeight";

const PATH: &str = LORA_PATH;

const SCALE: Ranged<f64> = Ranged {
    name: "scale",
    about: "What the adapter's products are multiplied by before they are added to the model's.",
    default: 1.0,
    range: LORA_SCALE,
};

/// Characters of a path that messages repeat.
const SHOWN: usize = 200;

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

/// The schema of an item.
pub(crate) fn item_schema() -> ObjectBuilder {
    let about = "The adapter's `.safetensors` file: a URL that this server can reach, that of a file sent to it, a data URI \
                 of up to 10 MiB, `owner/name` or `owner/name/file.safetensors` on the Hugging Face hub, or a name that the \
                 operator gave a file.";
    // No example: programs that try the document's examples would send a file that is not there.
    ObjectBuilder::new()
        .title(Some(ITEM))
        .property(PATH, of_type(Type::String, about))
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
    let before = item.problem_count();
    let text = item.text(PATH, None);
    let source = if item.problem_count() > before { None } else { located(&mut item, text, call, names) };
    let scale = SCALE.read(&mut item);
    fields.absorb(item);
    Some(LoraRef { name: shown(text), source: source?, scale })
}

/// Where the adapter of a path is.
fn located(item: &mut Fields<'_>, text: &str, call: &Call, names: &[String]) -> Option<LoraSource> {
    let text = text.trim();
    let begins =
        |scheme: &str| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    if ["data:", "http:", "https:"].into_iter().any(begins) {
        return source::of_field(item, PATH, source::source(text, call)).map(LoraSource::File);
    }
    if names.iter().any(|name| name == text) {
        return Some(LoraSource::Named(text.to_owned()));
    }
    let on_hub = LoraSource::on_hub(text);
    if on_hub.is_none() {
        let problem = item.problem(PATH, "value_error", unknown(text, names));
        item.refuse(problem);
    }
    on_hub
}

fn unknown(text: &str, names: &[String]) -> String {
    let names = match names {
        [] => "; this server has no adapters with names of their own".to_owned(),
        names => format!(", or one of this server's adapters: {}", names.join(", ")),
    };
    format!(
        "{} is no adapter that can be had: give an http:// or https:// URL, a data URI, `owner/name` or \
         `owner/name/file.safetensors` of the Hugging Face hub{names}",
        shown(text)
    )
}

/// A path as messages name it: not the bytes of a data URI, and not the query of a URL, which may be a permission.
fn shown(text: &str) -> String {
    let text = text.trim();
    if text.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:")) {
        return "data URI".to_owned();
    }
    let mut url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    if let Some(url) = &mut url {
        url.set_query(None);
        url.set_fragment(None);
    }
    let text = url.map_or_else(|| text.to_owned(), String::from);
    let mut short: String = text.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
    if text.chars().nth(SHOWN).is_some() {
        short.push('…');
    }
    short
}
