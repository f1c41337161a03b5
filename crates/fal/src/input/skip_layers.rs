//! Skip-layer guidance: fields that fal does not have, by the names of diffusers' arguments.

use crate::input::field::{Field, Ranged};
use crate::input::fields::Fields;
use latentd_request::{MAX_SKIPPED_LAYERS, SKIP_SCALE, SKIP_SHARE, SkipLayers};
use serde_json::Value;
use std::ops::RangeInclusive;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, Type};

/// Of the field with the layers.
pub(crate) const NAME: &str = "skip_guidance_layers";

const SCALE: Ranged<f64> = Ranged {
    name: "skip_layer_guidance_scale",
    about: "Scale of the skip-layer guidance.",
    default: 2.8,
    range: SKIP_SCALE,
};

const START: Ranged<f64> = Ranged {
    name: "skip_layer_guidance_start",
    about: "The share of the denoising steps after which the skip-layer guidance begins, 0 to 1.",
    default: 0.01,
    range: SKIP_SHARE,
};

const STOP: Ranged<f64> = Ranged {
    name: "skip_layer_guidance_stop",
    about: "The share of the denoising steps before which the skip-layer guidance ends, 0 to 1.",
    default: 0.2,
    range: SKIP_SHARE,
};

/// The fields beside the layers, which mean nothing without them.
pub(crate) const NUMBERS: [&dyn Field; 3] = [&SCALE, &START, &STOP];

/// The schema of the field with the layers, of a model that has so many.
pub(crate) fn field_schema(layers: usize) -> RefOr<Schema> {
    let about = "Skip-layer guidance: numbers of the transformer's blocks, from 0, that a further branch leaves out, such as \
                 `[7, 8, 9]` for Stable Diffusion 3.5 Medium. The images are led away from that branch. Needs a \
                 `guidance_scale` above 1.";
    let range = numbers(layers);
    let item = ObjectBuilder::new().schema_type(Type::Integer);
    ArrayBuilder::new()
        .items(item.minimum(Some(*range.start())).maximum(Some(*range.end())))
        .max_items(Some(MAX_SKIPPED_LAYERS))
        .default(Some(Value::Array(Vec::new())))
        .description(Some(about))
        .into()
}

/// The skip-layer guidance of a request with this guidance, of a model that has so many layers.
pub(crate) fn read(fields: &mut Fields<'_>, guidance: f64, layers: usize) -> Option<SkipLayers> {
    let before = fields.problem_count();
    let layers = fields.integers(NAME, numbers(layers), MAX_SKIPPED_LAYERS);
    let [scale, start, stop] = [SCALE, START, STOP].map(|number| number.read(fields));
    if layers.is_empty() {
        return None;
    }
    if guidance <= 1.0 && fields.problem_count() == before {
        let words = "Skip-layer guidance needs a guidance_scale above 1";
        fields.refuse(fields.problem(NAME, "value_error", words));
    }
    let layers = layers.into_iter().filter_map(|layer| usize::try_from(layer).ok()).collect();
    Some(SkipLayers { layers, scale, start, stop })
}

/// The numbers of so many layers.
fn numbers(layers: usize) -> RangeInclusive<i64> {
    0..=i64::try_from(layers).unwrap_or(i64::MAX) - 1
}
