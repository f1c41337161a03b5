//! `controlnet`: a ControlNet, found as a LoRA adapter is, with a control image.

use crate::input::adapter_path;
use crate::input::field::{Ranged, with_fields};
use crate::input::fields::Fields;
use crate::input::is_empty;
use crate::input::source::{EXAMPLE_IMAGE, File};
use crate::output::names::{ADAPTER_PATH, CONTROL_IMAGE, CONTROLNET};
use crate::output::problem::Problem;
use crate::routing::call::Call;
use latentd_request::{CONTROL_SCALE, CONTROL_SHARE, ControlNetRef};
use serde_json::Value;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, RefBuilder, Schema};

/// Of the field.
pub(crate) const NAME: &str = CONTROLNET;

/// The schema of its object, which the document names so, as fal's does.
pub(crate) const OBJECT: &str = "ControlNet";

const PATH: &str = ADAPTER_PATH;

const IMAGE: File = File {
    name: CONTROL_IMAGE,
    about: "The control image, of any size, such as edges or depths, as the ControlNet was trained with: a file as for `image_url`.",
    example: EXAMPLE_IMAGE,
};

const SCALE: Ranged<f64> = Ranged {
    name: "conditioning_scale",
    about: "What the ControlNet's outputs are multiplied by before they are added to the model's.",
    default: 1.0,
    range: CONTROL_SCALE,
};

const START: Ranged<f64> = Ranged {
    name: "start_percentage",
    about: "The share of the denoising steps after which the ControlNet begins, 0 to 1.",
    default: 0.0,
    range: CONTROL_SHARE,
};

const END: Ranged<f64> = Ranged {
    name: "end_percentage",
    about: "The share of the denoising steps after which the ControlNet ends, 0 to 1.",
    default: 1.0,
    range: CONTROL_SHARE,
};

/// The schema of the field.
pub(crate) fn field_schema() -> RefOr<Schema> {
    let about = "A ControlNet of this model, which makes the images follow a control image.";
    RefBuilder::new().ref_location_from_schema_name(OBJECT).description(Some(about)).into()
}

/// The schema of its object; `names` are those of the operator's.
pub(crate) fn object_schema(names: &[String]) -> ObjectBuilder {
    let about = "The ControlNet, in diffusers' layout: `owner/name` or `owner/name/file.safetensors` on the Hugging Face hub \
                 with its `config.json`, a `.safetensors` file: a URL that this server can reach, that of a file sent to \
                 it, or a data URI of up to 10 MiB, or a name that the operator gave a ControlNet.";
    let path = ObjectBuilder::new().property(PATH, adapter_path::schema(about, names)).required(PATH);
    with_fields(path.title(Some(OBJECT)), &[&IMAGE, &SCALE, &START, &END])
}

/// The ControlNet of a request; `names` are those of the operator's, `has_size` where the request has a size by other fields.
pub(crate) fn read(
    fields: &mut Fields<'_>,
    call: &Call,
    names: &[String],
    has_size: bool,
) -> Option<ControlNetRef> {
    let map = match fields.value(NAME)? {
        value if is_empty(value) => return None,
        Value::Object(map) => map,
        other => {
            let words = "Input should be a valid dictionary or object to extract fields from";
            fields.refuse(Problem::at(&[NAME], "model_attributes_type", words, other));
            return None;
        }
    };
    let mut inner = Fields::below(NAME, map);
    let (name, source) = adapter_path::read(&mut inner, PATH, call, names);
    let image = IMAGE.read(&mut inner, call);
    let [scale, start, end] = [SCALE, START, END].map(|number| number.read(&mut inner));
    fields.absorb(inner);
    let (source, image) = (source?, image?);
    Some(ControlNetRef { name, source, image, scale, start, end, keeps_size: !has_size })
}
