//! The input of an endpoint: its fields, from JSON to a valid request, or to the list of everything that is wrong with
//! it. Reads values as leniently as pydantic does.

mod adapter_path;
pub(crate) mod body;
mod controlnet;
pub(crate) mod field;
pub(crate) mod fields;
mod ip_adapter;
mod loras;
pub(crate) mod query;
mod size;
mod skip_layers;
mod source;
pub(crate) mod value;

pub(crate) use controlnet::{OBJECT as CONTROLNET, object_schema as controlnet_schema};
pub(crate) use ip_adapter::{OBJECT as IP_ADAPTER, object_schema as ip_adapter_schema};
pub(crate) use loras::{ITEM as LORA, item_schema as lora_schema};
pub(crate) use size::schema as size_schema;

use crate::endpoint::{Endpoint, Task};
use crate::input::field::{Choice, Field, OptionalSeed, Ranged, Switch, Text, object, of_type};
use crate::input::fields::Fields;
use crate::output::names;
use crate::output::problem::Problem;
use crate::routing::call::Call;
use crate::routing::served_endpoint::ServedEndpoint;
use latentd_request::{
    IMAGE_OFFSET as IMAGE_OFFSET_RANGE, ImageRequest, InitImageRef, MAX_INLINE_BYTES, MAX_PROMPT_CHARS,
    MaskRef, NUM_IMAGES as NUM_IMAGES_RANGE, OutputFormat, STRENGTH as STRENGTH_RANGE, Seed,
};
use serde_json::Value;
use source::File;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::{RefOr, Required};

pub(crate) const PROMPT: Text = Text {
    name: "prompt",
    about: "What to generate.",
    default: None,
    max_chars: MAX_PROMPT_CHARS,
    example: "a red house on the left of a lake at sunset, two boats",
};

pub(crate) const NEGATIVE_PROMPT: Text = Text {
    name: "negative_prompt",
    about: "What to avoid.",
    default: Some(""),
    max_chars: MAX_PROMPT_CHARS,
    example: "",
};

pub(crate) const SEED: OptionalSeed = OptionalSeed {
    name: "seed",
    about: "The same seed, input and model give the same image. Random where it is left out.",
};

/// The fields that every endpoint has with numbers of its own.
pub(crate) struct Numbers {
    pub(crate) steps: Ranged<i64>,
    pub(crate) guidance: Ranged<f64>,
}

impl Numbers {
    pub(crate) fn of(endpoint: &Endpoint) -> Self {
        let steps = Ranged {
            name: "num_inference_steps",
            about: "Denoising steps.",
            default: endpoint.default_steps,
            range: endpoint.steps.clone(),
        };
        let guidance = Ranged {
            name: "guidance_scale",
            about: "Scale of the classifier-free guidance: how closely the image keeps to the prompt.",
            default: endpoint.default_guidance,
            range: endpoint.guidance.clone(),
        };
        Self { steps, guidance }
    }
}

const SYNC_MODE: Switch = Switch {
    name: "sync_mode",
    alias: None,
    about: "Put the images into the output as data URIs, and keep no file.",
    default: false,
};

const NUM_IMAGES: Ranged<i64> =
    Ranged { name: "num_images", about: "Images to generate.", default: 1, range: NUM_IMAGES_RANGE };

/// Not a field of fal's, which ignores it.
const IMAGE_OFFSET: Ranged<i64> = Ranged {
    name: "image_offset",
    about: "Images of the seed to leave out: with 2 and `num_images` 1, only the third image of `num_images` 3 is generated.",
    default: 0,
    range: IMAGE_OFFSET_RANGE,
};

pub(crate) const SAFETY: Switch = Switch {
    name: "enable_safety_checker",
    alias: Some("enable_safety_checks"),
    about: "Make unsafe images black, where the server has a safety checker.",
    default: true,
};

const FORMAT: Choice<OutputFormat> = Choice {
    name: "output_format",
    about: "File format of the images.",
    words: &[("jpeg", OutputFormat::Jpeg), ("png", OutputFormat::Png)],
};

/// The initial image; errors about it have the name of this field.
const IMAGE_URL: File = File {
    name: names::IMAGE_URL,
    about: "The image to start from, JPEG, PNG, WebP, AVIF, GIF, BMP or TIFF: a URL that this server can reach, or a data URI of up to 10 MiB.",
    example: "https://example.com/house.jpg",
};

/// What is generated anew; errors about it have the name of this field.
const MASK_URL: File = File {
    name: names::MASK_URL,
    about: "White where the image is generated anew, black where it is kept: an image as for `image_url`, of any size.",
    example: "https://example.com/mask.png",
};

pub(crate) const STRENGTH: Ranged<f64> = Ranged {
    name: "strength",
    about: "How little of the image is kept: the share of the denoising steps that are taken.",
    default: 0.83,
    range: STRENGTH_RANGE,
};

/// Bytes of the largest input that is taken, as JSON: with one large file inside.
pub(crate) const MAX_BYTES: usize = MAX_TEXTS + MAX_FILE;

/// Two prompts of characters that JSON writes as two escapes (`\ud83e\udd8a`), and all other fields.
const MAX_TEXTS: usize = 2 * MAX_PROMPT_CHARS * 12 + 64 * 1024;

/// A file in base64, with a tenth for what programs add: `\/` for `/`, `%2F` and `%2B`, or a line's end after every 76.
const MAX_FILE: usize = (MAX_INLINE_BYTES as usize).div_ceil(3) * 4 / 10 * 11;

/// The schema of an input; `size_object` is the name of the schema of a size with sides.
pub(crate) fn schema(route: &ServedEndpoint<'_>, size_object: &str) -> ObjectBuilder {
    let title = match route.task {
        Task::TextToImage => "TextToImageInput",
        Task::ImageToImage => "ImageToImageInput",
        Task::Inpaint => "InpaintInput",
    };
    let numbers = Numbers::of(route.endpoint);
    let size = size::field_schema(route.task, route.limits, size_object);
    let input = object(&fields(route.task, &numbers)).title(Some(title)).property(size::NAME, size);
    let input = input.property(skip_layers::NAME, skip_layers::field_schema(route.layers));
    let input = input.property(loras::NAME, loras::field_schema());
    let input = input.property(controlnet::NAME, controlnet::field_schema());
    input.property(ip_adapter::NAME, ip_adapter::field_schema())
}

/// The fields of a task in the order of fal's document, but for the size.
fn fields(task: Task, numbers: &Numbers) -> Vec<&dyn Field> {
    let Numbers { steps, guidance } = numbers;
    let mut fields: Vec<&dyn Field> = vec![
        &PROMPT,
        &NEGATIVE_PROMPT,
        steps,
        &SEED,
        guidance,
        &SYNC_MODE,
        &NUM_IMAGES,
        &IMAGE_OFFSET,
        &SAFETY,
        &FORMAT,
    ];
    fields.extend(skip_layers::NUMBERS);
    match task {
        Task::TextToImage => {}
        Task::ImageToImage => fields.extend([&IMAGE_URL as &dyn Field, &STRENGTH]),
        Task::Inpaint => fields.extend([&IMAGE_URL as &dyn Field, &MASK_URL, &STRENGTH]),
    }
    fields
}

/// The fields as a query has them.
pub(crate) fn in_query(route: &ServedEndpoint<'_>) -> Vec<Parameter> {
    let parameter = |name: &str, schema: RefOr<Schema>, required: bool| {
        let required = if required { Required::True } else { Required::False };
        let parameter =
            ParameterBuilder::new().name(name).parameter_in(ParameterIn::Query).required(required);
        parameter.schema(Some(schema)).build()
    };
    let nested = [
        (size::NAME, "A preset's name, or `{\"width\": …, \"height\": …}` as a text."),
        (skip_layers::NAME, "Skip-layer guidance: `[7, 8, 9]` as a text."),
        (loras::NAME, "LoRA adapters: `[{\"path\": …, \"scale\": …}]` as a text."),
        (controlnet::NAME, "A ControlNet: `{\"path\": …, \"control_image_url\": …}` as a text."),
        (
            ip_adapter::NAME,
            "An IP-Adapter: `{\"path\": …, \"image_encoder_path\": …, \"image_url\": …, \"scale\": …}` as a text.",
        ),
    ];
    let nested = nested.map(|(name, about)| parameter(name, of_type(Type::String, about).into(), false));
    let numbers = Numbers::of(route.endpoint);
    let fields = fields(route.task, &numbers).into_iter();
    let fields = fields.map(|field| parameter(field.name(), field.schema(), field.is_required()));
    fields.chain(nested).collect()
}

/// Reads the input that a call brought. Unknown fields do not matter.
pub(crate) fn read(
    input: &Value,
    route: &ServedEndpoint<'_>,
    call: &Call,
) -> Result<ImageRequest, Vec<Problem>> {
    let ServedEndpoint { endpoint, task, limits, layers, stand_in, .. } = *route;
    let ServedEndpoint { lora_names, controlnet_names, ip_adapter_names, .. } = *route;
    let Some(map) = input.as_object() else {
        let words = "Input should be a valid dictionary or object to extract fields from";
        return Err(vec![Problem::at(&[], "model_attributes_type", words, input)]);
    };
    let mut fields = Fields::new(map);
    let size = size::read(&mut fields, limits);
    let init_image = match task {
        Task::TextToImage => None,
        Task::ImageToImage | Task::Inpaint => {
            let strength = STRENGTH.read(&mut fields);
            let source = IMAGE_URL.read(&mut fields, call);
            let mask = (task == Task::Inpaint).then(|| MASK_URL.read(&mut fields, call)).flatten();
            let mask = mask.map(|source| MaskRef { source, transparent: false });
            source.map(|source| InitImageRef { source, mask, strength, keeps_size: size.is_none() })
        }
    };
    let has_size = size.is_some() || task != Task::TextToImage;
    let controlnet = controlnet::read(&mut fields, call, controlnet_names, has_size);
    // As large as can be where an image says the size.
    let asked = match (task, &controlnet) {
        (Task::TextToImage, None) => size.unwrap_or_else(|| size::default(&mut fields, limits)),
        _ => size.unwrap_or((limits.generated_side, limits.generated_side)),
    };
    let (width, height) = limits.generated(asked.0, asked.1);
    let Numbers { steps, guidance } = Numbers::of(endpoint);
    let guidance = guidance.read(&mut fields);
    let request = ImageRequest {
        model: endpoint.model.clone(),
        stand_in: stand_in.map(str::to_owned),
        prompt: PROMPT.read(&mut fields),
        negative_prompt: NEGATIVE_PROMPT.read(&mut fields),
        width,
        height,
        scaled_to: (asked != (width, height)).then_some(asked),
        steps: count(steps.read(&mut fields)),
        guidance,
        seed: SEED.read(&mut fields).unwrap_or_else(Seed::draw),
        num_images: count(NUM_IMAGES.read(&mut fields)),
        image_offset: count(IMAGE_OFFSET.read(&mut fields)),
        format: FORMAT.read(&mut fields),
        quality: None,
        inline: SYNC_MODE.read(&mut fields),
        check_safety: SAFETY.read(&mut fields),
        private: false,
        without_settings: false,
        init_image,
        skip_layers: skip_layers::read(&mut fields, guidance, layers),
        loras: loras::read(&mut fields, call, lora_names),
        controlnet,
        ip_adapter: ip_adapter::read(&mut fields, call, ip_adapter_names),
    };
    fields.finish(request)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// A value that a range has kept between 0 and a small number.
pub(crate) fn count(value: i64) -> usize {
    usize::try_from(value).unwrap_or(1)
}
