//! Which files of a repository a model needs to run.

use crate::error::HubError;
use serde_json::Value;
use std::collections::BTreeSet;

/// The pipeline that latentd runs.
const PIPELINE: &str = "StableDiffusion3Pipeline";

/// Names the pipeline of a repository, and its folders.
pub(crate) const INDEX: &str = "model_index.json";

/// diffusers' name of an adapter.
const DIFFUSERS_ADAPTER: &str = "pytorch_lora_weights.safetensors";

/// Small files that configure a part, each where it is there.
const CONFIG_FILES: &[&str] = &[
    "added_tokens.json",
    "config.json",
    "merges.txt",
    "preprocessor_config.json",
    "scheduler_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
];

/// Which files of a repository are needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Files {
    /// Those of a pipeline in the diffusers layout. `published` is the list of a published model, which is preferred
    /// as long as the repository has all of it; else it is empty.
    Pipeline {
        /// Paths in the repository.
        published: Vec<String>,
    },
    /// These paths.
    Listed(Vec<String>),
    /// One LoRA adapter.
    Adapter {
        /// Its path; `None`: diffusers' name of one, or the only `.safetensors` file at the top.
        file: Option<String>,
        /// Most bytes that it may have to be downloaded.
        max_bytes: u64,
    },
}

/// The files of a repository or directory that are needed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    /// Paths that exist.
    pub(crate) paths: BTreeSet<String>,
    /// Paths that are needed and do not exist.
    pub(crate) missing: Vec<String>,
}

impl Files {
    /// Those of a pipeline of which no list was published.
    pub fn pipeline() -> Self {
        Self::Pipeline { published: Vec::new() }
    }

    /// Selects among the paths of a repository or directory; `index` is its `model_index.json`, if it has one.
    pub(crate) fn select(
        &self,
        repository: &str,
        index: Option<&[u8]>,
        paths: &BTreeSet<String>,
    ) -> Result<Selection, HubError> {
        let published = match self {
            Self::Listed(files) => return Ok(all_of(files.iter().cloned(), paths)),
            Self::Adapter { file, .. } => {
                let file = match file {
                    Some(file) => file.clone(),
                    None => adapter(paths)
                        .map_err(|why| HubError::NoAdapter { repository: repository.into(), why })?,
                };
                return Ok(all_of([file].into_iter(), paths));
            }
            Self::Pipeline { published } => published,
        };
        let Some(index) = index else {
            return Ok(Selection { missing: vec![INDEX.into()], ..Selection::default() });
        };
        let parts =
            parts(index).map_err(|why| HubError::NotRunnable { repository: repository.into(), why })?;
        // A repository may be reorganised after its list was published.
        match all_of(published.iter().cloned(), paths) {
            selection if !published.is_empty() && selection.missing.is_empty() => Ok(selection),
            _ => Ok(of_pipeline(&parts, paths)),
        }
    }
}

/// The adapter of a repository that is named without a file.
fn adapter(paths: &BTreeSet<String>) -> Result<String, String> {
    if paths.contains(DIFFUSERS_ADAPTER) {
        return Ok(DIFFUSERS_ADAPTER.into());
    }
    let top: Vec<&String> =
        paths.iter().filter(|path| path.ends_with(".safetensors") && !path.contains('/')).collect();
    match top.as_slice() {
        [only] => Ok((*only).clone()),
        [] => Err(
            "it has no .safetensors file at its top: name the file, as in owner/name/folder/file.safetensors"
                .into(),
        ),
        [first, ..] => {
            Err(format!("it has {} .safetensors files: name one, as in owner/name/{first}", top.len()))
        }
    }
}

fn all_of(files: impl Iterator<Item = String>, paths: &BTreeSet<String>) -> Selection {
    let (existing, missing): (BTreeSet<_>, BTreeSet<_>) = files.partition(|path| paths.contains(path));
    Selection { paths: existing, missing: missing.into_iter().collect() }
}

/// The folders of a pipeline, if it is one that can be run.
fn parts(index: &[u8]) -> Result<Vec<String>, String> {
    let index: Value = serde_json::from_slice(index).map_err(|error| format!("{INDEX}: {error}"))?;
    match index["_class_name"].as_str() {
        Some(PIPELINE) => {}
        Some(other) => return Err(format!("it is a {other}, and latentd runs {PIPELINE}s")),
        None => return Err(format!("{INDEX} names no pipeline, and latentd runs {PIPELINE}s")),
    }
    let parts = index.as_object().into_iter().flatten();
    // A part is `["library", "Class"]`, and `[null, null]` where there is none.
    let is_part = |value: &Value| value.as_array().is_some_and(|pair| pair.iter().all(Value::is_string));
    // No adapter is run, so the encoder of its images is not needed.
    let parts = parts.filter(|(name, value)| is_part(value) && *name != "image_encoder");
    Ok(parts.map(|(name, _)| name.clone()).filter(|name| !name.contains(['/', '.'])).collect())
}

fn of_pipeline(parts: &[String], paths: &BTreeSet<String>) -> Selection {
    let mut selection = all_of([INDEX.to_owned()].into_iter(), paths);
    for part in parts {
        let settings =
            CONFIG_FILES.iter().map(|name| format!("{part}/{name}")).filter(|path| paths.contains(path));
        selection.paths.extend(settings);
        let needed = match part.as_str() {
            "scheduler" => vec![format!("{part}/scheduler_config.json")],
            "feature_extractor" => vec![format!("{part}/preprocessor_config.json")],
            name if name.starts_with("tokenizer") => tokenizer(part, paths),
            _ => weights(part, paths),
        };
        let needed = all_of(needed.into_iter(), paths);
        selection.paths.extend(needed.paths);
        selection.missing.extend(needed.missing);
    }
    selection
}

/// The files that a tokenizer cannot do without.
fn tokenizer(part: &str, paths: &BTreeSet<String>) -> Vec<String> {
    let separate = ["vocab.json", "merges.txt"].map(|name| format!("{part}/{name}"));
    if separate.iter().any(|path| paths.contains(path)) {
        return separate.into();
    }
    vec![format!("{part}/tokenizer.json")]
}

/// The weights of a part in full precision, in one file or in shards with their index, and its configuration.
fn weights(part: &str, paths: &BTreeSet<String>) -> Vec<String> {
    let stem = match part {
        "transformer" | "vae" => "diffusion_pytorch_model",
        _ => "model",
    };
    let config = format!("{part}/config.json");
    let whole = format!("{part}/{stem}.safetensors");
    let shard = paths.iter().find_map(|path| shards(path.strip_prefix(&format!("{part}/{stem}-"))?));
    let Some(count) = shard.filter(|_| !paths.contains(&whole)) else {
        return vec![config, whole];
    };
    let shards = (1..=count).map(|n| format!("{part}/{stem}-{n:05}-of-{count:05}.safetensors"));
    [config, format!("{whole}.index.json")].into_iter().chain(shards).collect()
}

/// The number of shards that a file is one of: the 2 of `00001-of-00002.safetensors`.
fn shards(name: &str) -> Option<u32> {
    let (number, count) = name.strip_suffix(".safetensors")?.split_once("-of-")?;
    let five = |digits: &str| (digits.len() == 5).then(|| digits.parse().ok()).flatten();
    five(number)?;
    five(count).filter(|count| *count <= 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SD3: &str = r#"{
        "_class_name": "StableDiffusion3Pipeline", "_diffusers_version": "0.30.0",
        "image_encoder": [null, null], "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
        "text_encoder_3": ["transformers", "T5EncoderModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_3": ["transformers", "T5TokenizerFast"],
        "transformer": ["diffusers", "SD3Transformer2DModel"], "vae": ["diffusers", "AutoencoderKL"]
    }"#;

    /// The files of a fine-tune, needed and not.
    const ALL: &[&str] = &[
        ".gitattributes",
        "README.md",
        "model_index.json",
        "sd3.5_large.safetensors",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.fp16.safetensors",
        "text_encoder/model.safetensors",
        "text_encoder/pytorch_model.bin",
        "text_encoder_3/config.json",
        "text_encoder_3/model-00001-of-00002.safetensors",
        "text_encoder_3/model-00002-of-00002.safetensors",
        "text_encoder_3/model.fp16-00001-of-00002.safetensors",
        "text_encoder_3/model.fp16-00002-of-00002.safetensors",
        "text_encoder_3/model.safetensors.index.fp16.json",
        "text_encoder_3/model.safetensors.index.json",
        "text_encoders/clip_l.safetensors",
        "tokenizer/merges.txt",
        "tokenizer/special_tokens_map.json",
        "tokenizer/tokenizer_config.json",
        "tokenizer/vocab.json",
        "tokenizer_3/spiece.model",
        "tokenizer_3/tokenizer.json",
        "tokenizer_3/tokenizer_config.json",
        "transformer/config.json",
        "transformer/diffusion_pytorch_model.fp16.safetensors",
        "transformer/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ];

    fn set(paths: &[&str]) -> BTreeSet<String> {
        paths.iter().map(|path| (*path).to_owned()).collect()
    }

    fn select(repository: &str, index: &str, paths: &[&str]) -> Result<Selection, String> {
        let selected = Files::pipeline().select(repository, Some(index.as_bytes()), &set(paths));
        selected.map_err(|error| error.to_string())
    }

    #[test]
    fn a_pipeline_is_its_folders_in_full_precision() {
        let unneeded = |path: &&str| {
            path.contains("fp16")
                || path.ends_with(".bin")
                || path.starts_with("text_encoders/")
                || [".gitattributes", "README.md", "sd3.5_large.safetensors", "tokenizer_3/spiece.model"]
                    .contains(path)
        };
        let needed: Vec<&str> = ALL.iter().copied().filter(|path| !unneeded(path)).collect();
        let selection = select("me/mine", SD3, ALL).expect("a model");
        assert_eq!(selection, Selection { paths: set(&needed), missing: Vec::new() });
        for lost in &needed {
            let rest: Vec<&str> = ALL.iter().copied().filter(|path| path != lost).collect();
            let optional =
                lost.ends_with("tokenizer_config.json") || lost.ends_with("special_tokens_map.json");
            let missing = select("me/mine", SD3, &rest).expect("a model").missing;
            assert_eq!(missing.is_empty(), optional, "{lost}: {missing:?}");
        }
    }

    #[test]
    fn half_precision_alone_is_not_enough() {
        let half: Vec<&str> =
            ALL.iter().copied().filter(|path| *path != "vae/diffusion_pytorch_model.safetensors").collect();
        assert_eq!(
            select("me/mine", SD3, &half).expect("a model").missing,
            ["vae/diffusion_pytorch_model.safetensors"]
        );
    }

    #[test]
    fn a_published_list_is_preferred_while_the_repository_has_all_of_it() {
        let listed = ["model_index.json", "text_encoder_3/model-00001-of-00002.safetensors"];
        let files = Files::Pipeline { published: listed.map(str::to_owned).into() };
        let select =
            |paths: &BTreeSet<String>| files.select("me/mine", Some(SD3.as_bytes()), paths).expect("a model");
        let mut paths = set(ALL);
        assert_eq!(select(&paths), Selection { paths: set(&listed), missing: Vec::new() });
        paths.remove("text_encoder_3/model-00001-of-00002.safetensors");
        paths.remove("text_encoder_3/model-00002-of-00002.safetensors");
        paths.insert("text_encoder_3/model.safetensors".into());
        let selection = select(&paths);
        assert!(selection.missing.is_empty() && selection.paths.contains("text_encoder_3/model.safetensors"));
        assert!(selection.paths.contains("vae/config.json"));
    }

    #[test]
    fn another_pipeline_is_refused_by_name() {
        let flux = SD3.replace("StableDiffusion3Pipeline", "FluxPipeline");
        let refusal = select("me/flux", &flux, ALL).expect_err("a refusal");
        assert_eq!(
            refusal,
            "me/flux cannot be run: it is a FluxPipeline, and latentd runs StableDiffusion3Pipelines"
        );
        assert!(select("me/odd", "{}", ALL).expect_err("a refusal").contains("names no pipeline"));
        assert!(select("me/odd", "[", ALL).expect_err("a refusal").contains("model_index.json: EOF"));
    }

    #[test]
    fn a_list_is_taken_as_it_is() {
        let listed = ["config.json", "model.safetensors", "preprocessor_config.json"];
        let files = Files::Listed(listed.map(str::to_owned).into());
        let paths = set(&["config.json", "model.safetensors", "pytorch_model.bin"]);
        let selection = files.select("me/classifier", None, &paths).expect("a selection");
        assert_eq!(selection.paths, set(&["config.json", "model.safetensors"]));
        assert_eq!(selection.missing, ["preprocessor_config.json"]);
    }
}
