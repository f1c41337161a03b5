//! What lies in a file or directory of weights, from its headers and config files alone.

use crate::checkpoint::{Component, Header, StoredPart, kind, weights_in};
use crate::config::{Configs, TransformerConfig};
use crate::files::ModelFiles;
use crate::target::Target;
use crate::weight_file::TensorHeader;
use crate::weights::Weights;
use crate::{Error, Manifest, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    /// What it is, for display.
    pub what: String,
    /// How its tensors are named and arranged.
    pub layout: Layout,
    /// Networks of Stable Diffusion 3.5 in the order in which they are used.
    pub parts: Vec<InspectedPart>,
    /// What it lacks, each with what that means; it runs when nothing in here is required.
    pub missing: Vec<Missing>,
}

/// How weights are arranged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// Folders of files, as diffusers has them.
    Diffusers,
    /// Files as the models' makers and other programs have them.
    Original,
    /// Neither.
    Unknown,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InspectedPart {
    /// `transformer`, `VAE`, `CLIP-L`, `CLIP-G` or `T5`.
    pub name: String,
    /// The file or folder that it is in.
    pub place: PathBuf,
    /// How many tensors it has.
    pub tensors: usize,
    /// Values of all its tensors.
    pub parameters: u64,
    /// Bytes of them on disk.
    pub bytes: u64,
    /// Parameters by the precision in which they are stored: `BF16`, `F8_E4M3`, …
    pub dtypes: BTreeMap<String, u64>,
}

/// Something that is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// What is missing.
    pub what: String,
    /// The network, where a checkpoint lacks a whole one and a directory of text encoders could have it.
    #[serde(skip)]
    pub component: Option<Component>,
    /// Whether nothing can be generated without it.
    pub required: bool,
}

/// Looks at a file or directory.
///
/// # Errors
/// It cannot be read, or is no file of weights; says what it is instead, if that is known.
pub fn inspect(path: &Path) -> Result<Inspection> {
    if path.join("model_index.json").is_file() {
        return directory(path);
    }
    if !path.is_dir() {
        let header = Arc::new(Header::read(path)?);
        return Ok(original(&StoredPart::all(path, &header), kind(&header)));
    }
    let files = weights_in(path)?;
    if files.is_empty() {
        let path = path.display();
        return Err(Error::Model(format!(
            "{path} has no model_index.json and no .safetensors or .gguf file: it holds no model"
        )));
    }
    let mut parts = Vec::new();
    for file in &files {
        parts.extend(StoredPart::all(file, &Arc::new(Header::read(file)?)));
    }
    let what =
        if parts.is_empty() { "files that latentd does not know" } else { "text encoders for a checkpoint" };
    Ok(original(&parts, what))
}

/// Files in the original layout; without a transformer they are `other`.
fn original(found: &[StoredPart], other: &str) -> Inspection {
    let mut parts: Vec<_> =
        found.iter().map(|part| (part.part(), inspected(part.part(), &part.file, part.stored()))).collect();
    parts.sort_by_key(|(part, _)| *part);
    let transformer = found.iter().find(|part| part.part() == Component::Transformer);
    let is_there = |part: &Component| found.iter().any(|other| other.part() == *part);
    let missing = |part: Component| Missing {
        what: format!("no {part}"),
        component: Some(part),
        required: part != Component::T5,
    };
    let missing = Component::OF_MODEL
        .into_iter()
        .filter(|part| transformer.is_some() && !is_there(part))
        .map(missing)
        .collect();
    let what = match transformer.map(StoredPart::config) {
        None => other.to_owned(),
        Some(config) => {
            match config.and_then(|config| serde_json::from_value(config).map_err(|e| e.to_string())) {
                Ok(config) => named(&config),
                Err(why) => format!("{other} that is damaged ({why})"),
            }
        }
    };
    let layout = if found.is_empty() { Layout::Unknown } else { Layout::Original };
    Inspection { what, layout, parts: parts.into_iter().map(|(_, part)| part).collect(), missing }
}

/// A directory in the diffusers layout.
fn directory(dir: &Path) -> Result<Inspection> {
    let files = ModelFiles::directory(dir)?;
    let (mut parts, mut missing) = (Vec::new(), Vec::new());
    let configs = Configs::read(&files);
    let what = match &configs {
        Ok(configs) => named(&configs.transformer),
        Err(error) => {
            missing.push(Missing { what: error.to_string(), component: None, required: true });
            "a model in the diffusers layout".into()
        }
    };
    for part in Component::OF_MODEL {
        if part == Component::T5 && configs.as_ref().is_ok_and(|configs| !configs.index.has_t5()) {
            missing.push(Missing { what: format!("no {part}"), component: Some(part), required: false });
            continue;
        }
        let stem = if matches!(part, Component::Transformer | Component::Vae) {
            "diffusion_pytorch_model"
        } else {
            "model"
        };
        match Weights::open(&files, part.folder(), stem, &Target::host()) {
            Ok(weights) => parts.push(inspected(part, &dir.join(part.folder()), weights.stored())),
            Err(error) => missing.push(Missing { what: error.to_string(), component: None, required: true }),
        }
    }
    Ok(Inspection { what, layout: Layout::Diffusers, parts, missing })
}

fn inspected(part: Component, place: &Path, tensors: Vec<TensorHeader>) -> InspectedPart {
    let mut found = InspectedPart {
        name: part.to_string(),
        place: place.to_path_buf(),
        tensors: tensors.len(),
        parameters: 0,
        bytes: 0,
        dtypes: BTreeMap::new(),
    };
    for TensorHeader { shape, dtype, bytes, .. } in tensors {
        let parameters: u64 = shape.iter().map(|side| *side as u64).product();
        found.parameters += parameters;
        found.bytes += bytes;
        *found.dtypes.entry(dtype.to_string()).or_default() += parameters;
    }
    found
}

/// What a transformer belongs to. The weights of Large and Large Turbo have the same shapes.
fn named(config: &TransformerConfig) -> String {
    let (blocks, width) = (config.num_layers, config.width());
    let size = format!("{blocks} blocks, {width} wide");
    if config.qk_norm.is_none() {
        return format!("Stable Diffusion 3 ({size})");
    }
    let titles: Vec<_> = Manifest::all().iter().filter(|manifest| manifest.blocks == blocks).collect();
    match titles.iter().map(|manifest| manifest.title.as_str()).collect::<Vec<_>>().join(" or ") {
        none if none.is_empty() => format!("a model like Stable Diffusion 3.5 ({size})"),
        titles => format!("{titles} ({size})"),
    }
}

impl Inspection {
    /// Whether images can be generated with nothing else.
    pub fn runs(&self) -> bool {
        let is_transformer = |part: &InspectedPart| part.name == Component::Transformer.to_string();
        self.parts.iter().any(is_transformer) && !self.missing.iter().any(|missing| missing.required)
    }
}
