//! `ip_adapter`: an IP-Adapter with its image encoder, each found as a LoRA adapter is, and an image prompt.

use crate::input::adapter_path;
use crate::input::field::{Ranged, null, of_type, with_fields};
use crate::input::fields::Fields;
use crate::input::source::{EXAMPLE_IMAGE, File};
use crate::output::names::{ADAPTER_PATH, IMAGE_ENCODER, IMAGE_URL, IP_ADAPTER, MASK_URL};
use crate::output::problem::Problem;
use crate::routing::call::Call;
use latentd_request::{AdapterSource, IP_ADAPTER_SCALE, IpAdapterRef};
use serde_json::Value;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{AnyOfBuilder, ObjectBuilder, RefBuilder, Schema, Type};

/// Of the field.
pub(crate) const NAME: &str = IP_ADAPTER;

/// The schema of its object, which the document names so, as fal's does.
pub(crate) const OBJECT: &str = "IPAdapter";

/// A network of the field, and which file of a repository it is.
struct Network {
    path: &'static str,
    subfolder: &'static str,
    weight_name: &'static str,
    /// What diffusers and transformers call the file.
    usual: &'static str,
    about: &'static str,
}

const ADAPTER: Network = Network {
    path: ADAPTER_PATH,
    subfolder: "subfolder",
    weight_name: "weight_name",
    usual: "ip-adapter.safetensors",
    about: "The IP-Adapter: `owner/name` on the Hugging Face hub, a `.safetensors` file: a URL that this server can reach, that \
            of a file sent to it, or a data URI of up to 10 MiB, or a name that the operator gave an IP-Adapter.",
};

const ENCODER: Network = Network {
    path: IMAGE_ENCODER,
    subfolder: "image_encoder_subfolder",
    weight_name: "image_encoder_weight_name",
    usual: "model.safetensors",
    about: "The SigLIP that the IP-Adapter was trained with: `owner/name` on the Hugging Face hub, or the name that the \
            operator gave the IP-Adapter.",
};

const IMAGE: File = File {
    name: IMAGE_URL,
    about: "The image prompt, of any size: a file as for image-to-image.",
    example: EXAMPLE_IMAGE,
};

const SCALE: Ranged<f64> = Ranged {
    name: "scale",
    about: "What the outputs of the IP-Adapter's attentions are multiplied by before they are added to the model's.",
    default: 0.0,
    range: IP_ADAPTER_SCALE,
};

/// The schema of the field.
pub(crate) fn field_schema() -> RefOr<Schema> {
    let about = "An IP-Adapter of this model, which gives the images content and style of an image prompt.";
    let object = RefBuilder::new().ref_location_from_schema_name(OBJECT);
    AnyOfBuilder::new().item(object).item(null()).description(Some(about)).into()
}

/// The schema of its object; `names` are those of the operator's.
pub(crate) fn object_schema(names: &[String]) -> ObjectBuilder {
    let object = ObjectBuilder::new().title(Some(OBJECT));
    let object =
        [ADAPTER, ENCODER].into_iter().fold(object, |object, network| network.describe(object, names));
    let scale = of_type(Type::Number, SCALE.about);
    let scale = scale.minimum(Some(*SCALE.range.start())).maximum(Some(*SCALE.range.end()));
    with_fields(object, &[&IMAGE]).property(SCALE.name, scale).required(SCALE.name)
}

/// The IP-Adapter of a request; `names` are those of the operator's.
pub(crate) fn read(fields: &mut Fields<'_>, call: &Call, names: &[String]) -> Option<IpAdapterRef> {
    let map = match fields.value(NAME)? {
        Value::Null => return None,
        Value::Object(map) if map.is_empty() => return None,
        Value::Object(map) => map,
        other => {
            let words = "Input should be a valid dictionary or object to extract fields from";
            fields.refuse(Problem::at(&[NAME], "model_attributes_type", words, other));
            return None;
        }
    };
    let mut inner = Fields::below(NAME, map);
    let (name, source) = ADAPTER.read(&mut inner, call, names);
    let (encoder_name, encoder) = ENCODER.read(&mut inner, call, names);
    let encoder = encoder.filter(|encoder| is_whole(&mut inner, encoder));
    let image = IMAGE.read(&mut inner, call);
    if inner.value(SCALE.name).is_none() {
        inner.refuse(inner.missing(SCALE.name));
    }
    let scale = SCALE.read(&mut inner);
    if inner.value(MASK_URL).is_some_and(|mask| !mask.is_null()) {
        let words = format!(
            "{MASK_URL} is not supported: IP-Adapters of Stable Diffusion 3.5 have no masks, neither here nor in diffusers"
        );
        inner.refuse(inner.problem(MASK_URL, "feature_not_supported", words));
    }
    fields.absorb(inner);
    let (source, encoder, image) = (source?, encoder?, image?);
    Some(IpAdapterRef { name, source, encoder_name, encoder, image, scale })
}

/// Whether this is all of an image encoder: a file alone has no config.
fn is_whole(inner: &mut Fields<'_>, encoder: &AdapterSource) -> bool {
    let is_file = matches!(encoder, AdapterSource::File(_));
    if is_file {
        let words = "An image encoder is three files, config.json, preprocessor_config.json and its weights: give `owner/name` \
                     of the Hugging Face hub, such as google/siglip-so400m-patch14-384";
        inner.refuse(inner.problem(IMAGE_ENCODER, "value_error", words));
    }
    !is_file
}

impl Network {
    fn describe(self, object: ObjectBuilder, names: &[String]) -> ObjectBuilder {
        let optional = |about: String| {
            let text = ObjectBuilder::new().schema_type(Type::String);
            AnyOfBuilder::new().item(text).item(null()).description(Some(about))
        };
        let Self { path, subfolder, weight_name, usual, about } = self;
        let object = object.property(path, adapter_path::schema(about, names)).required(path);
        let object =
            object.property(subfolder, optional(format!("The folder of the repository of `{path}`.")));
        let about = format!("The file of the repository of `{path}`, `{usual}` where it is left out.");
        object.property(weight_name, optional(about))
    }

    /// What messages call it, and where it is, unless that is a problem.
    fn read(&self, inner: &mut Fields<'_>, call: &Call, names: &[String]) -> (String, Option<AdapterSource>) {
        let (name, source) = adapter_path::read(inner, self.path, call, names);
        let given = [self.subfolder, self.weight_name].map(|field| optional(inner, field));
        match source {
            Some(AdapterSource::Hub { repository, file: None }) => {
                let source = self.in_repository(inner, &repository, given);
                (name, source)
            }
            source => (name, source),
        }
    }

    /// The file of a repository.
    fn in_repository(
        &self,
        inner: &mut Fields<'_>,
        repository: &str,
        [folder, file]: [Option<&str>; 2],
    ) -> Option<AdapterSource> {
        let name = file.unwrap_or(self.usual);
        let path = [Some(repository), folder, Some(name)].into_iter().flatten().collect::<Vec<_>>().join("/");
        let source = AdapterSource::on_hub(&path);
        if source.is_none() {
            let (field, words) = if file.is_some_and(|file| !file.ends_with(".safetensors")) {
                let words = "Input should be a .safetensors file: any other may be a pickle, and to open a pickle is to run the \
                             program inside it";
                (self.weight_name, words)
            } else if folder.is_some() {
                (self.subfolder, "Input should be a folder of the repository")
            } else {
                (self.weight_name, "Input should be a file of the repository")
            };
            inner.refuse(inner.problem(field, "value_error", words));
        }
        source
    }
}

/// A text that may be left out, be null or be empty.
fn optional<'a>(inner: &mut Fields<'a>, field: &'static str) -> Option<&'a str> {
    match inner.value(field) {
        None | Some(Value::Null) => None,
        Some(_) => Some(inner.text(field, None).trim_matches('/')).filter(|text| !text.is_empty()),
    }
}
