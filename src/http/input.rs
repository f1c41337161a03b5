//! The input of `fal-ai/stable-diffusion-v35-large`: from JSON to a valid request, or to the list
//! of everything that is wrong with it. Reads values as leniently as pydantic does.

use super::fields::Fields;
use super::problem::Problem;
use crate::request::{
    GUIDANCE, ImageRequest, Limits, MAX_PROMPT_CHARS, MAX_SIDE, NUM_IMAGES, OutputFormat, STEPS, draw_seed,
};
use serde_json::{Value, json};

/// Names and sizes of `image_size`.
const PRESETS: [(&str, usize, usize); 6] = [
    ("square_hd", 1024, 1024),
    ("square", 512, 512),
    ("portrait_4_3", 768, 1024),
    ("portrait_16_9", 576, 1024),
    ("landscape_4_3", 1024, 768),
    ("landscape_16_9", 1024, 576),
];

/// The size when none is asked for.
const DEFAULT_SIZE: &str = "landscape_4_3";

/// Side of an `image_size` object that leaves it out.
const DEFAULT_SIDE: i64 = 512;

/// Adapters that fal's endpoint knows and this server does not run.
const UNSUPPORTED: [&str; 3] = ["loras", "controlnet", "ip_adapter"];

/// Reads an input. Unknown fields do not matter.
pub(super) fn read(input: &Value, limits: &Limits) -> Result<ImageRequest, Vec<Problem>> {
    let Some(map) = input.as_object() else {
        let words = "Input should be a valid dictionary or object to extract fields from";
        return Err(vec![Problem::at(&[], "model_attributes_type", words, input)]);
    };
    let mut fields = Fields::new(map);
    let (width, height) = size(&mut fields, limits);
    let checker = if map.contains_key("enable_safety_checker") {
        "enable_safety_checker"
    } else {
        "enable_safety_checks"
    };
    let request = ImageRequest {
        prompt: prompt(&mut fields, "prompt", None),
        negative_prompt: prompt(&mut fields, "negative_prompt", Some("")),
        width,
        height,
        steps: count(fields.integer("num_inference_steps", 28, STEPS)),
        guidance: fields.number("guidance_scale", 3.5, GUIDANCE),
        seed: if is_null(map.get("seed")) {
            draw_seed()
        } else {
            fields.integer("seed", 0, i64::MIN..=i64::MAX)
        },
        num_images: count(fields.integer("num_images", 1, NUM_IMAGES)),
        format: format(&mut fields),
        inline: fields.flag("sync_mode", false),
        check_safety: fields.flag(checker, true),
    };
    for name in UNSUPPORTED {
        if map.get(name).is_some_and(|value| !is_empty(value)) {
            let words = format!("{name} is not supported by this server");
            fields.refuse(Problem::at(&[name], "feature_not_supported", words, &map[name]));
        }
    }
    fields.finish(request)
}

fn is_null(value: Option<&Value>) -> bool {
    value.is_none_or(Value::is_null)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// A value that a range has kept between 1 and a small number.
fn count(value: i64) -> usize {
    usize::try_from(value).unwrap_or(1)
}

fn prompt(fields: &mut Fields<'_>, name: &'static str, default: Option<&str>) -> String {
    let text = fields.text(name, default);
    if text.len() > MAX_PROMPT_CHARS && text.chars().count() > MAX_PROMPT_CHARS {
        let words = format!("Input should have at most {MAX_PROMPT_CHARS} characters");
        let problem = Problem::at(&[name], "sequence_too_long", words, &Value::String(text));
        fields.refuse(problem.with("max_length", MAX_PROMPT_CHARS));
        return String::new();
    }
    text
}

fn format(fields: &mut Fields<'_>) -> OutputFormat {
    match fields.value("output_format") {
        None => OutputFormat::Jpeg,
        Some(Value::String(word)) if word == "jpeg" => OutputFormat::Jpeg,
        Some(Value::String(word)) if word == "png" => OutputFormat::Png,
        Some(other) => {
            let problem = Problem::at(&["output_format"], "one_of", "Input should be 'jpeg' or 'png'", other);
            fields.refuse(problem.with("expected", json!(["jpeg", "png"])));
            OutputFormat::Jpeg
        }
    }
}

/// Width and height: a preset, an object or nothing; checked against fal's limits, then the model's.
fn size(fields: &mut Fields<'_>, limits: &Limits) -> (usize, usize) {
    const NAME: &str = "image_size";
    match fields.value(NAME) {
        None | Some(Value::Null) => preset(fields, DEFAULT_SIZE, &Value::Null, limits),
        Some(value @ Value::String(name)) => preset(fields, name, value, limits),
        Some(Value::Object(map)) => {
            let mut inner = Fields::below(NAME, map);
            let width = side(&mut inner, "width", limits);
            let height = side(&mut inner, "height", limits);
            fields.absorb(inner);
            (width, height)
        }
        Some(other) => {
            let words = "Input should be a preset's name or an object with width and height";
            fields.refuse(Problem::at(&[NAME], "value_error", words, other));
            (0, 0)
        }
    }
}

fn preset(fields: &mut Fields<'_>, name: &str, input: &Value, limits: &Limits) -> (usize, usize) {
    let Some(&(_, width, height)) = PRESETS.iter().find(|(known, ..)| *known == name) else {
        let names = PRESETS.map(|(known, ..)| known);
        let words = format!("Input should be one of {}", names.map(|name| format!("'{name}'")).join(", "));
        fields.refuse(Problem::at(&["image_size"], "one_of", words, input).with("expected", json!(names)));
        return (0, 0);
    };
    for pixels in [width, height] {
        if let Some((kind, words, name, value)) = beyond(pixels, limits) {
            let words = format!("{width}x{height}: {words}");
            fields.refuse(Problem::at(&["image_size"], kind, words, input).with(name, value));
            break;
        }
    }
    (width, height)
}

fn side(fields: &mut Fields<'_>, name: &'static str, limits: &Limits) -> usize {
    let Some(pixels) = fields.positive(name, DEFAULT_SIDE, MAX_SIDE) else { return 0 };
    let pixels = count(pixels);
    if let Some((kind, words, key, value)) = beyond(pixels, limits) {
        fields.refuse(fields.problem(name, kind, words).with(key, value));
    }
    pixels
}

/// What the model has against a side: type, message, and the limit with its name.
fn beyond(pixels: usize, limits: &Limits) -> Option<(&'static str, String, &'static str, usize)> {
    let Limits { max_side } = *limits;
    (pixels > max_side).then(|| {
        let words =
            format!("Input should be less than or equal to {max_side}, the longest side of this model");
        ("less_than_equal", words, "le", max_side)
    })
}
