//! Reads a ControlNet and checks it against the model; the last one stays loaded.

use crate::config::{Configs, ControlNetConfig, TransformerConfig};
use crate::content::{Directory, Stamp};
use crate::error::one_line;
use crate::files::ModelFiles;
use crate::generate::ControlNet;
use crate::mmdit::ControlNetModel;
use crate::target::Target;
use crate::weights::Weights;
use crate::{Error, ModelSource, Result};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What diffusers calls the weights of its models.
const STEM: &str = "diffusion_pytorch_model";

/// What diffusers calls their config.
const CONFIG: &str = "config.json";

/// What lists of problems call a ControlNet.
const PART: &str = "controlnet";

/// Loads ControlNets for one transformer and keeps the last.
pub(crate) struct ControlNetStore {
    transformer: TransformerConfig,
    target: Target,
    /// Bytes that one may have: as many as the transformer.
    limit: u64,
    kept: Option<(Vec<Stamp>, Arc<Loaded>)>,
}

/// A ControlNet on the device.
pub(crate) struct Loaded {
    pub(crate) model: ControlNetModel,
    /// SHA-256 of its config and files in hexadecimal digits, the same on every machine and under every path.
    pub(crate) digest: String,
}

impl ControlNetStore {
    pub(crate) fn new(transformer: &TransformerConfig, target: &Target, limit: u64) -> Self {
        Self { transformer: transformer.clone(), target: target.clone(), limit, kept: None }
    }

    /// Loads a request's ControlNet, unless it is the one that is kept, which is dropped before another is loaded.
    ///
    /// # Errors
    /// [`Error::ControlNet`] with what is wrong; or the device has no memory for it.
    pub(crate) fn get(&mut self, net: &ControlNet) -> Result<Arc<Loaded>> {
        let stamps = stamps(net);
        if let Some((kept, loaded)) = &self.kept
            && *kept == stamps
        {
            return Ok(loaded.clone());
        }
        self.kept = None;
        let loaded = Arc::new(self.load(net).map_err(|error| named(error, &net.name, &net.path))?);
        self.kept = Some((stamps, loaded.clone()));
        Ok(loaded)
    }

    /// Drops what is kept.
    pub(crate) fn forget(&mut self) {
        self.kept = None;
    }

    fn load(&self, net: &ControlNet) -> Result<Loaded> {
        let (weights, config) = open(&net.path, net.config.as_deref(), &self.transformer, &self.target)?;
        let bytes = weights.parameters() * self.target.dtype.size_in_bytes() as u64;
        if bytes > self.limit {
            let mib = |bytes: u64| bytes.div_ceil(1 << 20);
            return Err(Error::ControlNet(format!(
                "its {} MiB are more than the {} MiB that this model takes",
                mib(bytes),
                mib(self.limit)
            )));
        }
        let model = ControlNetModel::load(&weights, &config)?;
        let mut hash = Sha256::new();
        hash.update(format!("{config:?}"));
        weights.digests()?.iter().for_each(|digest| hash.update(digest));
        let problems = weights.problems();
        if !problems.is_empty() {
            // Each begins with what the list calls its file.
            let lines =
                problems.iter().map(|line| line.split_once(": ").map_or(line.as_str(), |(_, line)| line));
            let lines: Vec<_> = std::iter::once("it does not fit this model").chain(lines).collect();
            return Err(Error::ControlNet(lines.join("\n  ")));
        }
        Ok(Loaded { model, digest: hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect() })
    }
}

/// Checks that a ControlNet has the sizes of a model, without reading its tensors. How many values they have.
///
/// # Errors
/// [`Error::ControlNet`] with what is wrong, or the model's files cannot be read.
pub fn check_controlnet(source: &ModelSource, name: &str, path: &Path) -> Result<u64> {
    let transformer = Configs::read(&source.files()?)?.transformer;
    let opened = open(path, None, &transformer, &Target::host());
    opened.map(|(weights, _)| weights.parameters()).map_err(|error| named(error, name, path))
}

/// Opens weights and config, and checks that their sizes are those of a transformer.
fn open(
    path: &Path,
    config: Option<&Path>,
    transformer: &TransformerConfig,
    target: &Target,
) -> Result<(Weights, ControlNetConfig)> {
    let weights = open_weights(path, target)?;
    let config = match config_file(path, config) {
        Some(path) => ControlNetConfig::parse(&read(&path)?).map_err(|why| format!("its config: {why}")),
        None => ControlNetConfig::of_tensors(|name| weights.shape(name), transformer)
            .map_err(|why| format!("it is no ControlNet of SD3.5 in diffusers' layout: {why}")),
    };
    let config = config.map_err(Error::ControlNet)?;
    config.check(transformer).map_err(Error::ControlNet)?;
    Ok((weights, config))
}

/// Opens the weights of a directory, which may be in several files, or a single file.
fn open_weights(path: &Path, target: &Target) -> Result<Weights> {
    if !path.is_dir() {
        return Weights::open_file(path, PART, target);
    }
    let unreadable = |reason| Error::Io { path: path.to_owned(), reason };
    let folder = path.canonicalize().map_err(unreadable)?;
    let (Some(parent), Some(name)) = (folder.parent(), folder.file_name().and_then(|name| name.to_str()))
    else {
        return Err(Error::ControlNet("it is no folder of a ControlNet".into()));
    };
    Weights::open(&ModelFiles::Directory(Directory::new(parent)), name, STEM, target)
}

/// The config of a ControlNet, if it has one.
fn config_file(path: &Path, config: Option<&Path>) -> Option<PathBuf> {
    if path.is_dir() {
        return Some(path.join(CONFIG));
    }
    let beside = || Some(path.parent()?.join(CONFIG)).filter(|path| path.exists());
    config.map(Path::to_owned).or_else(beside)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(ModelFiles::Directory(Directory::new(folder)).read(&name)?.into_owned())
}

/// Of the files that are written whenever a ControlNet is: its weights or their index, and its config.
fn stamps(net: &ControlNet) -> Vec<Stamp> {
    let single = format!("{STEM}.safetensors");
    let weights = if net.path.is_dir() {
        vec![net.path.join(format!("{single}.index.json")), net.path.join(single)]
    } else {
        vec![net.path.clone()]
    };
    let config = config_file(&net.path, net.config.as_deref());
    weights.iter().chain(&config).filter_map(|path| Stamp::of(path)).collect()
}

/// The error of a ControlNet with its name, and without the path, which is another on every machine.
fn named(error: Error, name: &str, path: &Path) -> Error {
    let why = match error {
        Error::ControlNet(why) => why,
        Error::Model(why) => relative(&why, path),
        Error::Io { reason, .. } if reason.kind() == std::io::ErrorKind::NotFound => {
            "there is no such file".into()
        }
        Error::Io { reason, .. } => format!("it cannot be read: {reason}"),
        other => return other,
    };
    Error::ControlNet(format!("the ControlNet {}: {why}", one_line(name, 300)))
}

/// A message in which the ControlNet is not named by its path.
fn relative(why: &str, path: &Path) -> String {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut short = why.to_owned();
    for path in [whole.as_path(), path] {
        let path = path.display().to_string();
        short = short.replace(&format!("{path}/"), "").replace(&path, "it");
    }
    short
}
