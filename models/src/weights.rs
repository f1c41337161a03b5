//! Weights on disk to tensors on the device, with every tensor's name, shape and dtype checked; or made up.
//!
//! A part of the model (transformer, VAE, one text encoder) opens its files once, then asks for each tensor
//! by name and shape. What does not fit is noted, not raised, so that one error lists everything at the end.

mod convert;
mod foreign;
mod header;
mod read;
mod shard;
mod source;

use crate::files::ModelFiles;
use crate::generate::Streams;
use crate::layers::Ops;
use crate::{Error, Result, random};
use candle_core::{DType, Device, Tensor};
use source::Source;
use std::cell::RefCell;
use std::collections::BTreeSet;

/// Problems of one kind listed in an error before it says "and N more".
const LISTED: usize = 20;

/// One error that lists what did not fit, if anything.
pub(crate) fn check(problems: &[String]) -> Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    Err(Error::Model(format!("the weights do not fit the config files:\n  {}", problems.join("\n  "))))
}

/// The open weights of one part.
pub(crate) struct Weights {
    source: Source,
    part: String,
    unclaimed: RefCell<BTreeSet<String>>,
    problems: RefCell<Vec<String>>,
    target: Target,
}

/// What a header says of a tensor.
pub(crate) struct Stored {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
}

/// Where tensors go and how the layers built from them compute.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) device: Device,
    pub(crate) dtype: DType,
    pub(crate) ops: Ops,
}

impl Target {
    pub(crate) fn new(options: &crate::LoadOptions) -> Result<Self> {
        let fp8 = options.dtype == crate::DType::Fp8;
        let device = match options.device {
            crate::Device::Cpu if fp8 => {
                return Err(Error::Device("fp8 needs a CUDA GPU: give --dtype bf16 or f32".into()));
            }
            crate::Device::Cpu => Device::Cpu,
            crate::Device::Cuda(ordinal) => crate::gpu::open(ordinal, fp8, options.cache.as_deref())?,
        };
        let dtype = match options.dtype {
            crate::DType::F32 => DType::F32,
            crate::DType::Bf16 | crate::DType::Fp8 => DType::BF16,
        };
        // Plain candle has no fp8.
        let fp8 = fp8 && options.fused;
        let beside =
            options.fused && device.is_cuda() && dtype == DType::BF16 && options.streams == Streams::Two;
        let ops = Ops { fused: options.fused, fp8, beside };
        Ok(Self { device, dtype, ops })
    }

    /// For looking at files without a device.
    pub(crate) fn host() -> Self {
        Self { device: Device::Cpu, dtype: DType::F32, ops: Ops::PLAIN }
    }
}

impl Weights {
    /// Opens `<part>/<stem>.safetensors`, or the shards that `<stem>.safetensors.index.json` names.
    pub(crate) fn open(files: &ModelFiles, part: &str, stem: &str, target: &Target) -> Result<Self> {
        let source = Source::open(files, part, stem)?;
        let unclaimed = RefCell::new(source.names().cloned().collect());
        let problems = RefCell::new(Vec::new());
        Ok(Self { source, part: files.display(part), unclaimed, problems, target: target.clone() })
    }

    /// Weights that are made as they are asked for, whatever their names and shapes.
    pub(crate) fn random(part: &str, target: &Target) -> Result<Self> {
        random::seed(&target.device, 0)?;
        let (unclaimed, problems) = (RefCell::default(), RefCell::default());
        Ok(Self { source: Source::Random, part: part.into(), unclaimed, problems, target: target.clone() })
    }

    /// The top of the name tree.
    pub(crate) fn root(&self) -> Scope<'_> {
        Scope { weights: self, prefix: String::new() }
    }

    /// Names that are known not to matter and may be there or not.
    pub(crate) fn ignore(&self, unneeded: impl Fn(&str) -> bool) {
        self.unclaimed.borrow_mut().retain(|name| !unneeded(name));
    }

    /// Whether the files have a tensor of this full name.
    pub(crate) fn has(&self, name: &str) -> bool {
        matches!(self.source, Source::Random) || self.source.get(name).is_some()
    }

    /// Every tensor as its file has it, by name.
    pub(crate) fn stored(&self) -> Vec<Stored> {
        let stored = |name: &String| {
            let tensor = self.source.get(name)?;
            Some(Stored { name: name.clone(), shape: tensor.shape.clone() })
        };
        self.source.names().filter_map(stored).collect()
    }

    /// Ends loading: the list of everything that did not fit, or nothing.
    pub(crate) fn problems(self) -> Vec<String> {
        let mut problems = self.problems.into_inner();
        problems.extend(
            self.unclaimed.into_inner().into_iter().map(|name| format!("unused: {}", header::shown(&name))),
        );
        let more = problems.len().saturating_sub(LISTED);
        problems.truncate(LISTED);
        if more > 0 {
            problems.push(format!("… and {more} more"));
        }
        problems.into_iter().map(|problem| format!("{}: {problem}", self.part)).collect()
    }

    /// The tensors `names`, each of this shape, one below the other: `[names * shape[0], ..]`. Each is read into its
    /// place, so that stacking takes no memory.
    fn take(&self, names: &[String], shape: &[usize]) -> candle_core::Result<Tensor> {
        let Target { device, dtype, .. } = &self.target;
        let Source::Files(files) = &self.source else {
            let made = names.iter().map(|name| random::weight(name, shape, device, *dtype));
            return Tensor::cat(&made.collect::<candle_core::Result<Vec<_>>>()?, 0);
        };
        let found: Vec<_> = names.iter().map(|name| self.fit(name, shape)).collect();
        let mut stacked = shape.to_vec();
        if let Some(rows) = stacked.first_mut() {
            *rows *= names.len();
        }
        match found.into_iter().map(|stored| stored.map(source::Stored::all)).collect::<Option<Vec<_>>>() {
            Some(rows) => files.read(&rows, *dtype, device)?.reshape(stacked),
            // Stands in until the list is complete; a broadcast zero costs no memory.
            None => Tensor::zeros(1, *dtype, device)?.broadcast_as(stacked),
        }
    }

    /// Notes whether there is a tensor `name` of this shape, without loading it.
    pub(crate) fn expect(&self, name: &str, shape: &[usize]) {
        self.fit(name, shape);
    }

    fn fit(&self, name: &str, shape: &[usize]) -> Option<&source::Stored> {
        self.unclaimed.borrow_mut().remove(name);
        let problem = match self.source.get(name) {
            None => format!("missing: {name} {shape:?}"),
            Some(stored) if stored.shape != shape => {
                format!("wrong shape: {name} is {:?}, the config says {shape:?}", stored.shape)
            }
            Some(stored) if !convert::is_readable(stored.dtype) => {
                format!("wrong dtype: {name} is {:?}, latentd reads F32, F16, BF16 and F8_E4M3", stored.dtype)
            }
            Some(stored) => return Some(stored),
        };
        self.problems.borrow_mut().push(problem);
        None
    }
}

/// A prefix in the tree of names.
#[derive(Clone)]
pub(crate) struct Scope<'a> {
    weights: &'a Weights,
    prefix: String,
}

impl Scope<'_> {
    /// The scope below `name`.
    pub(crate) fn at(&self, name: impl std::fmt::Display) -> Self {
        Self { weights: self.weights, prefix: format!("{}{name}.", self.prefix) }
    }

    /// The tensor `name` of exactly this shape, in the dtype and on the device asked for.
    pub(crate) fn tensor(&self, name: &str, shape: &[usize]) -> candle_core::Result<Tensor> {
        Self::stacked(std::slice::from_ref(self), name, shape)
    }

    /// The tensor `name` of each of these scopes (at least one) of the same weights, one below the other:
    /// `[scopes * shape[0], ..]`.
    pub(crate) fn stacked(scopes: &[Self], name: &str, shape: &[usize]) -> candle_core::Result<Tensor> {
        let names: Vec<_> = scopes.iter().map(|scope| format!("{}{name}", scope.prefix)).collect();
        scopes[0].weights.take(&names, shape)
    }

    pub(crate) fn target(&self) -> &Target {
        &self.weights.target
    }
}
