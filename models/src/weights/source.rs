//! The files of a part, opened.

use crate::files::ModelFiles;
use crate::{Error, Result};
use candle_core::safetensors::{MmapedSafetensors, SliceSafetensors};
use safetensors::tensor::TensorView;
use std::collections::{BTreeSet, HashMap};

/// Tensors by name.
pub(super) enum Source {
    Mapped(MmapedSafetensors),
    Embedded(SliceSafetensors<'static>),
    /// Has every tensor that is asked for.
    Random,
}

impl Source {
    /// Opens `<part>/<stem>.safetensors`, or the shards that `<stem>.safetensors.index.json` names.
    pub(super) fn open(files: &ModelFiles, part: &str, stem: &str) -> Result<Self> {
        let single = format!("{part}/{stem}.safetensors");
        let index = format!("{single}.index.json");
        if files.exists(&single) {
            open(files, &[single])
        } else if files.exists(&index) {
            open(files, &shards(files, part, &index)?)
        } else {
            let single = files.display(&single);
            Err(Error::Model(format!("{single} is missing (nor is there a {stem}.safetensors.index.json)")))
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<TensorView<'_>> {
        match self {
            Self::Mapped(files) => files.get(name).ok(),
            Self::Embedded(bytes) => bytes.get(name).ok(),
            Self::Random => None,
        }
    }

    pub(super) fn names(&self) -> BTreeSet<String> {
        let tensors = match self {
            Self::Mapped(files) => files.tensors(),
            Self::Embedded(bytes) => bytes.tensors(),
            Self::Random => Vec::new(),
        };
        tensors.into_iter().map(|(name, _)| name).collect()
    }
}

/// The distinct files of an index's `weight_map`.
fn shards(files: &ModelFiles, part: &str, index: &str) -> Result<Vec<String>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: HashMap<String, String>,
    }
    let names: Index = crate::config::read(files, index)?;
    let names: BTreeSet<String> = names.weight_map.into_values().collect();
    if let Some(name) = names.iter().find(|name| name.contains(['/', '\\']) || name.as_str() == "..") {
        return Err(Error::Model(format!("{}: \"{name}\" is not a plain file name", files.display(index))));
    }
    Ok(names.into_iter().map(|name| format!("{part}/{name}")).collect())
}

fn open(files: &ModelFiles, paths: &[String]) -> Result<Source> {
    let shown: Vec<String> = paths.iter().map(|path| files.display(path)).collect();
    let unreadable = |e: candle_core::Error| Error::Model(format!("{}: {e}", shown.join(", ")));
    match files {
        ModelFiles::Directory(dir) => {
            let paths: Vec<_> = paths.iter().map(|path| dir.join(path)).collect();
            map(&paths).map(Source::Mapped).map_err(unreadable)
        }
        ModelFiles::Embedded(_) => {
            let [path] = paths else { return Err(Error::Model("embedded weights are one file".into())) };
            let std::borrow::Cow::Borrowed(bytes) = files.read(path)? else { unreachable!("embedded bytes") };
            SliceSafetensors::new(bytes).map(Source::Embedded).map_err(unreadable)
        }
    }
}

#[expect(unsafe_code, reason = "memory maps are unsafe by nature")]
fn map(paths: &[std::path::PathBuf]) -> candle_core::Result<MmapedSafetensors> {
    // SAFETY: the files must not change while mapped. They are model weights, written once and then only read;
    // whoever overwrites them under a running server gets wrong pictures or a crash, as with every such server.
    unsafe { MmapedSafetensors::multi(paths) }
}
