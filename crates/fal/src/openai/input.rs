//! The input of a call that generates or edits images: its fields, OpenAI's and those of diffusion servers, to a valid
//! request. A field that is neither is refused, as by OpenAI.

use super::form::without_index;
use super::output::Wanted;
use super::quality::Quality;
use super::size;
use crate::endpoint::Task;
use crate::input::field::{Choice, Field, Ranged, Switch, Text, object, of_type};
use crate::input::fields::Fields;
use crate::input::{NEGATIVE_PROMPT, Numbers, PROMPT, SAFETY, SEED, STRENGTH, count};
use crate::output::problem::Problem;
use crate::routing::served_endpoint::ServedEndpoint;
use latentd_request::{ImageRequest, InitImageRef, MaskRef, NUM_IMAGES, OutputFormat, Seed, Source};
use serde_json::{Map, Value};
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{Ref, Required};

/// The model that is to answer.
pub(crate) const MODEL: &str = "model";

/// The file to edit.
const IMAGE: &str = "image";

/// The file that says what of it is generated anew.
const MASK: &str = "mask";

/// Longest name of an end user.
const MAX_NAME: usize = 512;

const N: Ranged<i64> = Ranged { name: "n", about: "Images to generate.", default: 1, range: NUM_IMAGES };

const QUALITY: Choice<Quality> = Choice {
    name: "quality",
    about: "Denoising steps where `num_inference_steps` gives no number: of the model's default `low` takes half, `high` \
            and `hd` one and a half times, `xhigh` and `max` twice as many.",
    words: Quality::WORDS,
};

const STYLE: Choice<()> =
    Choice { name: "style", about: "Has no effect.", words: &[("vivid", ()), ("natural", ())] };

const BACKGROUND: Choice<()> = Choice {
    name: "background",
    about: "Images are opaque: `transparent` is refused.",
    words: &[("auto", ()), ("opaque", ())],
};

const MODERATION: Choice<()> = Choice {
    name: "moderation",
    about: "Has no effect; `enable_safety_checker` has.",
    words: &[("auto", ()), ("low", ())],
};

const FORMAT: Choice<OutputFormat> = Choice {
    name: "output_format",
    about: "File format of the images.",
    words: &[("png", OutputFormat::Png), ("jpeg", OutputFormat::Jpeg), ("webp", OutputFormat::WebP)],
};

const COMPRESSION: Ranged<i64> = Ranged {
    name: "output_compression",
    about: "Quality of JPEG and WebP files. PNG files are lossless.",
    default: 95,
    range: 0..=100,
};

const LOSSLESS: i64 = 100;

const RESPONSE_FORMAT: Choice<bool> = Choice {
    name: "response_format",
    about: "Whether the response has the images themselves in base64, or the URLs of files that this server keeps.",
    words: &[("b64_json", true), ("url", false)],
};

const STREAM: Switch = Switch {
    name: "stream",
    alias: None,
    about: "Answer with server-sent events: partial images, and each image when it is complete.",
    default: false,
};

const PARTIAL_IMAGES: Ranged<i64> = Ranged {
    name: "partial_images",
    about: "Small JPEG previews of the first image that a stream has at most.",
    default: 0,
    range: 0..=3,
};

const USER: Text = Text {
    name: "user",
    about: "A name for the end user; it is neither kept nor logged.",
    default: Some(""),
    max_chars: MAX_NAME,
    example: "",
};

const SAFETY_IDENTIFIER: Text = Text {
    name: "safety_identifier",
    about: "The same, by its newer name; the response repeats it.",
    ..USER
};

/// Fields of OpenAI's that ask for what this server cannot do.
const UNSUPPORTED: [&str; 6] =
    ["markup", "input_fidelity", "complexity", "svg", "frame_count", "frame_duration_ms"];

/// The files of a call that edits an image.
#[derive(Default)]
pub(crate) struct Files {
    pub(crate) image: Option<Source>,
    pub(crate) mask: Option<Source>,
}

/// What a call asks for: a request, and the form of the response.
pub(crate) struct Asked {
    pub(crate) request: ImageRequest,
    pub(crate) wanted: Wanted,
    /// Partial images at most; `None`: no stream.
    pub(crate) partial_images: Option<usize>,
}

/// The fields of a task, but for its model, size and image.
fn fields(task: Task, numbers: &Numbers) -> Vec<&dyn Field> {
    let Numbers { steps, guidance } = numbers;
    let mut fields: Vec<&dyn Field> = vec![
        &PROMPT,
        &N,
        &QUALITY,
        &STYLE,
        &BACKGROUND,
        &MODERATION,
        &FORMAT,
        &COMPRESSION,
        &RESPONSE_FORMAT,
        &STREAM,
        &PARTIAL_IMAGES,
        &USER,
        &SAFETY_IDENTIFIER,
        &NEGATIVE_PROMPT,
        &SEED,
        steps,
        guidance,
        &SAFETY,
    ];
    if task == Task::ImageToImage {
        fields.push(&STRENGTH);
    }
    fields
}

/// Reads a valid request. `map` has the fields without those that are null, which count as left out.
pub(crate) fn read(
    map: &Map<String, Value>,
    route: &ServedEndpoint<'_>,
    Files { image, mask }: Files,
) -> Result<Asked, Vec<Problem>> {
    let ServedEndpoint { endpoint, task, limits, stand_in, .. } = *route;
    let numbers = Numbers::of(endpoint);
    let mut fields = Fields::new(map);
    let files: &[&'static str] = match (task, &mask) {
        (Task::TextToImage, _) => &[],
        (_, None) => &[IMAGE],
        (_, Some(_)) => &[IMAGE, MASK],
    };
    refuse_others(&mut fields, map, &known(task, &numbers, files));
    let size = size::read(&mut fields, limits);
    let init_image = match (task, image) {
        (Task::TextToImage, _) => None,
        (Task::ImageToImage | Task::Inpaint, Some(source)) => {
            let strength = STRENGTH.read(&mut fields);
            let mask = mask.map(|source| MaskRef { source, transparent: true });
            Some(InitImageRef { source, mask, strength, keeps_size: size.is_none() })
        }
        (Task::ImageToImage | Task::Inpaint, None) => {
            fields.refuse(Problem::missing(IMAGE, map));
            None
        }
    };
    let asked = match task {
        Task::TextToImage => size.unwrap_or_else(|| size::default(limits)),
        Task::ImageToImage | Task::Inpaint => size.unwrap_or((limits.generated_side, limits.generated_side)),
    };
    let (width, height) = limits.generated(asked.0, asked.1);
    let quality = QUALITY.read(&mut fields);
    let steps = match map.contains_key(numbers.steps.name) {
        true => numbers.steps.read(&mut fields),
        false => quality.steps(endpoint),
    };
    let format = FORMAT.read(&mut fields);
    let in_base64 = RESPONSE_FORMAT.read(&mut fields);
    let request = ImageRequest {
        model: endpoint.model.clone(),
        stand_in: stand_in.map(str::to_owned),
        prompt: PROMPT.read(&mut fields),
        negative_prompt: NEGATIVE_PROMPT.read(&mut fields),
        width,
        height,
        scaled_to: (asked != (width, height)).then_some(asked),
        steps: count(steps),
        guidance: numbers.guidance.read(&mut fields),
        seed: SEED.read(&mut fields).unwrap_or_else(Seed::draw),
        num_images: count(N.read(&mut fields)),
        image_offset: 0,
        format,
        quality: compression(&mut fields, map, format),
        inline: in_base64,
        check_safety: SAFETY.read(&mut fields),
        private: false,
        without_settings: false,
        init_image,
        skip_layers: None,
        loras: Vec::new(),
        controlnet: None,
        ip_adapter: None,
    };
    STYLE.read(&mut fields);
    BACKGROUND.read(&mut fields);
    MODERATION.read(&mut fields);
    let partial_images = stream(&mut fields, in_base64);
    let wanted = Wanted {
        task,
        format,
        quality: quality.word(),
        size: match size {
            None if task == Task::ImageToImage => "auto".into(),
            _ => format!("{}x{}", asked.0, asked.1),
        },
        safety_identifier: identifier(&mut fields),
    };
    fields.finish(Asked { request, wanted, partial_images })
}

/// Refuses fields that this server does not know, and those that it knows to be beyond it.
fn refuse_others(fields: &mut Fields<'_>, map: &Map<String, Value>, known: &[&str]) {
    for (name, value) in map {
        let is_known = known.contains(&name.as_str());
        if UNSUPPORTED.contains(&without_index(name)) {
            let words = format!("{name} is not supported by this server: leave it out");
            fields.refuse(Problem::at(&[name], "feature_not_supported", words, value));
        } else if !is_known {
            fields.refuse(Problem::at(
                &[name],
                "unknown_parameter",
                "This is no parameter of the call",
                value,
            ));
        }
    }
}

/// The names of everything that a call may have; `files` are those that are files.
fn known(task: Task, numbers: &Numbers, files: &[&'static str]) -> Vec<&'static str> {
    let named = fields(task, numbers).into_iter().map(Field::name);
    named.chain([MODEL, size::NAME]).chain(files.iter().copied()).collect()
}

/// The quality of a lossy file, if one is asked for.
fn compression(fields: &mut Fields<'_>, map: &Map<String, Value>, format: OutputFormat) -> Option<u8> {
    map.get(COMPRESSION.name)?;
    let quality = COMPRESSION.read(fields);
    if format == OutputFormat::Png && quality < LOSSLESS {
        let words = "PNG files are lossless: Input should be 100, or the format jpeg or webp";
        fields.refuse(fields.problem(COMPRESSION.name, "value_error", words));
    }
    u8::try_from(quality).ok()
}

/// The partial images that a stream may have; `None` without a stream.
fn stream(fields: &mut Fields<'_>, in_base64: bool) -> Option<usize> {
    let is_stream = STREAM.read(fields);
    let partial_images = PARTIAL_IMAGES.read(fields);
    if is_stream && !in_base64 {
        let words = "A stream has the images themselves: Input should be b64_json";
        fields.refuse(fields.problem(RESPONSE_FORMAT.name, "value_error", words));
    }
    if !is_stream && partial_images > 0 {
        let words = "Input should be 0 without a stream";
        fields.refuse(fields.problem(PARTIAL_IMAGES.name, "value_error", words));
    }
    is_stream.then(|| usize::try_from(partial_images).unwrap_or_default())
}

/// The name of the end user; the newer field's, unless that is empty.
fn identifier(fields: &mut Fields<'_>) -> Option<String> {
    let names = [SAFETY_IDENTIFIER.read(fields), USER.read(fields)];
    names.into_iter().find(|name| !name.is_empty())
}

/// The schema of a call's input.
pub(crate) fn schema(route: &ServedEndpoint<'_>, names: &[&str]) -> ObjectBuilder {
    let about = "By a name of `/v1/models`; without one, the first of them.";
    let model = of_type(Type::String, about).examples(names.iter().copied());
    let numbers = Numbers::of(route.endpoint);
    let object = object(&fields(route.task, &numbers)).property(MODEL, model);
    let object = object.property(size::NAME, size::schema(route.task));
    match route.task {
        Task::TextToImage => object,
        Task::ImageToImage | Task::Inpaint => {
            let about = "The image to edit: JPEG, PNG, WebP, AVIF, GIF, BMP or TIFF of up to 10 MiB.";
            let binary = SchemaFormat::KnownFormat(KnownFormat::Binary);
            let file = |about| of_type(Type::String, about).format(Some(binary.clone()));
            let mask = "What is transparent in it is generated anew, the rest is kept: PNG or WebP of up to 10 MiB, of any \
                        size.";
            object.property(IMAGE, file(about)).required(IMAGE).property(MASK, file(mask))
        }
    }
}

/// The body of a call that edits an image; `schema` is the name of its schema.
pub(crate) fn form(schema: &str) -> RequestBody {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(schema)));
    RequestBodyBuilder::new()
        .content("multipart/form-data", content.build())
        .required(Some(Required::True))
        .build()
}
