//! Weights on disk to tensors on the device, with every tensor's name, shape and dtype checked; or random.
//!
//! A part of the model (transformer, VAE, one text encoder) opens its files once, then asks for each tensor
//! by name and shape. What does not fit is noted, not raised, so that one error lists everything at the end.

mod convert;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod number;
mod place;
mod problems;
mod quantized;
mod read;
mod read_ahead;
mod readers;
mod resolved;
mod rows;
mod scale;
mod source;
mod streamed;
mod tensor_file;
#[cfg(test)]
mod tests;
#[cfg(feature = "cuda")]
mod upload_ahead;

use crate::checkpoint::{Header, RowOrder, StoredPart, TensorLocation};
use crate::files::ModelFiles;
use crate::load_options::Streamed;
use crate::low_rank::{Site, Slot};
use crate::target::Target;
use crate::weight_file::{StoredType, TensorHeader, WeightFile, shown};
use crate::{Error, Result, random};
use candle_core::Tensor;
pub(crate) use convert::F8_E4M3;
pub(crate) use place::MatrixUse;
use problems::Problems;
pub(crate) use problems::check;
pub(crate) use quantized::{Matrix, QuantizedMatrix};
use resolved::{Resolved, stacked};
use rows::StoredTensor;
use scale::Scale;
use source::{PartFiles, WeightSource};
use std::cell::{OnceCell, RefCell};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
pub(crate) use streamed::StreamedMatrix;
use streamed::StreamedPart;
pub(crate) use tensor_file::TensorFile;

/// The open weights of one part.
pub(crate) struct Weights {
    source: WeightSource,
    /// Where the source has what is asked for, unless it is in the diffusers layout itself.
    layout: Option<StoredPart>,
    part: String,
    unclaimed: RefCell<BTreeSet<String>>,
    problems: RefCell<Problems>,
    /// The linear layers that were loaded.
    sites: RefCell<Vec<Site>>,
    /// What stays in the files.
    streamed: OnceCell<Arc<StreamedPart>>,
    target: Target,
}

impl Weights {
    /// Opens `<part>/<stem>.safetensors`, or the shards that `<stem>.safetensors.index.json` names; or what a checkpoint
    /// has in their place; or `<part>/<stem>.gguf`, whose names are those of a checkpoint.
    pub(crate) fn open(files: &ModelFiles, part: &str, stem: &str, target: &Target) -> Result<Self> {
        let layout = match files.stored_part(part) {
            Some(stored) => Some(stored.clone()),
            None => gguf_in_place(files, part, stem)?,
        };
        if let Some(stored) = layout {
            return Ok(Self { part: files.display(part), ..Self::open_part(stored, target)? });
        }
        Ok(Self::of(WeightSource::open(files, part, stem)?, files.display(part), target))
    }

    /// Opens a part that is inside a file.
    pub(crate) fn open_part(stored: StoredPart, target: &Target) -> Result<Self> {
        let source = WeightSource::PartFiles(PartFiles::file(&stored.file)?.into());
        let unclaimed = RefCell::new(stored.names().map(str::to_owned).collect());
        let part = stored.file.display().to_string();
        Ok(Self { layout: Some(stored), unclaimed, ..Self::of(source, part, target) })
    }

    /// Opens one file that is no part of a model, which messages call `part`.
    pub(crate) fn open_file(file: &Path, part: &str, target: &Target) -> Result<Self> {
        Ok(Self::of(WeightSource::PartFiles(PartFiles::file(file)?.into()), part.into(), target))
    }

    /// Weights that are made as they are asked for, whatever their names and shapes.
    pub(crate) fn random(part: &str, target: &Target) -> Result<Self> {
        random::seed(&target.device, 0)?;
        Ok(Self::of(WeightSource::Random, part.into(), target))
    }

    /// In the diffusers layout.
    fn of(source: WeightSource, part: String, target: &Target) -> Self {
        Self {
            unclaimed: RefCell::new(source.names().cloned().collect()),
            source,
            layout: None,
            part,
            problems: RefCell::default(),
            sites: RefCell::default(),
            streamed: OnceCell::new(),
            target: target.clone(),
        }
    }

    /// The top of the name tree.
    pub(crate) fn root(&self) -> Scope<'_> {
        Scope { weights: self, prefix: String::new() }
    }

    /// Names that are known not to matter and may be there or not.
    pub(crate) fn ignore(&self, unneeded: impl Fn(&str) -> bool) {
        let prefix = self.layout.as_ref().map_or("", StoredPart::prefix);
        self.unclaimed.borrow_mut().retain(|name| !unneeded(name.strip_prefix(prefix).unwrap_or(name)));
    }

    /// Whether the files have a tensor of this full name.
    pub(crate) fn has(&self, name: &str) -> bool {
        let is_stored = |found| match found {
            TensorLocation::Stored(name, _) => self.source.get(&name).is_some(),
            TensorLocation::Identity => true,
        };
        matches!(self.source, WeightSource::Random) || is_stored(self.find(name))
    }

    /// Rows and columns of a matrix in the files, and of a convolution that tiles its input.
    pub(crate) fn matrix(&self, name: &str) -> Option<(usize, usize)> {
        let TensorLocation::Stored(name, order) = self.find(name) else { return None };
        let [rows, columns @ ..] = self.source.get(&name)?.shape.as_slice() else { return None };
        let rows = if matches!(order, RowOrder::Third(_)) { rows / 3 } else { *rows };
        (!columns.is_empty()).then(|| (rows, columns.iter().product()))
    }

    /// Every tensor as its file has it, by name; of a checkpoint without the part's prefix.
    pub(crate) fn stored(&self) -> Vec<TensorHeader> {
        if let Some(layout) = &self.layout {
            return layout.stored();
        }
        let stored = |name: &String| {
            let (name, tensor) = (name.clone(), self.source.get(name)?);
            let (shape, dtype) = (tensor.shape.clone(), tensor.dtype);
            Some(TensorHeader { name, shape, dtype, bytes: tensor.bytes() as u64 })
        };
        self.source.names().filter_map(stored).collect()
    }

    /// The shape of a tensor that the files have as it is asked for.
    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        let TensorLocation::Stored(name, RowOrder::All) = self.find(name) else { return None };
        self.source.get(&name).map(|stored| stored.shape.as_slice())
    }

    /// The number that a tensor of one value is, by its name in the files.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn number(&self, name: &str) -> Result<Option<f64>> {
        let WeightSource::PartFiles(files) = &self.source else { return Ok(None) };
        files.get(name).map_or(Ok(None), |stored| files.number(stored).map_err(Error::from))
    }

    /// SHA-256 of each file in hexadecimal digits.
    ///
    /// # Errors
    /// One cannot be read.
    pub(crate) fn digests(&self) -> Result<Vec<String>> {
        match &self.source {
            WeightSource::PartFiles(files) => files.files.iter().map(WeightFile::digest).collect(),
            WeightSource::Random => Ok(Vec::new()),
        }
    }

    /// Values of all tensors in the files.
    pub(crate) fn parameters(&self) -> u64 {
        self.stored().iter().map(TensorHeader::elements).sum()
    }

    /// The linear layers that were loaded since the last call.
    pub(crate) fn take_sites(&self) -> Vec<Site> {
        self.sites.take()
    }

    /// Ends loading: the list of everything that did not fit, or nothing.
    pub(crate) fn problems(self) -> Vec<String> {
        let mut problems = self.problems.into_inner();
        for name in self.unclaimed.into_inner() {
            problems.note(format!("unused: {}", shown(&name)));
        }
        problems.lines(&self.part)
    }

    /// Where a tensor is.
    fn find(&self, name: &str) -> TensorLocation {
        match &self.layout {
            Some(stored) => stored.find(name),
            None => TensorLocation::Stored(name.to_owned(), RowOrder::All),
        }
    }

    /// The tensors `names`, each of this shape, one below the other: `[names * shape[0], ..]`.
    fn take(&self, names: &[String], shape: &[usize]) -> candle_core::Result<Tensor> {
        let Target { device, dtype, .. } = &self.target;
        let WeightSource::PartFiles(files) = &self.source else {
            let made = names.iter().map(|name| random::weight(name, shape, device, *dtype));
            return Tensor::cat(&made.collect::<candle_core::Result<Vec<_>>>()?, 0);
        };
        self.read(files, self.resolve_all(names, shape), (names.len(), shape))
    }

    /// [`Self::take`] of matrices, which may stay in their files, or quantized where all of them are.
    fn take_matrix(
        &self,
        names: &[String],
        shape: [usize; 2],
        usage: MatrixUse,
    ) -> candle_core::Result<Matrix> {
        let WeightSource::PartFiles(files) = &self.source else {
            return self.take(names, &shape).map(Matrix::Dense);
        };
        let mut found = self.resolve_all(names, &shape);
        if self.streams(usage)
            && let Some(found) = found.take_if(|found| !matches!(found[..], [Resolved::Identity]))
        {
            let part = self.streamed.get_or_init(|| Arc::new(StreamedPart::new(files)));
            return Ok(Matrix::Streamed(part.matrix(found, shape, usage, &self.target).into()));
        }
        if let Some(found) = &found {
            let rows: Vec<_> = found.iter().flat_map(Resolved::rows).collect();
            if let Some(quantized) = files.read_quantized(&rows)? {
                return Ok(Matrix::Quantized(quantized));
            }
        }
        self.read(files, found, (names.len(), &shape)).map(Matrix::Dense)
    }

    /// All of them, or nothing if one does not fit.
    fn resolve_all(&self, names: &[String], shape: &[usize]) -> Option<Vec<Resolved>> {
        let found: Vec<_> = names.iter().map(|name| self.resolve(name, shape)).collect();
        found.into_iter().collect()
    }

    /// So many tensors of this shape, one below the other.
    fn read(
        &self,
        files: &PartFiles,
        found: Option<Vec<Resolved>>,
        (count, shape): (usize, &[usize]),
    ) -> candle_core::Result<Tensor> {
        let Some(found) = found else {
            // Stands in until the list is complete; a broadcast zero costs no memory.
            let (Target { device, dtype, .. }, stacked) = (&self.target, stacked(shape, count));
            self.problems.borrow_mut().stand_in(&self.part, &stacked).map_err(Error::carried)?;
            return Tensor::zeros(1, *dtype, device)?.broadcast_as(stacked);
        };
        files.read_stacked(&found, shape, &self.target)
    }

    /// Whether a matrix of this use stays in its file.
    fn streams(&self, usage: MatrixUse) -> bool {
        match self.target.streamed {
            Streamed::Nothing => false,
            Streamed::ReadOnce => usage != MatrixUse::EveryStep,
            Streamed::Everything => true,
        }
    }

    /// Notes whether there is a tensor `name` of this shape, without loading it.
    pub(crate) fn expect(&self, name: &str, shape: &[usize]) {
        self.resolve(name, shape);
    }

    fn resolve(&self, name: &str, shape: &[usize]) -> Option<Resolved> {
        let (name, order) = match self.find(name) {
            TensorLocation::Identity => return Some(Resolved::Identity),
            TensorLocation::Stored(name, order) => (name, order),
        };
        self.unclaimed.borrow_mut().remove(&name);
        let shape = order.whole(shape);
        let problem = match self.source.get(&name) {
            None => format!("missing: {name} {shape:?}"),
            Some(stored) if !self.is_shape(&stored.shape, order, &shape) => {
                let who = if self.layout.is_some() { "the other tensors say" } else { "the config says" };
                format!("wrong shape: {name} is {:?}, {who} {shape:?}", stored.shape)
            }
            Some(stored) if !stored.dtype.is_readable() => {
                format!("wrong dtype: {name} is {}, latentd reads {}", stored.dtype, StoredType::READABLE)
            }
            Some(stored) => {
                let (stored, scale) = (stored.clone(), self.scale(&name, stored));
                return Some(Resolved::Stored { stored, order, scale });
            }
        };
        self.problems.borrow_mut().note(problem);
        None
    }

    /// The original layout writes some matrices as convolutions of one pixel.
    fn is_shape(&self, stored: &[usize], order: RowOrder, wanted: &[usize]) -> bool {
        let long = |shape: &[usize]| shape.iter().copied().filter(|size| *size != 1).collect::<Vec<_>>();
        stored == wanted || (self.layout.is_some() && order == RowOrder::All && long(stored) == long(wanted))
    }

    /// What a weight is multiplied by, in scaled fp8 and in ComfyUI's mixed precision.
    fn scale(&self, name: &str, weight: &StoredTensor) -> Option<Scale> {
        self.layout.as_ref()?;
        let layer = name.strip_suffix("weight").filter(|layer| layer.ends_with('.'))?;
        let [scaled_fp8, scales, factor] = scale::NAMES.map(|ending| {
            let name = format!("{layer}{ending}");
            self.unclaimed.borrow_mut().remove(&name);
            self.source.get(&name)
        });
        Scale::of(weight, scaled_fp8.or(scales), factor).unwrap_or_else(|problem| {
            self.problems.borrow_mut().note(format!("wrong scales: {layer}{problem}"));
            None
        })
    }
}

/// The part in the GGUF file that a directory has instead of safetensors files.
fn gguf_in_place(files: &ModelFiles, part: &str, stem: &str) -> Result<Option<StoredPart>> {
    let single = format!("{part}/{stem}.safetensors");
    let path = format!("{part}/{stem}.gguf");
    if files.exists(&single) || files.exists(&format!("{single}.index.json")) || !files.exists(&path) {
        return Ok(None);
    }
    let file = PathBuf::from(files.display(&path));
    let found = StoredPart::all(&file, &Arc::new(Header::read(&file)?));
    match found.into_iter().find(|found| found.part().folder() == part) {
        Some(found) => Ok(Some(found)),
        None => Err(Error::Model(format!("{} has not the tensors of the {part}", file.display()))),
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

    /// Whether the files have the tensor `name`. Random weights have no names but those that are asked for.
    pub(crate) fn has(&self, name: &str) -> bool {
        matches!(self.weights.source, WeightSource::PartFiles(_))
            && self.weights.has(&format!("{}{name}", self.prefix))
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

    /// The matrix `name` of each of these scopes, as [`Self::stacked`] has them, or quantized as the files have them, or in
    /// these files.
    pub(crate) fn matrix(
        scopes: &[Self],
        name: &str,
        shape: [usize; 2],
        usage: MatrixUse,
    ) -> candle_core::Result<Matrix> {
        let names: Vec<_> = scopes.iter().map(|scope| format!("{}{name}", scope.prefix)).collect();
        scopes[0].weights.take_matrix(&names, shape, usage)
    }

    pub(crate) fn target(&self) -> &Target {
        &self.weights.target
    }

    /// Where adapters change the layer that stacks these scopes' weights, each `[output, input]`.
    pub(crate) fn slot(scopes: &[Self], input: usize, output: usize) -> Slot {
        let names = scopes.iter().map(|scope| scope.prefix.trim_end_matches('.').to_owned()).collect();
        let slot = Slot::default();
        scopes[0].weights.sites.borrow_mut().push(Site { names, input, output, slot: slot.clone() });
        slot
    }
}
