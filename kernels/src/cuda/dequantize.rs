//! Launches `cuda/dequantize.cu`: matrices in the blocks of GGUF files to f32 or bf16.

use super::arguments::{
    BLOCKS_Q2_K, BLOCKS_Q3_K, BLOCKS_Q4_0, BLOCKS_Q4_1, BLOCKS_Q4_K, BLOCKS_Q5_0, BLOCKS_Q5_1, BLOCKS_Q5_K,
    BLOCKS_Q6_K, BLOCKS_Q8_0, Dequantize, launch,
};
use super::elementwise::blocks;
use super::operand::{Input, Output, gpu};
use candle_core::quantized::GgmlDType;
use candle_core::{DType, Result, Tensor, bail};

/// Values that a thread makes.
const GROUP: u64 = 8;

/// A matrix on a GPU in the blocks of GGUF files.
#[derive(Debug)]
pub struct BlockMatrix {
    /// One below the other.
    pieces: Vec<Piece>,
    shape: [usize; 2],
}

/// Rows of one type.
#[derive(Debug)]
struct Piece {
    /// As the kernel counts them.
    kind: u32,
    /// `[bytes]` u8.
    bytes: Tensor,
    values: usize,
}

impl BlockMatrix {
    /// Rows one below the other, each of whole blocks, and their type: `[bytes]` u8 on one GPU, contiguous.
    ///
    /// # Errors
    /// Another type or device, or other numbers of blocks than the shape has.
    pub fn new(rows: Vec<(GgmlDType, Tensor)>, shape: [usize; 2]) -> Result<Self> {
        let pieces = rows.into_iter().map(|(dtype, bytes)| Piece::new(dtype, bytes));
        let pieces = pieces.collect::<Result<Vec<_>>>()?;
        let values: usize = pieces.iter().map(|piece| piece.values).sum();
        if pieces.is_empty() || values != shape[0] * shape[1] {
            bail!("dequantize: blocks of {values} values for a matrix {shape:?}")
        }
        Ok(Self { pieces, shape })
    }

    /// All values, `[rows, columns]` f32|bf16, with the bits of the processor's.
    ///
    /// # Errors
    /// Another type, or the device has too little memory.
    #[expect(unsafe_code, reason = "a kernel launch")]
    pub fn dequantize(&self, dtype: DType) -> Result<Tensor> {
        const OP: &str = "dequantize";
        let gpu = gpu(OP, &self.pieces[0].bytes)?;
        let out = Output::new(&gpu, dtype, &self.shape[..])?;
        let mut values = out.pointer;
        let kernel = gpu.kernel(OP, dtype)?;
        for Piece { kind, bytes, values: count } in &self.pieces {
            let blocks_at = Input::typed(OP, bytes, DType::U8)?.contiguous()?;
            let count = *count as u64;
            let arguments =
                Dequantize { blocks: blocks_at.into(), values: values.into(), count, kind: *kind };
            if let Some(config) = blocks(OP, count.div_ceil(GROUP))? {
                // SAFETY: the bytes are blocks of `count` values, whole groups, which the output has behind those of the
                // pieces before: whole blocks, so that its address stays a multiple of 16 bytes.
                unsafe { launch(gpu.stream(), &kernel, config, &arguments)? };
            }
            values += count * dtype.size_in_bytes() as u64;
        }
        Ok(out.tensor())
    }
}

impl Piece {
    fn new(dtype: GgmlDType, bytes: Tensor) -> Result<Self> {
        let kind = match dtype {
            GgmlDType::Q4_0 => BLOCKS_Q4_0,
            GgmlDType::Q4_1 => BLOCKS_Q4_1,
            GgmlDType::Q5_0 => BLOCKS_Q5_0,
            GgmlDType::Q5_1 => BLOCKS_Q5_1,
            GgmlDType::Q8_0 => BLOCKS_Q8_0,
            GgmlDType::Q2K => BLOCKS_Q2_K,
            GgmlDType::Q3K => BLOCKS_Q3_K,
            GgmlDType::Q4K => BLOCKS_Q4_K,
            GgmlDType::Q5K => BLOCKS_Q5_K,
            GgmlDType::Q6K => BLOCKS_Q6_K,
            other => bail!("dequantize: no kernel for {other:?}"),
        };
        let (count, rest) = (bytes.elem_count() / dtype.type_size(), bytes.elem_count() % dtype.type_size());
        if rest != 0 {
            bail!("dequantize: {} bytes are no whole blocks of {dtype:?}", bytes.elem_count())
        }
        Ok(Self { kind, bytes, values: count * dtype.block_size() })
    }
}
