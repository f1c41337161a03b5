//! The files of a part, opened, and which tensor lies where.

use super::readers::Readers;
use super::rows::StoredTensor;
use crate::files::ModelFiles;
use crate::weight_file::{StoredEntry, WeightFile, shown};
use crate::{Error, Result};
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Most files of a part; real ones have one to four. All stay open.
const SHARDS: usize = 128;

/// What diffusers calls the weights of its models; transformers says `model`.
const DIFFUSERS_STEM: &str = "diffusion_pytorch_model";

/// Precisions of which repositories have a second set of files, `<stem>.<variant>.safetensors`.
const VARIANTS: [&str; 4] = ["fp16", "bf16", "fp32", "fp8"];

/// Tensors by name.
#[derive(Debug)]
pub(super) enum WeightSource {
    PartFiles(Arc<PartFiles>),
    /// Has every tensor that is asked for.
    Random,
}

/// The files of a part.
#[derive(Debug)]
pub(super) struct PartFiles {
    pub(super) files: Vec<WeightFile>,
    tensors: BTreeMap<String, StoredTensor>,
    pub(super) readers: Readers,
}

impl WeightSource {
    /// Opens `<part>/<stem>.safetensors`, or the shards that `<stem>.safetensors.index.json` names. Where both are there,
    /// diffusers takes the shards of its own models, and transformers the single file.
    pub(super) fn open(files: &ModelFiles, part: &str, stem: &str) -> Result<Self> {
        let single = format!("{part}/{stem}.safetensors");
        let index = format!("{single}.index.json");
        let prefers_shards = stem == DIFFUSERS_STEM;
        let (has_single, has_index) = (files.exists(&single), files.exists(&index));
        if has_index && (prefers_shards || !has_single) {
            Ok(Self::PartFiles(PartFiles::open(files, &shards(files, part, &index)?)?.into()))
        } else if has_single {
            Ok(Self::PartFiles(PartFiles::open(files, &[single])?.into()))
        } else {
            Err(Error::Model(missing(files, part, stem)))
        }
    }

    /// The tensor of this name, if it is in a file.
    pub(super) fn get(&self, name: &str) -> Option<&StoredTensor> {
        match self {
            Self::PartFiles(files) => files.get(name),
            Self::Random => None,
        }
    }

    /// The names of all tensors in the files.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        let tensors = match self {
            Self::PartFiles(files) => Some(files.tensors.keys()),
            Self::Random => None,
        };
        tensors.into_iter().flatten()
    }
}

impl PartFiles {
    /// Opens one file.
    ///
    /// # Errors
    /// It is not whole.
    pub(super) fn file(path: &Path) -> Result<Self> {
        Self::of(vec![WeightFile::open(path)?])
    }

    /// Opens all files at these paths.
    ///
    /// # Errors
    /// One of them is not whole, or two have a tensor of the same name.
    pub(super) fn open(files: &ModelFiles, paths: &[String]) -> Result<Self> {
        let opened = paths.iter().map(|path| WeightFile::new(files.display(path), files.open(path)?));
        Self::of(opened.collect::<Result<_>>()?)
    }

    /// The tensor of this name.
    pub(super) fn get(&self, name: &str) -> Option<&StoredTensor> {
        self.tensors.get(name)
    }

    /// All tensors by name.
    pub(super) fn tensors(&self) -> impl Iterator<Item = (&String, &StoredTensor)> {
        self.tensors.iter()
    }

    /// Puts opened files together.
    pub(super) fn of(opened: Vec<(WeightFile, Vec<StoredEntry>)>) -> Result<Self> {
        let (mut files, mut tensors) = (Vec::<WeightFile>::new(), BTreeMap::<String, StoredTensor>::new());
        for (file, list) in opened {
            for StoredEntry { name, dtype, shape, begin } in list {
                if let Some(other) = tensors.get(&name) {
                    let (name, other) = (self::shown(&name), files[other.file].shown());
                    return Err(Error::Model(format!(
                        "{} and {other} both have the tensor {name}: remove the file that is not the model's",
                        file.shown()
                    )));
                }
                tensors.insert(name, StoredTensor { file: files.len(), dtype, shape, begin });
            }
            files.push(file);
        }
        Ok(Self { files, tensors, readers: Readers::default() })
    }
}

/// The message where there are no weights: a variant or a pickle in the same folder is named.
fn missing(files: &ModelFiles, part: &str, stem: &str) -> String {
    let single = files.display(&format!("{part}/{stem}.safetensors"));
    let variant = |name: &&&str| {
        let file = format!("{part}/{stem}.{name}.safetensors");
        let index = format!("{part}/{stem}.safetensors.index.{name}.json");
        files.exists(&file) || files.exists(&index)
    };
    if let Some(variant) = VARIANTS.iter().find(variant) {
        let folder = files.display(part);
        return format!(
            "{folder} has its weights as the variant {variant} alone, and latentd reads files without a variant: \
             take \".{variant}\" out of the names of the files in {folder}, and of those in their index"
        );
    }
    let pickles =
        [format!("{stem}.bin"), "pytorch_model.bin".into(), format!("{stem}.ckpt"), format!("{stem}.pt")];
    match pickles.iter().find(|name| files.exists(&format!("{part}/{name}"))) {
        Some(name) => format!(
            "{single} is missing, and {name} beside it is a pickle, which latentd never opens because that runs the \
             program inside it: download the .safetensors file"
        ),
        None => format!("{single} is missing (nor is there a {stem}.safetensors.index.json)"),
    }
}

/// The distinct files of an index's `weight_map`.
fn shards(files: &ModelFiles, part: &str, index: &str) -> Result<Vec<String>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: Values,
    }
    let Index { weight_map: Values(names) } = crate::config::read(files, index)?;
    let wrong = |why: String| Err(Error::Model(format!("{}: {why}", files.display(index))));
    if let Some(name) = names.iter().find(|name| !is_plain(name)) {
        return wrong(format!("\"{}\" is not a plain file name", self::shown(name)));
    }
    if names.is_empty() {
        return wrong("it names no file".into());
    }
    if let Some(name) = names.iter().find(|name| !files.exists(&format!("{part}/{name}"))) {
        return wrong(format!("it names {}, which is missing: download it too", self::shown(name)));
    }
    Ok(names.into_iter().map(|name| format!("{part}/{name}")).collect())
}

/// Whether a name is that of a file in the same folder.
fn is_plain(name: &str) -> bool {
    !name.contains(['/', '\\', '\0']) && !matches!(name, "" | "." | "..")
}

/// The distinct values of a JSON object, which may have far more keys.
struct Values(BTreeSet<String>);

impl<'de> serde::Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ValuesVisitor)
    }
}

struct ValuesVisitor;

impl<'de> Visitor<'de> for ValuesVisitor {
    type Value = Values;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object of tensors and their files")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Values, A::Error> {
        let mut values = BTreeSet::new();
        while let Some((_, value)) = map.next_entry::<IgnoredAny, String>()? {
            values.insert(value);
            if values.len() > SHARDS {
                return Err(A::Error::custom(format_args!("it names more than {SHARDS} files")));
            }
        }
        Ok(Values(values))
    }
}
