//! A file of weights, safetensors or GGUF, open, its header checked.

mod file_kind;
mod gguf_header;
mod layer_formats;
mod safetensors_header;
mod stored_type;

use crate::content::Content;
use crate::{Error, Result};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;

pub(crate) use gguf_header::{MAGIC as GGUF_MAGIC, ggml_type, stored_t5_name};
/// A tensor's name from a file, short enough for a message.
pub(crate) use safetensors_header::shown;
pub(crate) use stored_type::{ScaledType, StoredType};

/// Bytes that are read at a time for a digest.
const DIGEST_PIECE: usize = 1 << 20;

/// Most dimensions of a tensor.
const MAX_DIMENSIONS: usize = 8;

/// A tensor in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredEntry {
    pub(crate) name: String,
    pub(crate) dtype: StoredType,
    pub(crate) shape: Vec<usize>,
    /// Where it begins, in bytes of the file's tensors.
    pub(crate) begin: u64,
}

/// What a header says of a tensor.
#[derive(Debug, Clone)]
pub(crate) struct TensorHeader {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) dtype: StoredType,
    /// In the file.
    pub(crate) bytes: u64,
}

impl TensorHeader {
    /// Values.
    pub(crate) fn elements(&self) -> u64 {
        self.shape.iter().map(|side| *side as u64).product()
    }
}

/// Every tensor of a file of weights, from its header alone.
///
/// # Errors
/// It is no whole file of weights.
pub(crate) fn tensors(path: &Path) -> Result<Vec<TensorHeader>> {
    let (_, entries) = WeightFile::open(path)?;
    let header = |StoredEntry { name, dtype, shape, .. }: StoredEntry| {
        let bytes = dtype.bytes(shape.iter().product()).unwrap_or_default() as u64;
        TensorHeader { name, shape, dtype, bytes }
    };
    Ok(entries.into_iter().map(header).collect())
}

/// First bytes of a file that [`check_start`] needs.
pub const FILE_START: usize = file_kind::START;

/// Checks the first bytes of a file, [`FILE_START`] or all of it, of which the rest need not be here yet; `bytes` is its
/// size, if that is known.
///
/// # Errors
/// Says why it cannot be a safetensors file.
pub fn check_start(start: &[u8], bytes: Option<u64>) -> Result<(), String> {
    if start.starts_with(gguf_header::MAGIC) {
        return Err("it is a GGUF file, where a .safetensors file is expected".into());
    }
    if !safetensors_header::plausible(start)
        && let Some(what) = file_kind::describe(start)
    {
        return Err(format!("it {what}"));
    }
    let checked = safetensors_header::checked_length(start, bytes.unwrap_or(u64::MAX));
    checked.map(drop).map_err(|why| format!("it is no whole safetensors file, {why}: download it again"))
}

/// A file that stays open, so that what was checked is what is read.
#[derive(Debug)]
pub(crate) struct WeightFile {
    /// The file's name as users know it.
    shown: String,
    content: Content,
    /// Where the tensors' bytes begin.
    start: u64,
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Safetensors,
    Gguf,
}

impl WeightFile {
    /// Opens a file; its tensors have the types that the file says its layers have.
    ///
    /// # Errors
    /// It is not whole, something else than safetensors or GGUF, or has layers in formats that are not read.
    pub(crate) fn open(path: &Path) -> Result<(Self, Vec<StoredEntry>)> {
        let (file, entries) = Self::new(path.display().to_string(), Content::open(path)?)?;
        let entries = file.with_layer_formats(entries)?;
        Ok((file, entries))
    }

    /// The file's tensors with the types that the file says its layers have.
    ///
    /// # Errors
    /// They are in formats that are not read.
    pub(crate) fn with_layer_formats(&self, entries: Vec<StoredEntry>) -> Result<Vec<StoredEntry>> {
        layer_formats::apply(self, entries)
    }

    /// Checks the header of an open file, which users know as `shown`; returns its tensors in the order of their bytes.
    ///
    /// # Errors
    /// It is not whole, or something else than safetensors or GGUF.
    pub(crate) fn new(shown: String, content: Content) -> Result<(Self, Vec<StoredEntry>)> {
        let mut file = Self { shown, content, start: 0, format: Format::Safetensors };
        let bytes = file.content.len();
        let mut start = vec![0; bytes.min(file_kind::START as u64) as usize];
        file.read(0, &mut start)?;
        if start.starts_with(gguf_header::MAGIC) {
            file.format = Format::Gguf;
            let (entries, start) = gguf_header::read(&file.content).map_err(|why| file.damaged(&why))?;
            file.start = start;
            return Ok((file, entries));
        }
        if !safetensors_header::plausible(&start)
            && let Some(what) = file_kind::describe(&start)
        {
            return Err(Error::Model(format!("{} {what}", file.shown)));
        }
        let length = safetensors_header::checked_length(&start, bytes).map_err(|why| file.damaged(&why))?;
        let mut json = vec![0; length];
        file.read(safetensors_header::PREFIX as u64, &mut json)?;
        file.start = (safetensors_header::PREFIX + length) as u64;
        let entries =
            safetensors_header::parse(&json, bytes - file.start).map_err(|why| file.damaged(&why))?;
        Ok((file, entries))
    }

    /// Fills `into` with what lies `at` bytes into the tensors.
    ///
    /// # Errors
    /// The device failed, or the file was cut since it was opened.
    pub(crate) fn read(&self, at: u64, into: &mut [u8]) -> Result<()> {
        self.content.read_at(self.start + at, into).map_err(|reason| match reason.kind() {
            std::io::ErrorKind::UnexpectedEof => Error::Model(format!(
                "{} became shorter while it was read: leave a model's files alone while it is loaded",
                self.shown
            )),
            _ => Error::Io { path: self.shown.clone().into(), reason },
        })
    }

    /// Has the system read so many bytes that lie `at` bytes into the tensors, while this process does something else.
    pub(crate) fn will_read(&self, at: u64, bytes: u64) {
        self.content.will_read(self.start + at, bytes);
    }

    /// What the author of a safetensors file wrote about it.
    ///
    /// # Errors
    /// The file cannot be read any more.
    pub(crate) fn metadata(&self) -> Result<BTreeMap<String, String>> {
        if self.format == Format::Gguf {
            return Ok(BTreeMap::new());
        }
        let length = (self.start as usize).saturating_sub(safetensors_header::PREFIX);
        let mut json = vec![0; length];
        let read = self.content.read_at(safetensors_header::PREFIX as u64, &mut json);
        read.map_err(|reason| Error::Io { path: self.shown.clone().into(), reason })?;
        Ok(safetensors_header::metadata(&json))
    }

    /// SHA-256 of the whole file in hexadecimal digits.
    ///
    /// # Errors
    /// The file cannot be read any more.
    pub(crate) fn digest(&self) -> Result<String> {
        let unreadable = |reason| Error::Io { path: self.shown.clone().into(), reason };
        let (mut hash, mut piece) = (Sha256::new(), vec![0; DIGEST_PIECE]);
        let mut at = 0;
        while at < self.content.len() {
            let bytes = (self.content.len() - at).min(DIGEST_PIECE as u64) as usize;
            self.content.read_at(at, &mut piece[..bytes]).map_err(unreadable)?;
            hash.update(&piece[..bytes]);
            at += bytes as u64;
        }
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// As users know it.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    fn damaged(&self, why: &str) -> Error {
        let format = match self.format {
            Format::Safetensors => "safetensors",
            Format::Gguf => "GGUF",
        };
        Error::Model(format!("{} is no whole {format} file, {why}: download it again", self.shown))
    }
}
