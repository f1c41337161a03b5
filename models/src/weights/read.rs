//! Rows of stored tensors to one tensor, read and converted by several threads.
//!
//! Bytes go from the file into the tensor's own memory where the dtype stays. Otherwise, and on a GPU, they pass through
//! staging buffers whose size does not depend on the tensor's.

use super::convert::{Element, dequantize, unscaled};
use super::rows::{Rows, StoredTensor};
use super::source::PartFiles;
use crate::weight_file::{StoredType, WeightFile};
use candle_core::{DType, Device, Result, Tensor, bail};
use rayon::prelude::*;

/// Bytes of a file that a thread reads at a time.
const CHUNK: usize = 4 << 20;

/// Bytes of a tensor that lie in host memory on their way to a GPU.
const STAGED: usize = 64 << 20;

impl PartFiles {
    /// These rows one below the other, `[rows, row shape of the first..]`; all rows are equally long.
    ///
    /// # Errors
    /// A file cannot be read, or the device has too little memory. Rows that are not there are a caller's mistake.
    pub(super) fn read(&self, parts: &[Rows], dtype: DType, device: &Device) -> Result<Tensor> {
        let row = parts.first().map_or(0, |first| first.of.row().saturating_mul(dtype.size_in_bytes()));
        let at_once = if device.is_cpu() { usize::MAX } else { STAGED / row.max(1) };
        self.read_in_pieces(parts, at_once.max(1), dtype, device)
    }

    /// With so many rows at once in host memory.
    pub(super) fn read_in_pieces(
        &self,
        parts: &[Rows],
        at_once: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        check(parts)?;
        let read = |parts: &[Rows]| match dtype {
            DType::F32 => self.read_as::<f32>(parts, device),
            DType::BF16 => self.read_as::<u16>(parts, device),
            other => bail!("weights are read as f32 or bf16, not {other:?}"),
        };
        if count(parts) <= at_once {
            return read(parts);
        }
        let whole = Tensor::zeros([&[count(parts)], parts[0].of.row_shape()].concat(), dtype, device)?;
        let mut done = 0;
        for piece in parts.iter().flat_map(|part| part.pieces(at_once)) {
            let rows = piece.range.len();
            whole.slice_set(&read(&[piece])?, 0, done)?;
            done += rows;
        }
        Ok(whole)
    }

    /// All at once.
    fn read_as<T: Element>(&self, parts: &[Rows], device: &Device) -> Result<Tensor> {
        let (rows, row, row_shape) = (count(parts), parts[0].of.row(), parts[0].of.row_shape());
        let mut values = vec![T::zeroed(); rows * row];
        self.fill(parts, row, &mut values)?;
        T::tensor(values, &[&[rows], row_shape].concat(), device)
    }

    /// Reads rows of `row` values each.
    pub(super) fn fill<T: Element>(&self, parts: &[Rows], row: usize, mut into: &mut [T]) -> Result<()> {
        let mut reads = Vec::new();
        for Rows { of, range } in parts {
            let (mine, others) = into.split_at_mut(range.len() * row);
            into = others;
            let bytes = |values| of.dtype.bytes(values).unwrap_or_default();
            let begin = of.begin + bytes(range.start * row) as u64;
            let block = of.dtype.block_values();
            let step = CHUNK / bytes(block) * block;
            for (index, into) in mine.chunks_mut(step).enumerate() {
                let at = begin + bytes(index * step) as u64;
                reads.push(Read { file: &self.files[of.file], at, dtype: of.dtype, into });
            }
        }
        if reads.iter().map(Read::bytes).sum::<usize>() <= CHUNK {
            return reads.into_iter().try_for_each(|read| read.run(&mut Vec::new()));
        }
        self.readers
            .get()?
            .install(|| reads.into_par_iter().try_for_each_init(Vec::new, |staging, read| read.run(staging)))
    }

    /// Reads what lies `at` bytes into a tensor as it is stored.
    pub(super) fn read_bytes(&self, of: &StoredTensor, at: u64, into: &mut [u8]) -> Result<()> {
        let (file, begin) = (&self.files[of.file], of.begin + at);
        let read = |(index, piece): (usize, &mut [u8])| {
            file.read(begin + (index * CHUNK) as u64, piece).map_err(crate::Error::carried)
        };
        if into.len() <= CHUNK {
            return read((0, into));
        }
        self.readers.get()?.install(|| into.par_chunks_mut(CHUNK).enumerate().try_for_each(read))
    }
}

/// Refuses what is no list of rows; some caller is mistaken.
fn check(parts: &[Rows]) -> Result<()> {
    let Some(first) = parts.first() else { bail!("no rows to read") };
    let row_shape = first.of.row_shape();
    for Rows { of, range } in parts {
        if range.start > range.end || range.end > of.row_count() || of.row_shape() != row_shape {
            bail!("rows {range:?} of {:?} are not rows of {row_shape:?}", of.shape);
        }
        let (block, row) = (of.dtype.block_values(), of.row());
        if [range.start, range.end].iter().any(|rows| !(rows * row).is_multiple_of(block)) {
            bail!("rows {range:?} of {:?} are no whole blocks of {}", of.shape, of.dtype);
        }
    }
    Ok(())
}

fn count(parts: &[Rows]) -> usize {
    parts.iter().map(|part| part.range.len()).sum()
}

/// Values that lie side by side in a file and in memory.
struct Read<'a, T> {
    file: &'a WeightFile,
    at: u64,
    dtype: StoredType,
    into: &'a mut [T],
}

impl<T: Element> Read<'_, T> {
    /// To be read.
    fn bytes(&self) -> usize {
        self.dtype.bytes(self.into.len()).unwrap_or_default()
    }

    /// `staging` is a thread's own, in words so that it is aligned.
    fn run(self, staging: &mut Vec<u32>) -> Result<()> {
        if self.dtype == StoredType::Plain(T::STORED) {
            return self
                .file
                .read(self.at, bytemuck::cast_slice_mut(self.into))
                .map_err(crate::Error::carried);
        }
        let bytes = self.bytes();
        staging.resize(bytes.div_ceil(4), 0);
        let staging = &mut bytemuck::cast_slice_mut(staging)[..bytes];
        self.file.read(self.at, staging).map_err(crate::Error::carried)?;
        match self.dtype {
            StoredType::Plain(dtype) => T::convert(dtype, staging, self.into),
            StoredType::Blocks(dtype) => dequantize(dtype, staging, self.into)?,
            StoredType::Scaled(dtype) => unscaled(dtype, staging, self.into),
        }
        Ok(())
    }
}
