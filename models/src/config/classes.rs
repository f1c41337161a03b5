//! Which classes of diffusers and transformers latentd implements. A directory that names another one is refused: its
//! config would often be read without complaint, and the images would be others than diffusers'.

use crate::error::one_line;
use serde_json::Value;

/// A component of `model_index.json`.
struct Component {
    name: &'static str,
    library: &'static str,
    /// What `model_index.json` may name.
    classes: &'static [&'static str],
}

const COMPONENTS: [Component; 9] = [
    component("scheduler", "diffusers", &["FlowMatchEulerDiscreteScheduler"]),
    component("transformer", "diffusers", &["SD3Transformer2DModel"]),
    component("vae", "diffusers", &["AutoencoderKL"]),
    component("text_encoder", "transformers", CLIP),
    component("text_encoder_2", "transformers", CLIP),
    component("text_encoder_3", "transformers", &["T5EncoderModel"]),
    component("tokenizer", "transformers", CLIP_TOKENIZER),
    component("tokenizer_2", "transformers", CLIP_TOKENIZER),
    component("tokenizer_3", "transformers", &["T5TokenizerFast", "T5Tokenizer"]),
];

const CLIP: &[&str] = &["CLIPTextModelWithProjection"];
const CLIP_TOKENIZER: &[&str] = &["CLIPTokenizer", "CLIPTokenizerFast"];

/// What transformers calls the architectures of the text encoders, in `model_type`.
const MODEL_TYPES: [(&str, &[&str]); 3] = [
    ("text_encoder", &["clip_text_model"]),
    ("text_encoder_2", &["clip_text_model"]),
    ("text_encoder_3", &["t5"]),
];

const fn component(name: &'static str, library: &'static str, classes: &'static [&'static str]) -> Component {
    Component { name, library, classes }
}

/// Refuses a `model_index.json` in which a component is of another class. A component that is absent or null is not
/// looked at.
pub(super) fn check_index(index: &Value) -> Result<(), String> {
    for Component { name, library, classes } in &COMPONENTS {
        let Some([Value::String(from), Value::String(class)]) = index[name].as_array().map(Vec::as_slice)
        else {
            continue;
        };
        if from != library || !classes.contains(&class.as_str()) {
            let from = if from == library { String::new() } else { format!("{from}.") };
            return Err(refusal(name, &format!("{from}{class}"), classes[0]));
        }
    }
    Ok(())
}

/// Refuses the config file of the component in `folder` if it is that of another class, or of weights in a format that
/// latentd does not read.
pub(super) fn check_config(folder: &str, config: &Value) -> Result<(), String> {
    if let Some(method) = config.get("quantization_config").filter(|value| !value.is_null()) {
        let method = method["quant_method"].as_str().or(method["quant_type"].as_str()).unwrap_or("unknown");
        return Err(format!(
            "the weights are quantized by the method \"{}\" (quantization_config), which latentd does not read: use \
             the model's files that are not quantized",
            one_line(method, 40)
        ));
    }
    let classes = COMPONENTS.iter().find(|component| component.name == folder).map(|found| found.classes);
    let types = MODEL_TYPES.iter().find(|(name, _)| *name == folder).map(|(_, types)| *types);
    for (key, known) in [("_class_name", classes), ("model_type", types)] {
        if let (Some(class), Some(known)) = (config[key].as_str(), known)
            && !known.contains(&class)
        {
            return Err(refusal(folder, class, known[0]));
        }
    }
    Ok(())
}

fn refusal(component: &str, class: &str, known: &str) -> String {
    format!(
        "{component} is a {}, and latentd runs {known} there: use the {component} of Stable Diffusion 3.5's own \
         repository",
        one_line(class, 80)
    )
}
