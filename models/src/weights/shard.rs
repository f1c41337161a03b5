//! One safetensors file, open, its header checked.

use super::{foreign, header};
use crate::files::{Content, ModelFiles};
use crate::{Error, Result};
use safetensors::tensor::TensorInfo;

/// A file that stays open, so that what was checked is what is read.
#[derive(Debug)]
pub(super) struct Shard {
    /// The file's name as users know it.
    shown: String,
    content: Content,
    /// Where the tensors' bytes begin.
    start: u64,
}

impl Shard {
    /// Opens a file; returns its tensors in the order of their bytes.
    ///
    /// # Errors
    /// It is not there, or not whole, or something else than safetensors.
    pub(super) fn open(files: &ModelFiles, path: &str) -> Result<(Self, Vec<(String, TensorInfo)>)> {
        Self::new(files.display(path), files.open(path)?)
    }

    /// As [`Self::open`].
    pub(super) fn new(shown: String, content: Content) -> Result<(Self, Vec<(String, TensorInfo)>)> {
        let mut shard = Self { shown, content, start: 0 };
        let bytes = shard.content.len();
        let mut start = vec![0; bytes.min(foreign::START as u64) as usize];
        shard.read(0, &mut start)?;
        if !header::plausible(&start)
            && let Some(what) = foreign::describe(&start)
        {
            return Err(Error::Model(format!("{} {what}", shard.shown)));
        }
        let length = header::checked_length(&start, bytes).map_err(|why| shard.damaged(&why))?;
        let mut json = vec![0; length];
        shard.read(header::PREFIX as u64, &mut json)?;
        shard.start = (header::PREFIX + length) as u64;
        let tensors = header::parse(&json, bytes - shard.start).map_err(|why| shard.damaged(&why))?;
        Ok((shard, tensors))
    }

    /// Fills `into` with what lies `at` bytes into the tensors.
    ///
    /// # Errors
    /// The device failed, or the file was cut since it was opened.
    pub(super) fn read(&self, at: u64, into: &mut [u8]) -> Result<()> {
        self.content.read_at(self.start + at, into).map_err(|reason| match reason.kind() {
            std::io::ErrorKind::UnexpectedEof => Error::Model(format!(
                "{} became shorter while it was read: leave a model's files alone while it is loaded",
                self.shown
            )),
            _ => Error::Io { path: self.shown.clone().into(), reason },
        })
    }

    /// As users know it.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    fn damaged(&self, why: &str) -> Error {
        Error::Model(format!("{} is no whole safetensors file, {why}: download it again", self.shown))
    }
}
