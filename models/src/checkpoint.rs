//! A checkpoint in the original layout: one file with the transformer and the VAE, and text encoders inside it or in other files.
//!
//! It is read as a directory in the diffusers layout: config files come from its tensors' shapes, tokenizers from the
//! program, and tensors under the names that diffusers gives them.

mod components;
mod configs;
mod encoders;
mod header;
mod names;
mod quantized_formats;
#[cfg(test)]
mod tests;
mod tokenizers;

use crate::content::{Content, Directory};
use crate::weight_file::TensorHeader;
use crate::{Error, Result};
pub use components::Component;
pub(crate) use components::{ComponentInFile, kind};
pub(crate) use encoders::weights_in;
pub(crate) use header::Header;
pub(crate) use names::{NamingScheme, RowOrder, TensorLocation, diffusers_parts, transformer_layers};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is known of a checkpoint from headers alone.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    file: PathBuf,
    places: BTreeMap<Component, PartLocation>,
    /// Config files by path.
    configs: BTreeMap<String, Vec<u8>>,
}

/// Where a part is.
#[derive(Debug, Clone)]
enum PartLocation {
    /// In a file in the original layout.
    Stored(StoredPart),
    /// In a directory in the diffusers layout, with its tokenizer.
    Folder(Directory),
}

/// A part inside a file.
#[derive(Debug, Clone)]
pub(crate) struct StoredPart {
    pub(crate) file: PathBuf,
    header: Arc<Header>,
    piece: ComponentInFile,
    /// Prefixes of the other parts of the file.
    others: Vec<String>,
}

impl Checkpoint {
    /// Finds the parts of `file`, and what it lacks of text encoders in the directory `text_encoders`.
    ///
    /// # Errors
    /// Says what the file is if it is no checkpoint, or what is missing and where to find it.
    pub(crate) fn new(file: &Path, text_encoders: Option<&Path>) -> Result<Self> {
        let header = Arc::new(Header::read(file)?);
        quantized_formats::check(file, &header)?;
        let inside = StoredPart::all(file, &header);
        if !inside.iter().any(|part| part.piece.part == Component::Transformer) {
            return Err(Error::Model(format!(
                "{} is {}: give a checkpoint of Stable Diffusion 3.5, such as sd3.5_large.safetensors",
                file.display(),
                components::kind(&header)
            )));
        }
        let mut places: BTreeMap<Component, PartLocation> =
            inside.into_iter().map(|part| (part.piece.part, PartLocation::Stored(part))).collect();
        if let Some(dir) = text_encoders {
            encoders::add(dir, &mut places)?;
        }
        encoders::check(file, text_encoders, &places)?;
        let configs = config_files(&places)?;
        Ok(Self { file: file.to_path_buf(), places, configs })
    }

    /// The files that it is read from, and folders in the diffusers layout.
    pub(crate) fn locations(&self) -> BTreeSet<PathBuf> {
        let of_part = |(part, place): (&Component, &PartLocation)| match place {
            PartLocation::Stored(stored) => vec![stored.file.clone()],
            PartLocation::Folder(directory) => {
                let folder = part.folder();
                let folders = [folder.to_owned(), folder.replace("text_encoder", "tokenizer")];
                folders.into_iter().map(|folder| directory.path().join(folder)).collect()
            }
        };
        self.places.iter().flat_map(of_part).collect()
    }

    /// Where the part is that the diffusers layout has in `folder`.
    fn place(&self, folder: &str) -> Option<&PartLocation> {
        Component::OF_MODEL
            .into_iter()
            .find(|part| part.folder() == folder)
            .and_then(|part| self.places.get(&part))
    }

    /// The part that the diffusers layout has in `folder`, if it is in a file in the original layout.
    pub(crate) fn stored_part(&self, folder: &str) -> Option<&StoredPart> {
        match self.place(folder)? {
            PartLocation::Stored(part) => Some(part),
            PartLocation::Folder(_) => None,
        }
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        match self.folder_of(path) {
            Some(folder) => folder.exists(path),
            None => self.configs.contains_key(path) || tokenizers::PATHS.contains(&path),
        }
    }

    pub(crate) fn has_folder(&self, path: &str) -> bool {
        self.place(path).is_some()
    }

    pub(crate) fn open(&self, path: &str) -> Result<Content> {
        let bytes = match (self.folder_of(path), self.configs.get(path)) {
            (Some(folder), _) => return folder.open(path),
            (None, Some(config)) => config.clone(),
            (None, None) => tokenizers::read(path)?,
        };
        Ok(Content::Bytes(Cow::Owned(bytes)))
    }

    /// A path as users know it: the file that stands for it.
    pub(crate) fn display(&self, path: &str) -> String {
        let part = path.split('/').next().unwrap_or_default();
        match (self.folder_of(path), self.place(part)) {
            (Some(folder), _) => folder.display(path),
            (None, Some(PartLocation::Stored(part))) => part.file.display().to_string(),
            _ => format!("{} ({path})", self.file.display()),
        }
    }

    /// The directory that an encoder or its tokenizer comes from, if one does.
    fn folder_of(&self, path: &str) -> Option<&Directory> {
        let part = path.split('/').next().unwrap_or_default().replace("tokenizer", "text_encoder");
        match self.place(&part) {
            Some(PartLocation::Folder(folder)) => Some(folder),
            _ => None,
        }
    }
}

impl StoredPart {
    /// Every part inside a file.
    pub(crate) fn all(file: &Path, header: &Arc<Header>) -> Vec<Self> {
        let pieces = components::pieces(header);
        let part = |piece: &ComponentInFile| {
            let others =
                pieces.iter().filter(|other| *other != piece).map(|other| other.prefix.clone()).collect();
            Self { file: file.to_path_buf(), header: header.clone(), piece: piece.clone(), others }
        };
        pieces.iter().map(part).collect()
    }

    /// Where diffusers' tensor `name` is, under its full name in the file.
    pub(crate) fn find(&self, name: &str) -> TensorLocation {
        match self.piece.names.find(name) {
            TensorLocation::Stored(name, rows) => {
                TensorLocation::Stored(format!("{}{name}", self.piece.prefix), rows)
            }
            TensorLocation::Identity => TensorLocation::Identity,
        }
    }

    /// What all names of the part begin with.
    pub(crate) fn prefix(&self) -> &str {
        &self.piece.prefix
    }

    /// Full names of the tensors that the part must have a use for.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let is_replaced = |name: &str| {
            self.piece.names.find(name.strip_prefix(self.prefix()).unwrap_or(name))
                == TensorLocation::Identity
        };
        self.header.names().filter(move |name| self.owns(name) && !is_unneeded(name) && !is_replaced(name))
    }

    /// The same tensors, without the part's prefix; the scales of a quantized one count to its bytes.
    pub(crate) fn stored(&self) -> Vec<TensorHeader> {
        let stored = |name: &str| {
            let stored = self.header.get(name)?.clone();
            let bytes = stored.bytes + self.scales(name);
            let name = name.strip_prefix(self.prefix()).unwrap_or(name).to_owned();
            Some(TensorHeader { name, bytes, ..stored })
        };
        self.names().filter(|name| !is_scale(name)).filter_map(stored).collect()
    }

    /// Bytes of the scales of a weight.
    fn scales(&self, weight: &str) -> u64 {
        let Some(layer) = weight.strip_suffix(".weight") else { return 0 };
        let scales = SCALES.iter().filter_map(|scale| self.header.get(&format!("{layer}{scale}")));
        scales.map(|stored| stored.bytes).sum()
    }

    /// Bytes of all its tensors.
    fn bytes(&self) -> u64 {
        self.stored().iter().map(|stored| stored.bytes).sum()
    }

    /// The config file that a directory in the diffusers layout would have.
    ///
    /// # Errors
    /// NamingScheme a tensor that is missing or has another number of dimensions.
    pub(crate) fn config(&self) -> Result<Value, String> {
        configs::of(&self.header, &self.piece)
    }

    pub(crate) fn part(&self) -> Component {
        self.piece.part
    }

    /// A tensor belongs to the part with the longest prefix that it has; one without any to the transformer, which will
    /// not know it.
    pub(crate) fn owns(&self, name: &str) -> bool {
        let longest = self.others.iter().filter(|other| name.starts_with(*other)).map(String::len).max();
        match name.strip_prefix(&self.piece.prefix) {
            Some(name) if self.piece.part == Component::ControlNet => names::is_of_controlnet(name),
            Some(_) => longest.is_none_or(|longest| longest < self.piece.prefix.len()),
            None => longest.is_none() && self.piece.part == Component::Transformer,
        }
    }
}

/// What the names of a quantized weight's scales end with.
const SCALES: [&str; 3] = [".scale_weight", ".weight_scale", ".weight_scale_2"];

fn is_scale(name: &str) -> bool {
    SCALES.iter().any(|scale| name.ends_with(scale))
}

/// What trainers and other programs leave in checkpoints, and no image depends on; and formats, which were read before.
fn is_unneeded(name: &str) -> bool {
    const ENDINGS: [&str; 7] = [
        "logit_scale",
        "position_ids",
        "scaled_fp8",
        ".scale_input",
        ".input_scale",
        ".comfy_quant",
        "model_sampling.sigmas",
    ];
    // A trainer's running average of the weights, under names with points left out, in addition to the weights themselves.
    name.starts_with("model_ema.") || ENDINGS.iter().any(|ending| name.ends_with(ending))
}

fn config_files(places: &BTreeMap<Component, PartLocation>) -> Result<BTreeMap<String, Vec<u8>>> {
    let t5 = places.contains_key(&Component::T5).then_some(["transformers", "T5EncoderModel"]);
    let index = json!({ "_class_name": "StableDiffusion3Pipeline", "text_encoder_3": t5 });
    let mut files = BTreeMap::new();
    let mut add = |path: String, config: Value| files.insert(path, config.to_string().into_bytes());
    add("model_index.json".into(), index);
    let blocks = match places.get(&Component::Transformer) {
        Some(PartLocation::Stored(stored)) => stored.piece.names.blocks(),
        _ => 0,
    };
    add("scheduler/scheduler_config.json".into(), configs::scheduler(blocks));
    for (part, place) in places {
        if let PartLocation::Stored(stored) = place {
            let config =
                stored.config().map_err(|why| Error::Model(format!("{}: {why}", stored.file.display())))?;
            add(format!("{}/config.json", part.folder()), config);
        }
    }
    Ok(files)
}
