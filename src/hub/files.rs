//! Which files of a repository make a model that can be run.

use super::error::HubError;
use latentd_models::{ClassifierManifest, Manifest};
use serde_json::Value;
use std::collections::BTreeSet;

/// The pipeline that latentd runs.
const PIPELINE: &str = "StableDiffusion3Pipeline";

/// Says which pipeline a repository is, and of which folders.
pub(super) const INDEX: &str = "model_index.json";

/// Small files that a part may have and that say how it works.
const SETTINGS: &[&str] = &[
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

/// Which files are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Files {
    /// Those of a pipeline in the diffusers layout.
    Pipeline,
    /// These.
    Listed(Vec<String>),
}

/// What is wanted of a repository.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Selection {
    /// Paths that are there.
    pub(super) paths: BTreeSet<String>,
    /// What should be there, too, and is not.
    pub(super) missing: Vec<String>,
}

impl Files {
    /// What is wanted of a repository.
    pub(super) fn of(repository: &str) -> Self {
        match ClassifierManifest::find(repository) {
            Some(manifest) => Self::Listed(manifest.files.keys().cloned().collect()),
            None => Self::Pipeline,
        }
    }

    /// Chooses among the paths of a repository or directory; `index` is its `model_index.json`, if it has one.
    pub(super) fn choose(
        &self,
        repository: &str,
        index: Option<&[u8]>,
        paths: &BTreeSet<String>,
    ) -> Result<Selection, HubError> {
        let listed = match self {
            Self::Listed(files) => return Ok(all_of(files.iter().cloned(), paths)),
            Self::Pipeline => Manifest::find(repository).map(|manifest| manifest.files.keys().cloned()),
        };
        let Some(index) = index else {
            return Ok(Selection { missing: vec![INDEX.into()], ..Selection::default() });
        };
        let parts =
            parts(index).map_err(|why| HubError::NotRunnable { repository: repository.into(), why })?;
        let by_manifest = listed.map(|files| all_of(files, paths));
        // A repository may be laid out anew after its manifest was written.
        match by_manifest.filter(|selection| selection.missing.is_empty()) {
            Some(selection) => Ok(selection),
            None => Ok(of_pipeline(&parts, paths)),
        }
    }
}

fn all_of(files: impl Iterator<Item = String>, paths: &BTreeSet<String>) -> Selection {
    let (there, missing): (BTreeSet<_>, BTreeSet<_>) = files.partition(|path| paths.contains(path));
    Selection { paths: there, missing: missing.into_iter().collect() }
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
    // Nothing is done with what describes pictures to an adapter.
    let parts = parts.filter(|(name, value)| is_part(value) && *name != "image_encoder");
    Ok(parts.map(|(name, _)| name.clone()).filter(|name| !name.contains(['/', '.'])).collect())
}

fn of_pipeline(parts: &[String], paths: &BTreeSet<String>) -> Selection {
    let mut selection = all_of([INDEX.to_owned()].into_iter(), paths);
    for part in parts {
        let settings =
            SETTINGS.iter().map(|name| format!("{part}/{name}")).filter(|path| paths.contains(path));
        selection.paths.extend(settings);
        let needed = match part.as_str() {
            "scheduler" => vec![format!("{part}/scheduler_config.json")],
            "feature_extractor" => vec![format!("{part}/preprocessor_config.json")],
            tokenizer if tokenizer.starts_with("tokenizer") => words(part, paths),
            _ => weights(part, paths),
        };
        let needed = all_of(needed.into_iter(), paths);
        selection.paths.extend(needed.paths);
        selection.missing.extend(needed.missing);
    }
    selection
}

/// What a tokenizer cannot do without.
fn words(part: &str, paths: &BTreeSet<String>) -> Vec<String> {
    let apart = ["vocab.json", "merges.txt"].map(|name| format!("{part}/{name}"));
    if apart.iter().any(|path| paths.contains(path)) {
        return apart.into();
    }
    vec![format!("{part}/tokenizer.json")]
}

/// The weights of a part in full precision, whole or in pieces with their index, and its configuration.
fn weights(part: &str, paths: &BTreeSet<String>) -> Vec<String> {
    let stem = match part {
        "transformer" | "vae" => "diffusion_pytorch_model",
        _ => "model",
    };
    let config = format!("{part}/config.json");
    let whole = format!("{part}/{stem}.safetensors");
    let piece = paths.iter().find_map(|path| pieces(path.strip_prefix(&format!("{part}/{stem}-"))?));
    let Some(count) = piece.filter(|_| !paths.contains(&whole)) else {
        return vec![config, whole];
    };
    let pieces = (1..=count).map(|n| format!("{part}/{stem}-{n:05}-of-{count:05}.safetensors"));
    [config, format!("{whole}.index.json")].into_iter().chain(pieces).collect()
}

/// Of how many pieces a file is one: the 2 of `00001-of-00002.safetensors`.
fn pieces(name: &str) -> Option<u32> {
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

    /// Everything that an own fine-tune may have beside what is needed.
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

    fn choose(repository: &str, index: &str, paths: &[&str]) -> Result<Selection, String> {
        let chosen = Files::Pipeline.choose(repository, Some(index.as_bytes()), &set(paths));
        chosen.map_err(|error| error.to_string())
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
        let selection = choose("me/mine", SD3, ALL).expect("a model");
        assert_eq!(selection, Selection { paths: set(&needed), missing: Vec::new() });
        for lost in &needed {
            let rest: Vec<&str> = ALL.iter().copied().filter(|path| path != lost).collect();
            let optional =
                lost.ends_with("tokenizer_config.json") || lost.ends_with("special_tokens_map.json");
            let missing = choose("me/mine", SD3, &rest).expect("a model").missing;
            assert_eq!(missing.is_empty(), optional, "{lost}: {missing:?}");
        }
    }

    #[test]
    fn half_precision_alone_is_not_enough() {
        let half: Vec<&str> =
            ALL.iter().copied().filter(|path| *path != "vae/diffusion_pytorch_model.safetensors").collect();
        assert_eq!(
            choose("me/mine", SD3, &half).expect("a model").missing,
            ["vae/diffusion_pytorch_model.safetensors"]
        );
    }

    #[test]
    fn a_manifest_says_what_is_needed_while_the_repository_has_it() {
        let manifest = &Manifest::all()[0];
        let mut paths: BTreeSet<String> = manifest.files.keys().cloned().collect();
        paths.insert(manifest.single_file.clone());
        paths.insert("tokenizer/special_tokens_map.json".into());
        let chosen = |paths: &BTreeSet<String>| {
            let chosen =
                Files::of(&manifest.repository).choose(&manifest.repository, Some(SD3.as_bytes()), paths);
            chosen.expect("a model")
        };
        let selection = chosen(&paths);
        assert!(selection.missing.is_empty() && selection.paths.iter().eq(manifest.files.keys()));
        paths.remove("text_encoder_3/model-00001-of-00002.safetensors");
        paths.remove("text_encoder_3/model-00002-of-00002.safetensors");
        paths.insert("text_encoder_3/model.safetensors".into());
        let selection = chosen(&paths);
        assert!(selection.missing.is_empty() && selection.paths.contains("text_encoder_3/model.safetensors"));
    }

    #[test]
    fn another_pipeline_is_refused_by_name() {
        let flux = SD3.replace("StableDiffusion3Pipeline", "FluxPipeline");
        let refusal = choose("me/flux", &flux, ALL).expect_err("a refusal");
        assert_eq!(
            refusal,
            "me/flux cannot be run: it is a FluxPipeline, and latentd runs StableDiffusion3Pipelines"
        );
        assert!(choose("me/odd", "{}", ALL).expect_err("a refusal").contains("names no pipeline"));
        assert!(choose("me/odd", "[", ALL).expect_err("a refusal").contains("model_index.json: EOF"));
    }

    #[test]
    fn a_classifier_is_three_files() {
        let files = Files::of("Falconsai/nsfw_image_detection");
        let paths = set(&["config.json", "model.safetensors", "pytorch_model.bin"]);
        let selection = files.choose("Falconsai/nsfw_image_detection", None, &paths).expect("a choice");
        assert_eq!(selection.paths, set(&["config.json", "model.safetensors"]));
        assert_eq!(selection.missing, ["preprocessor_config.json"]);
    }
}
