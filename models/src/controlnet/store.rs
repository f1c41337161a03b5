//! Reads a ControlNet and checks it against the model; the last one stays loaded.

use crate::checkpoint::{Component, Header, StoredPart};
use crate::config::{Configs, ControlNetConfig, TransformerConfig};
use crate::error::one_line;
use crate::generate::ControlNet;
use crate::mmdit::ControlNetModel;
use crate::network_file::{self, Kept, NetworkFile};
use crate::target::Target;
use crate::weights::Weights;
use crate::{Error, ModelSource, Result};
use std::path::Path;
use std::sync::Arc;

/// What a ControlNet in the original layout is for, and the number of canny edges (dit_embedder.py:39).
const CONTROL_TYPE: &str = "control_type";
const CANNY: f64 = 1.0;

/// Loads ControlNets for one transformer and keeps the last.
pub(crate) struct ControlNetStore {
    transformer: TransformerConfig,
    target: Target,
    /// Bytes that one may have: as many as the transformer.
    limit: u64,
    kept: Kept<Loaded>,
}

/// A ControlNet on the device.
pub(crate) struct Loaded {
    pub(crate) model: ControlNetModel,
    /// See [`network_file::digest`].
    pub(crate) digest: String,
}

impl ControlNetStore {
    pub(crate) fn new(transformer: &TransformerConfig, target: &Target, limit: u64) -> Self {
        Self { transformer: transformer.clone(), target: target.clone(), limit, kept: Kept::NONE }
    }

    /// Loads a request's ControlNet, unless it is the one that is kept, which is dropped before another is loaded.
    ///
    /// # Errors
    /// [`Error::ControlNet`] with what is wrong; or the device has no memory for it.
    pub(crate) fn get(&mut self, net: &ControlNet) -> Result<Arc<Loaded>> {
        let file = file(&net.path, net.config.as_deref());
        let Self { transformer, target, limit, kept } = self;
        let loaded = kept.get(file.stamps(), || load(file, transformer, target, *limit));
        loaded.map_err(|error| named(error, &net.name, file))
    }

    /// Drops what is kept.
    pub(crate) fn forget(&mut self) {
        self.kept = Kept::NONE;
    }
}

/// Checks that a ControlNet has the sizes of a model, without reading its tensors. How many values they have.
///
/// # Errors
/// [`Error::ControlNet`] with what is wrong, or the model's files cannot be read.
pub fn check_controlnet(source: &ModelSource, name: &str, path: &Path) -> Result<u64> {
    let transformer = Configs::read(&source.files()?)?.transformer;
    let file = file(path, None);
    let opened = open(file, &transformer, &Target::host());
    opened.map(|(weights, _)| weights.parameters()).map_err(|error| named(error, name, file))
}

fn file<'a>(path: &'a Path, config: Option<&'a Path>) -> NetworkFile<'a> {
    NetworkFile { path, config, stem: "diffusion_pytorch_model", part: "controlnet" }
}

fn load(file: NetworkFile, transformer: &TransformerConfig, target: &Target, limit: u64) -> Result<Loaded> {
    let (weights, config) = open(file, transformer, target)?;
    network_file::check_size(weights.parameters(), target, limit)?;
    let model = ControlNetModel::load(&weights, &config)?;
    Ok(Loaded { model, digest: network_file::digest(weights, &config)? })
}

/// Opens weights and config, and checks that their sizes are those of a transformer.
fn open(
    file: NetworkFile,
    transformer: &TransformerConfig,
    target: &Target,
) -> Result<(Weights, ControlNetConfig)> {
    let original = original(file)?;
    let weights = match &original {
        Some(stored) => Weights::open_part(stored.clone(), target)?,
        None => file.open(target)?,
    };
    let of_tensors = || {
        let is_read = |name: &str| original.as_ref().is_none_or(|part| part.owns(name));
        ControlNetConfig::of_tensors(|name| weights.shape(name).filter(|_| is_read(name)), transformer)
            .map_err(|why| format!("it is no ControlNet of SD3.5: {why}"))
    };
    let config = match file.config() {
        _ if original.is_some() => of_tensors(),
        Some(path) => {
            ControlNetConfig::parse(&network_file::read(&path)?).map_err(|why| format!("its config: {why}"))
        }
        None => of_tensors(),
    };
    let mut config = config.map_err(Error::Model)?;
    config.has_canny_pixels = original.is_some() && weights.number(CONTROL_TYPE)? == Some(CANNY);
    config.check(transformer).map_err(Error::Model)?;
    Ok((weights, config))
}

/// What a file in the original layout has, as Stability publishes its ControlNets for blur, canny edges and depth.
fn original(file: NetworkFile) -> Result<Option<StoredPart>> {
    if file.path.is_dir() {
        return Ok(None);
    }
    let found = StoredPart::all(file.path, &Arc::new(Header::read(file.path)?));
    Ok(found.into_iter().find(|found| found.part() == Component::ControlNet))
}

/// The error of a ControlNet with its name.
fn named(error: Error, name: &str, file: NetworkFile) -> Error {
    match file.fault(error) {
        Ok(why) => Error::ControlNet(format!("the ControlNet {}: {why}", one_line(name, 300))),
        Err(other) => other,
    }
}
