//! `image_size`: a preset's name, an object with sides, or nothing; checked against fal's limits and then the model's.

use super::count;
use crate::endpoint::Task;
use crate::input::field::{null, of_type, one_of};
use crate::input::fields::Fields;
use crate::output::problem::Problem;
use latentd_request::{Beyond, Limits, MAX_SIDE};
use serde_json::Value;
use utoipa::openapi::schema::{AnyOfBuilder, ObjectBuilder, Schema, Type};
use utoipa::openapi::{Ref, RefOr};

/// Of the field.
pub(crate) const NAME: &str = "image_size";

/// Names and sizes.
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

/// The sides of an object, with their defaults.
const SIDES: [(&str, i64, &str); 2] = [("width", 512, "In pixels."), ("height", 512, "In pixels.")];

/// The schema of the field; `object` is the name of the schema of an object with sides.
pub(crate) fn field_schema(task: Task, limits: &Limits, object: &str) -> RefOr<Schema> {
    let default = match task {
        Task::TextToImage => DEFAULT_SIZE,
        Task::ImageToImage | Task::Inpaint => {
            "that of the image to start from, or as much as the model can generate of it,"
        }
    };
    let fits = |&&(_, width, height): &&(&str, usize, usize)| limits.check(width, height).is_ok();
    let names: Vec<&str> = PRESETS.iter().filter(fits).map(|(name, ..)| *name).collect();
    AnyOfBuilder::new()
        .item(Ref::from_schema_name(object))
        .item(ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names)))
        .item(null())
        .description(Some(format!("The size of the image; {default} when it is left out.")))
        .into()
}

/// The schema of an object with sides.
pub(crate) fn schema(limits: &Limits) -> ObjectBuilder {
    let most = i64::try_from(limits.max_side).map_or(MAX_SIDE, |side| side.min(MAX_SIDE));
    SIDES.iter().fold(ObjectBuilder::new().title(Some("ImageSize")), |object, (name, default, about)| {
        let side = of_type(Type::Integer, about).default(Some((*default).into()));
        object.property(*name, side.exclusive_minimum(Some(0)).maximum(Some(most)))
    })
}

/// The default width and height.
pub(crate) fn default(fields: &mut Fields<'_>, limits: &Limits) -> (usize, usize) {
    preset(fields, DEFAULT_SIZE, &Value::Null, limits)
}

/// Width and height, if they are asked for.
pub(crate) fn read(fields: &mut Fields<'_>, limits: &Limits) -> Option<(usize, usize)> {
    Some(match fields.value(NAME) {
        None | Some(Value::Null) => return None,
        Some(value @ Value::String(name)) => preset(fields, name, value, limits),
        Some(Value::Object(map)) => {
            let mut inner = Fields::below(NAME, map);
            let [width, height] = SIDES.map(|(name, default, _)| side(&mut inner, name, default, limits));
            let has_problem = inner.problem_count() > 0;
            fields.absorb(inner);
            if !has_problem && let Err(beyond) = limits.check(width, height) {
                refuse(fields, (width, height), &beyond, &Value::Object(map.clone()));
            }
            (width, height)
        }
        Some(other) => {
            let words = "Input should be a preset's name or an object with width and height";
            fields.refuse(Problem::at(&[NAME], "value_error", words, other));
            (0, 0)
        }
    })
}

fn preset(fields: &mut Fields<'_>, name: &str, input: &Value, limits: &Limits) -> (usize, usize) {
    let Some(&(_, width, height)) = PRESETS.iter().find(|(known, ..)| *known == name) else {
        fields.refuse(one_of(NAME, &PRESETS.map(|(known, ..)| known), input));
        return (0, 0);
    };
    if let Err(beyond) = limits.check(width, height) {
        refuse(fields, (width, height), &beyond, input);
    }
    (width, height)
}

fn side(fields: &mut Fields<'_>, name: &'static str, default: i64, limits: &Limits) -> usize {
    let Some(pixels) = fields.positive(name, default, MAX_SIDE) else { return 0 };
    let pixels = count(pixels);
    if let Err(beyond) = limits.check(pixels, 1) {
        fields.refuse(fields.problem(name, KIND, words(&beyond)).with("le", beyond.limit()));
    }
    pixels
}

/// The class of a problem with what the model can generate.
const KIND: &str = "less_than_equal";

fn refuse(fields: &mut Fields<'_>, (width, height): (usize, usize), beyond: &Beyond, input: &Value) {
    let words = format!("{width}x{height}: {}", words(beyond));
    fields.refuse(Problem::at(&[NAME], KIND, words, input).with("le", beyond.limit()));
}

fn words(beyond: &Beyond) -> String {
    format!("Input should be less than or equal to {}, {}", beyond.limit(), beyond.what())
}
