//! Reads a ControlNet and checks it against the model; the last one stays loaded.

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
    let weights = file.open(target)?;
    let config = match file.config() {
        Some(path) => {
            ControlNetConfig::parse(&network_file::read(&path)?).map_err(|why| format!("its config: {why}"))
        }
        None => ControlNetConfig::of_tensors(|name| weights.shape(name), transformer)
            .map_err(|why| format!("it is no ControlNet of SD3.5 in diffusers' layout: {why}")),
    };
    let config = config.map_err(Error::Model)?;
    config.check(transformer).map_err(Error::Model)?;
    Ok((weights, config))
}

/// The error of a ControlNet with its name.
fn named(error: Error, name: &str, file: NetworkFile) -> Error {
    match file.fault(error) {
        Ok(why) => Error::ControlNet(format!("the ControlNet {}: {why}", one_line(name, 300))),
        Err(other) => other,
    }
}
