//! One adapter file, read and checked against the model: every key must be known and every shape fit.

use super::keys::{Keys, ModuleKeys};
use super::layer_map::{LayerMap, Target};
use super::peft::PeftConfig;
use crate::checkpoint::RowOrder;
use crate::weight_file::shown;
use crate::weights::TensorFile;
use crate::{Error, Result};
use candle_core::{DType, Tensor};
use std::collections::HashMap;
use std::path::Path;

/// Problems of a file that are listed before it says "and N more".
const LISTED: usize = 20;

/// A file's products, in host memory.
#[derive(Debug)]
pub(crate) struct Adapter {
    pub(super) pairs: Vec<Pair>,
    pub(super) bytes: u64,
    /// SHA-256 of the file in hexadecimal digits.
    pub(super) digest: String,
}

/// One product.
#[derive(Debug)]
pub(super) struct Pair {
    /// What it is added to.
    pub(super) targets: Vec<Target>,
    /// `[rank, input]`.
    pub(super) down: Tensor,
    /// `[output, rank]`; of fused projections the outputs of all.
    pub(super) up: Tensor,
    /// alpha / rank.
    pub(super) scale: f64,
}

/// A product whose shapes fit, before its numbers are read.
struct Found<'a> {
    module: &'a str,
    down: &'a str,
    up: &'a str,
    alpha: Option<&'a str>,
    input: usize,
    rank: usize,
    output: usize,
}

/// An open file with what it says of itself.
struct Reader<'a> {
    file: TensorFile,
    shapes: HashMap<String, Vec<usize>>,
    config: PeftConfig,
    layers: &'a LayerMap,
    dtype: DType,
    problems: Vec<String>,
}

impl Adapter {
    /// Reads a file as tensors of `dtype`, of at most `limit` bytes.
    ///
    /// # Errors
    /// [`Error::Adapter`], which does not name it: it is no whole safetensors file, or it lists every key that does not fit
    /// the model.
    pub(super) fn read(path: &Path, layers: &LayerMap, dtype: DType, limit: u64) -> Result<Self> {
        Self::read_file(path, layers, dtype, limit).map_err(|error| match error {
            // The message begins with the path.
            Error::Model(why) => {
                let path = path.display().to_string();
                refused(why.strip_prefix(&path).map_or(why.clone(), |rest| format!("it{rest}")))
            }
            Error::Io { reason, .. } if reason.kind() == std::io::ErrorKind::NotFound => {
                refused("there is no such file")
            }
            Error::Io { reason, .. } => refused(format!("it cannot be read: {reason}")),
            other => other,
        })
    }

    fn read_file(path: &Path, layers: &LayerMap, dtype: DType, limit: u64) -> Result<Self> {
        let file = TensorFile::open(path)?;
        let shapes: HashMap<_, _> =
            file.tensors().map(|(name, shape)| (name.to_owned(), shape.to_vec())).collect();
        let config = PeftConfig::read(&file.metadata()?).map_err(refused)?;
        let keys = Keys::of(file.tensors().map(|(name, _)| name));
        if keys.is_dora || config.is_dora() {
            let why =
                "it is DoRA, which latentd does not read: use a LoRA without magnitudes (use_dora=False)";
            return Err(refused(why));
        }
        let problems = keys.unknown.iter().chain(&keys.twice).map(|name| format!("unknown: {}", shown(name)));
        let problems = problems.collect();
        let mut reader = Reader { file, shapes, config, layers, dtype, problems };
        let found: Vec<_> =
            keys.modules.iter().filter_map(|(module, keys)| reader.find(module, keys)).collect();
        if !reader.problems.is_empty() || found.is_empty() {
            return Err(refused(listed(&reader.problems, keys.kind())));
        }
        let values: u64 =
            found.iter().map(|found| found.rank as u64 * (found.input + found.output) as u64).sum();
        let bytes = values * dtype.size_in_bytes() as u64;
        if bytes > limit {
            return Err(refused(too_large(bytes, limit)));
        }
        let pairs = found.iter().map(|found| reader.read(found)).collect::<Result<_>>()?;
        let digest = reader.file.digest()?;
        Ok(Self { pairs, bytes, digest })
    }
}

impl Reader<'_> {
    /// Looks for what a module's keys change, and notes what does not fit.
    fn find<'a>(&mut self, module: &'a str, keys: &'a ModuleKeys) -> Option<Found<'a>> {
        let found = self.check(module, keys);
        found.map_err(|problem| self.problems.push(problem)).ok()
    }

    fn check<'a>(&self, module: &'a str, keys: &'a ModuleKeys) -> Result<Found<'a>, String> {
        let any = [&keys.down, &keys.up, &keys.alpha].into_iter().flatten().next();
        let key = shown(any.map_or(module, String::as_str));
        let targets = self.layers.find(module).map_err(|why| format!("{why}: {key}"))?;
        let (Some(down), Some(up)) = (keys.down.as_deref(), keys.up.as_deref()) else {
            let other = if keys.down.is_none() { "down (A)" } else { "up (B)" };
            return Err(format!("incomplete: {key} has no {other} matrix beside it"));
        };
        let (input, output) = self.layers.sizes(targets).ok_or_else(|| format!("unknown: {key}"))?;
        let shape = |name: &str| self.shapes.get(name).cloned().unwrap_or_default();
        let (down_shape, up_shape) = (shape(down), shape(up));
        let rank = down_shape.first().copied().unwrap_or_default();
        // A convolution that tiles its input has its patch's sides too.
        if rank == 0 || down_shape.len() < 2 || down_shape[1..].iter().product::<usize>() != input {
            return Err(format!(
                "wrong shape: {} is {down_shape:?}, this model has [rank, {input}]",
                shown(down)
            ));
        }
        let is_pixel = up_shape.get(2..).is_some_and(|sides| sides.iter().all(|side| *side == 1));
        if !is_pixel || !up_shape.starts_with(&[output, rank]) {
            return Err(format!(
                "wrong shape: {} is {up_shape:?}, this model has [{output}, {rank}]",
                shown(up)
            ));
        }
        for name in [down, up] {
            if let Some(dtype) = self.file.unreadable(name) {
                let name = shown(name);
                return Err(format!(
                    "wrong dtype: {name} is {dtype}, latentd reads F64, F32, F16, BF16 and F8_E4M3"
                ));
            }
        }
        let alpha = keys.alpha.as_deref();
        if let Some(name) = alpha.filter(|name| shape(name).iter().product::<usize>() != 1) {
            return Err(format!("wrong shape: {} is no single number", shown(name)));
        }
        Ok(Found { module, down, up, alpha, input, rank, output })
    }

    fn read(&self, found: &Found<'_>) -> Result<Pair> {
        let Found { module, input, rank, output, .. } = *found;
        let read = |name: &str, shape: [usize; 2]| {
            let tensor = self.file.read(name, self.dtype)?.ok_or_else(|| missing(name))?.reshape(&shape)?;
            let sum = tensor.to_dtype(DType::F32)?.sum_all()?.to_scalar::<f32>()?;
            if !sum.is_finite() {
                let name = shown(name);
                return Err(refused(format!("{name} has numbers that are not finite (NaN or infinite)")));
            }
            Ok(tensor)
        };
        let (down, up) = (read(found.down, [rank, input])?, read(found.up, [output, rank])?);
        let targets = self.layers.find(module).map_err(|_| missing(module))?.to_vec();
        let scale = match found.alpha {
            Some(name) => self.alpha(name)? / scaled_rank(&targets, &up, rank)? as f64,
            None => self.config.scale(module, rank).map_err(refused)?.unwrap_or(1.0),
        };
        Ok(Pair { targets, down, up, scale })
    }

    /// sd-scripts stores an integer unless it is told a precision.
    fn alpha(&self, name: &str) -> Result<f64> {
        let alpha = self.file.number(name)?.filter(|alpha| alpha.is_finite());
        alpha.ok_or_else(|| refused(format!("{} is no finite number", shown(name))))
    }
}

/// The rank that alpha is divided by. sd-scripts' `split_qkv` trains q, k and v with a rank each and stores the three below
/// each other, zeros in between, with the alpha of one.
fn scaled_rank(targets: &[Target], up: &Tensor, rank: usize) -> Result<usize> {
    let is_fused = targets.iter().all(|target| matches!(target.rows, RowOrder::Third(_)));
    if !is_fused || !rank.is_multiple_of(3) {
        return Ok(rank);
    }
    let (third, rows) = (rank / 3, up.dim(0)? / 3);
    for (row, column) in (0..3).flat_map(|row| (0..3).map(move |column| (row, column))) {
        let block = up.narrow(0, row * rows, rows)?.narrow(1, column * third, third)?;
        let sum = block.to_dtype(DType::F32)?.abs()?.sum_all()?.to_scalar::<f32>()?;
        if (row == column) == (sum == 0.0) {
            return Ok(rank);
        }
    }
    Ok(third)
}

fn missing(name: &str) -> Error {
    refused(format!("{} is missing", shown(name)))
}

/// The error of one adapter, or of all of a request.
pub(super) fn refused(why: impl Into<String>) -> Error {
    Error::Adapter { index: None, why: why.into() }
}

pub(super) fn too_large(bytes: u64, limit: u64) -> String {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    format!(
        "{} MiB of adapters are more than the {} MiB that this model takes: use a lower rank",
        mib(bytes),
        mib(limit)
    )
}

fn listed(problems: &[String], kind: Option<&str>) -> String {
    let head = match kind {
        Some(kind) => format!("it does not fit this model: {kind}"),
        None if problems.is_empty() => return "it has no tensors".into(),
        None => "it does not fit this model".into(),
    };
    let more = problems.len().saturating_sub(LISTED);
    let more = (more > 0).then(|| format!("… and {more} more"));
    let lines = problems.iter().take(LISTED).cloned().chain(more);
    std::iter::once(head).chain(lines).collect::<Vec<_>>().join("\n  ")
}
