//! Reads an IP-Adapter and its image encoder, and checks them against the model; the last of each stays loaded.

use super::encoder::ImageEncoder;
use super::encoder_config::EncoderConfig;
use crate::config::{Configs, IpAdapterConfig, TransformerConfig, json};
use crate::content::Stamp;
use crate::error::one_line;
use crate::generate::{ImageEncoderFiles, IpAdapter};
use crate::mmdit::IpAdapterModel;
use crate::network_file::{self, Kept, NetworkFile};
use crate::target::Target;
use crate::vision::{NetworkKind, Processing, ProcessorConfig};
use crate::weights::Weights;
use crate::{Error, ModelSource, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What transformers calls the file that says what is done to images.
const PROCESSOR: &str = "preprocessor_config.json";

/// Bytes that each network may have in any case.
const LEAST: u64 = 64 << 20;

/// Loads IP-Adapters for one transformer, and image encoders, and keeps the last of each.
pub(crate) struct IpAdapterStore {
    transformer: TransformerConfig,
    target: Target,
    /// Bytes that each may have: as many as the transformer, or [`LEAST`].
    limit: u64,
    adapter: Kept<LoadedAdapter>,
    encoder: Kept<LoadedEncoder>,
}

/// An IP-Adapter on the device.
pub(super) struct LoadedAdapter {
    pub(super) model: IpAdapterModel,
    /// Channels of the features that it reads.
    features: usize,
    /// See [`network_file::digest`].
    pub(super) digest: String,
}

/// An image encoder on the device.
pub(super) struct LoadedEncoder {
    pub(super) network: ImageEncoder,
    /// Channels of its features.
    features: usize,
    /// See [`network_file::digest`].
    pub(super) digest: String,
}

impl IpAdapterStore {
    pub(crate) fn new(transformer: &TransformerConfig, target: &Target, limit: u64) -> Self {
        // The transformer's blocks alone are in fp8.
        let target = Target { ops: target.ops.unquantised(), ..target.clone() };
        let limit = limit.max(LEAST);
        Self { transformer: transformer.clone(), target, limit, adapter: Kept::NONE, encoder: Kept::NONE }
    }

    /// Loads a request's IP-Adapter and image encoder, unless they are those that are kept.
    ///
    /// # Errors
    /// [`Error::IpAdapter`] or [`Error::ImageEncoder`] with what is wrong; or the device has no memory for one.
    pub(super) fn get(&mut self, asked: &IpAdapter) -> Result<(Arc<LoadedAdapter>, Arc<LoadedEncoder>)> {
        let Self { transformer, target, limit, adapter, encoder } = self;
        let files = &asked.encoder;
        let encoder = encoder.get(stamps(files), || load_encoder(files, target, *limit));
        let encoder = encoder.map_err(|error| named_encoder(error, files))?;
        let file = adapter_file(&asked.path);
        let adapter = adapter.get(file.stamps(), || load_adapter(file, transformer, target, *limit));
        let fitting = adapter.and_then(|adapter| {
            check_features(adapter.features, encoder.features)?;
            Ok(adapter)
        });
        Ok((fitting.map_err(|error| named(error, &asked.name, file))?, encoder))
    }

    /// Drops what is kept.
    pub(crate) fn forget(&mut self) {
        (self.adapter, self.encoder) = (Kept::NONE, Kept::NONE);
    }
}

/// Checks that an IP-Adapter and its image encoder have the sizes of a model and of each other, without reading their tensors.
/// How many values they have.
///
/// # Errors
/// [`Error::IpAdapter`] or [`Error::ImageEncoder`] with what is wrong, or the model's files cannot be read.
pub fn check_ip_adapter(
    source: &ModelSource,
    (name, path): (&str, &Path),
    encoder: &ImageEncoderFiles,
) -> Result<u64> {
    let transformer = Configs::read(&source.files()?)?.transformer;
    let check_encoder = || {
        let (weights, config, _) = open_encoder(encoder, &Target::host())?;
        let values = ImageEncoder::values(&weights);
        ImageEncoder::expect(&weights, &config);
        network_file::fits(weights)?;
        Ok((values, config.shape().hidden))
    };
    let (values, features) = check_encoder().map_err(|error| named_encoder(error, encoder))?;
    let file = adapter_file(path);
    let check = || {
        let (weights, config) = open_adapter(file, &transformer, &Target::host())?;
        check_features(config.features, features)?;
        Ok(values + weights.parameters())
    };
    check().map_err(|error| named(error, name, file))
}

fn adapter_file(path: &Path) -> NetworkFile<'_> {
    NetworkFile { path, config: None, stem: "ip-adapter", part: "ip_adapter" }
}

fn encoder_file(files: &ImageEncoderFiles) -> NetworkFile<'_> {
    let ImageEncoderFiles { path, config, .. } = files;
    NetworkFile { path, config: config.as_deref(), stem: "model", part: "image_encoder" }
}

/// The file that says what is done to images: the one that is named, or the one with the weights.
fn processor_file(files: &ImageEncoderFiles) -> PathBuf {
    let folder = if files.path.is_dir() { Some(files.path.as_path()) } else { files.path.parent() };
    let beside = || folder.unwrap_or(Path::new("")).join(PROCESSOR);
    files.processor.clone().unwrap_or_else(beside)
}

fn stamps(files: &ImageEncoderFiles) -> Vec<Stamp> {
    encoder_file(files).stamps().into_iter().chain(Stamp::of(&processor_file(files))).collect()
}

fn load_adapter(
    file: NetworkFile,
    transformer: &TransformerConfig,
    target: &Target,
    limit: u64,
) -> Result<LoadedAdapter> {
    let (weights, config) = open_adapter(file, transformer, target)?;
    network_file::check_size(weights.parameters(), target, limit)?;
    let model = IpAdapterModel::load(&weights, &config, transformer)?;
    Ok(LoadedAdapter { model, features: config.features, digest: network_file::digest(weights, &config)? })
}

fn open_adapter(
    file: NetworkFile,
    transformer: &TransformerConfig,
    target: &Target,
) -> Result<(Weights, IpAdapterConfig)> {
    let weights = file.open(target)?;
    let config = IpAdapterConfig::of_tensors(|name| weights.shape(name), transformer);
    Ok((weights, config.map_err(Error::Model)?))
}

fn load_encoder(files: &ImageEncoderFiles, target: &Target, limit: u64) -> Result<LoadedEncoder> {
    let (weights, config, processing) = open_encoder(files, target)?;
    network_file::check_size(ImageEncoder::values(&weights), target, limit)?;
    let settings = format!("{config:?} {processing:?}");
    let network = ImageEncoder::load(&weights, &config, processing)?;
    let features = config.shape().hidden;
    Ok(LoadedEncoder { network, features, digest: network_file::digest(weights, &settings)? })
}

fn open_encoder(files: &ImageEncoderFiles, target: &Target) -> Result<(Weights, EncoderConfig, Processing)> {
    let file = encoder_file(files);
    let weights = file.open(target)?;
    let Some(path) = file.config() else { return Err(Error::Model("it has no config.json".into())) };
    let config = EncoderConfig::parse(&network_file::read(&path)?);
    let config = config.map_err(|why| Error::Model(format!("its config: {why}")))?;
    let shape = config.shape();
    let processor = json::parse::<ProcessorConfig>(&network_file::read(&processor_file(files))?);
    let processing =
        processor.and_then(|file| Processing::new(&file, NetworkKind::Siglip, (shape.height, shape.width)));
    let processing = processing.map_err(|why| Error::Model(format!("its {PROCESSOR}: {why}")))?;
    Ok((weights, config, processing))
}

/// That an adapter reads what an encoder makes, both so many channels.
fn check_features(adapter: usize, encoder: usize) -> Result<()> {
    if adapter == encoder {
        return Ok(());
    }
    Err(Error::Model(format!(
        "it reads features of {adapter} channels, and the image encoder makes {encoder}: use the encoder that it was trained with"
    )))
}

/// The error of an IP-Adapter with its name.
fn named(error: Error, name: &str, file: NetworkFile) -> Error {
    match file.fault(error) {
        Ok(why) => Error::IpAdapter(format!("the IP-Adapter {}: {why}", one_line(name, 300))),
        Err(other) => other,
    }
}

/// The same of an image encoder.
fn named_encoder(error: Error, files: &ImageEncoderFiles) -> Error {
    match encoder_file(files).fault(error) {
        Ok(why) => Error::ImageEncoder(format!("the image encoder {}: {why}", one_line(&files.name, 300))),
        Err(other) => other,
    }
}
