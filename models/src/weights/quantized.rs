//! Matrices that stay in memory as GGUF files have them, in blocks of quantized values: in that of the processor, from where
//! layers on a GPU take them to its own.

use super::convert::{Element, dequantize};
use super::rows::{Blocks, Rows, blocks};
use super::source::PartFiles;
use super::streamed::StreamedMatrix;
use candle_core::quantized::GgmlDType;
use candle_core::{DType, Device, Result, Tensor, bail};
use rayon::prelude::*;

/// Values that a thread dequantizes at once: in f32 they stay in the second-level cache.
const CHUNK_VALUES: usize = 1 << 16;

/// A matrix of weights, `[rows, columns]`.
pub(crate) enum Matrix {
    Dense(Tensor),
    Quantized(QuantizedMatrix),
    Streamed(Box<StreamedMatrix>),
}

/// `[rows, columns]` in host memory, in blocks.
pub(crate) struct QuantizedMatrix {
    pieces: Vec<Piece>,
    shape: [usize; 2],
}

/// Rows of one type, each of whole blocks.
struct Piece {
    dtype: GgmlDType,
    /// Words, so that blocks are aligned; the last one may be filled up.
    words: Vec<u32>,
    rows: usize,
    row_bytes: usize,
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.rows * self.row_bytes]
    }
}

impl QuantizedMatrix {
    /// All values, `[rows, columns]` f32 or bf16.
    ///
    /// # Errors
    /// The dtype is another.
    pub(crate) fn dequantize(&self, dtype: DType) -> Result<Tensor> {
        match dtype {
            DType::F32 => self.all::<f32>(),
            DType::BF16 => self.all::<u16>(),
            other => bail!("weights are dequantized to f32 or bf16, not {other:?}"),
        }
    }

    /// The rows with these numbers, `[ids, columns]` f32 or bf16.
    ///
    /// # Errors
    /// A number is that of no row, or the dtype is another.
    pub(crate) fn rows(&self, ids: &[u32], dtype: DType) -> Result<Tensor> {
        match dtype {
            DType::F32 => self.some::<f32>(ids),
            DType::BF16 => self.some::<u16>(ids),
            other => bail!("weights are dequantized to f32 or bf16, not {other:?}"),
        }
    }

    /// The same blocks in the memory of a GPU.
    ///
    /// # Errors
    /// It has too little.
    #[cfg(feature = "cuda")]
    pub(crate) fn to_gpu(&self, device: &Device) -> Result<crate::gpu::BlockMatrix> {
        let copy = |piece: &Piece| {
            let bytes = piece.bytes();
            Ok((piece.dtype, Tensor::from_slice(bytes, bytes.len(), device)?))
        };
        let rows = self.pieces.iter().map(copy).collect::<Result<_>>()?;
        crate::gpu::BlockMatrix::new(rows, self.shape)
    }

    fn all<T: Element>(&self) -> Result<Tensor> {
        let columns = self.shape[1];
        let mut values = vec![T::zeroed(); self.shape[0] * columns];
        let rows_at_once = (CHUNK_VALUES / columns.max(1)).max(1);
        let mut chunks = Vec::new();
        let mut rest = values.as_mut_slice();
        for piece in &self.pieces {
            let (into, others) = rest.split_at_mut(piece.rows * columns);
            rest = others;
            let bytes = piece.bytes().chunks(rows_at_once * piece.row_bytes);
            chunks
                .extend(into.chunks_mut(rows_at_once * columns).zip(bytes).map(|chunk| (piece.dtype, chunk)));
        }
        chunks.into_par_iter().try_for_each(|(dtype, (into, bytes))| dequantize(dtype, bytes, into))?;
        T::tensor(values, &self.shape, &Device::Cpu)
    }

    fn some<T: Element>(&self, ids: &[u32]) -> Result<Tensor> {
        let columns = self.shape[1];
        let mut values = vec![T::zeroed(); ids.len() * columns];
        for (id, into) in ids.iter().zip(values.chunks_mut(columns)) {
            let mut row = *id as usize;
            let Some(piece) = self.pieces.iter().find(|piece| {
                let here = row < piece.rows;
                row -= if here { 0 } else { piece.rows };
                here
            }) else {
                bail!("row {id} of a matrix of {}", self.shape[0])
            };
            dequantize(piece.dtype, &piece.bytes()[row * piece.row_bytes..][..piece.row_bytes], into)?;
        }
        T::tensor(values, &[ids.len(), columns], &Device::Cpu)
    }
}

impl PartFiles {
    /// These rows one below the other as their file has them, if [`blocks`] finds them.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(super) fn read_quantized(&self, parts: &[Rows]) -> Result<Option<QuantizedMatrix>> {
        let (Some(blocks), Some(first)) = (blocks(parts), parts.first()) else { return Ok(None) };
        let read = |Blocks { dtype, of, at, bytes, rows, row_bytes }: &Blocks| {
            let mut words = vec![0u32; bytes.div_ceil(4)];
            self.read_bytes(of, *at, &mut bytemuck::cast_slice_mut(&mut words)[..*bytes])?;
            Ok(Piece { dtype: *dtype, words, rows: *rows, row_bytes: *row_bytes })
        };
        let pieces = blocks.iter().map(read).collect::<Result<Vec<_>>>()?;
        let rows = pieces.iter().map(|piece| piece.rows).sum();
        Ok(Some(QuantizedMatrix { pieces, shape: [rows, first.of.row()] }))
    }
}

#[cfg(test)]
mod tests;
