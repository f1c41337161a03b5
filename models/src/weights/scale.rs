//! What the values of a quantized weight are multiplied by: a number for the tensor, for each row, or for each block of a
//! row (comfy_kitchen 0.2.40, backends/eager/quantization.py:61 fp8, 175 NVFP4, 331 MXFP8, 929 INT8).

use super::convert::F8_E4M3;
use super::rows::{Rows, StoredTensor};
use super::source::PartFiles;
use crate::weight_file::{ScaledType, StoredType};
use candle_core::{DType, Result, Tensor};
use safetensors::Dtype;

/// What the names of scales end with, after the layer's: of scaled fp8, and of ComfyUI's mixed precision.
pub(super) const NAMES: [&str; 3] = ["scale_weight", "weight_scale", "weight_scale_2"];

/// Rows and columns of the tiles in which the scales of blocks lie.
const TILE: (usize, usize) = (128, 4);

/// The scales of a weight.
#[derive(Debug)]
pub(super) enum Scale {
    /// One number.
    Number(StoredTensor),
    /// `[rows, 1]`.
    Rows(StoredTensor),
    /// One byte for each block of so many values of a row, in tiles.
    Blocks { scales: StoredTensor, values: usize, kind: BlockScale },
}

/// What the bytes of block scales are.
#[derive(Debug)]
pub(super) enum BlockScale {
    /// F8_E4M3, times a number for the tensor.
    E4m3(StoredTensor),
    /// Exponents of two, from which 127 is subtracted.
    E8m0,
}

impl Scale {
    /// What multiplies `weight`, of the tensors that are there.
    ///
    /// # Errors
    /// What its scales lack, or which is no scale, to be read after the layer's name.
    pub(super) fn of(
        weight: &StoredTensor,
        scales: Option<&StoredTensor>,
        factor: Option<&StoredTensor>,
    ) -> std::result::Result<Option<Self>, String> {
        if factor.is_some() && weight.dtype != StoredType::Scaled(ScaledType::Nvfp4) {
            return Err(format!("weight_scale_2 is of NVFP4 alone, and the weight is {}", weight.dtype));
        }
        let StoredType::Scaled(kind) = weight.dtype else {
            return scales.map(|scales| Self::plain(weight, scales)).transpose();
        };
        let scales = scales.ok_or("weight_scale is missing")?;
        let kind = match (kind, factor) {
            (ScaledType::Int8, _) => return Self::plain(weight, scales).map(Some),
            (ScaledType::Mxfp8, _) => BlockScale::E8m0,
            (ScaledType::Nvfp4, Some(factor)) if is_number(factor) => BlockScale::E4m3(factor.clone()),
            (ScaledType::Nvfp4, _) => return Err("weight_scale_2 is missing or is not one number".into()),
        };
        let own = if matches!(kind, BlockScale::E8m0) { Dtype::F8_E8M0 } else { Dtype::F8_E4M3 };
        let values = weight.dtype.block_values();
        let tiled = tiled(weight.row_count(), weight.row() / values);
        let dtypes = [own, Dtype::U8].map(StoredType::Plain);
        if !dtypes.contains(&scales.dtype) || scales.shape != tiled {
            let (dtype, shape) = (scales.dtype, &scales.shape);
            return Err(format!(
                "weight_scale is {dtype} {shape:?}, it is {own} {tiled:?} in {}",
                weight.dtype
            ));
        }
        Ok(Some(Self::Blocks { scales: scales.clone(), values, kind }))
    }

    fn plain(weight: &StoredTensor, scales: &StoredTensor) -> std::result::Result<Self, String> {
        match &scales.shape[..] {
            _ if is_number(scales) => Ok(Self::Number(scales.clone())),
            [rows, 1] if *rows == weight.row_count() && weight.shape.len() == 2 && is_plain(scales) => {
                Ok(Self::Rows(scales.clone()))
            }
            shape => Err(format!(
                "weight_scale is {} {shape:?}, it is one number in {}, or one for each row",
                scales.dtype, weight.dtype
            )),
        }
    }

    /// The values of these rows of the weight, f32, times their scales.
    pub(super) fn multiply(&self, values: Tensor, rows: &[Rows], files: &PartFiles) -> Result<Tensor> {
        match self {
            Self::Number(scale) => values * number(scale, files)?,
            Self::Rows(scales) => {
                let rows: Vec<_> = rows.iter().map(|rows| scales.rows(rows.range.clone())).collect();
                values.broadcast_mul(&files.read(&rows, DType::F32, values.device())?)
            }
            Self::Blocks { scales, values: block, kind } => {
                let (block, (count, columns)) = (*block, values.dims2()?);
                let blocks = columns / block;
                let scales = kind.read(scales, rows, blocks, files)?;
                let scales = Tensor::from_vec(scales, (count, blocks, 1), values.device())?;
                values.reshape((count, blocks, block))?.broadcast_mul(&scales)?.reshape((count, columns))
            }
        }
    }
}

impl BlockScale {
    /// The scales of these rows, of `blocks` blocks each, row by row.
    fn read(
        &self,
        scales: &StoredTensor,
        rows: &[Rows],
        blocks: usize,
        files: &PartFiles,
    ) -> Result<Vec<f32>> {
        let mut bytes = vec![0; scales.bytes()];
        files.read_bytes(scales, 0, &mut bytes)?;
        let factor = match self {
            Self::E4m3(factor) => number(factor, files)? as f32,
            Self::E8m0 => 1.0,
        };
        let scale = |byte: u8| match self {
            Self::E4m3(_) => factor * F8_E4M3[usize::from(byte)],
            Self::E8m0 => f32::from_bits(u32::from(byte) << 23),
        };
        let rows = rows.iter().flat_map(|rows| rows.range.clone());
        Ok(rows
            .flat_map(|row| (0..blocks).map(move |block| (row, block)))
            .map(|(row, block)| scale(bytes[place(row, block, blocks)]))
            .collect())
    }
}

/// The shape of the scales of so many rows and blocks: whole tiles.
fn tiled(rows: usize, blocks: usize) -> [usize; 2] {
    [rows.div_ceil(TILE.0) * TILE.0, blocks.div_ceil(TILE.1) * TILE.1]
}

/// Where the scale of a block lies: tile after tile, and within a tile the four quarters of its rows side by side
/// (comfy_kitchen 0.2.40, float_utils.py:292-326; the layout of cuBLAS).
fn place(row: usize, block: usize, blocks: usize) -> usize {
    let tile = row / TILE.0 * blocks.div_ceil(TILE.1) + block / TILE.1;
    let (row, quarter) = (row % TILE.0 % 32, row % TILE.0 / 32);
    tile * TILE.0 * TILE.1 + row * 4 * TILE.1 + quarter * TILE.1 + block % TILE.1
}

fn is_plain(stored: &StoredTensor) -> bool {
    matches!(stored.dtype, StoredType::Plain(_)) && stored.dtype.is_readable()
}

fn is_number(stored: &StoredTensor) -> bool {
    stored.shape.iter().product::<usize>() == 1 && is_plain(stored)
}

fn number(stored: &StoredTensor, files: &PartFiles) -> Result<f64> {
    Ok(files.number(stored)?.unwrap_or(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use std::ops::Range;

    /// Dequantized as ComfyUI does it (`tests/parity/export_layer_formats.py`), whole and in thirds as q, k and v are.
    #[test]
    fn layers_in_every_format_have_comfys_values() {
        let path = crate::golden::path("checkpoint/layer_formats.safetensors");
        let files = PartFiles::file(&path).expect("a file");
        let mut layers = 0;
        for (name, weight) in files.tensors() {
            let Some(layer) = name.strip_suffix("weight") else { continue };
            let get = |ending: &str| files.get(&format!("{layer}{ending}"));
            let scale = Scale::of(weight, get("weight_scale"), get("weight_scale_2")).expect("scales");
            let scale = scale.expect("scales");
            let read = |ranges: &[Range<usize>]| {
                let rows: Vec<_> = ranges.iter().map(|range| weight.rows(range.clone())).collect();
                let values = files.read(&rows, DType::F32, &Device::Cpu).expect("values");
                scale.multiply(values, &rows, &files).and_then(|x| x.to_vec2::<f32>())
            };
            let values = get("values").expect("values");
            let values =
                files.read(&[values.all()], DType::F32, &Device::Cpu).and_then(|x| x.to_vec2::<f32>());
            let (values, count) = (values.expect("rows"), weight.row_count());
            let whole = 0..count;
            assert_eq!(
                read(std::slice::from_ref(&whole)).expect("rows"),
                values,
                "{name} is {}",
                weight.dtype
            );
            let (first, last) = (count / 4..count / 2, count * 3 / 4..count);
            let expected = [&values[last.clone()], &values[first.clone()]].concat();
            assert_eq!(read(&[last, first]).expect("rows"), expected, "some rows of {name}");
            layers += 1;
        }
        assert_eq!(layers, 6);
    }

    #[test]
    fn what_are_no_scales_is_said() {
        let stored =
            |dtype, shape: &[usize]| StoredTensor { file: 0, dtype, shape: shape.to_vec(), begin: 0 };
        let plain = |dtype, shape: &[usize]| stored(StoredType::Plain(dtype), shape);
        let nvfp4 = stored(StoredType::Scaled(ScaledType::Nvfp4), &[32, 64]);
        let (fp8, number) = (plain(Dtype::F8_E4M3, &[32, 64]), plain(Dtype::F32, &[]));
        let tiles = plain(Dtype::F8_E4M3, &[128, 4]);
        let cases = [
            (&nvfp4, None, Some(&number), "weight_scale is missing"),
            (&nvfp4, Some(&tiles), None, "weight_scale_2 is missing"),
            (&nvfp4, Some(&number), Some(&number), "it is F8_E4M3 [128, 4] in NVFP4"),
            (&fp8, Some(&tiles), None, "it is one number in F8_E4M3"),
            (&fp8, Some(&number), Some(&number), "weight_scale_2 is of NVFP4 alone"),
        ];
        for (weight, scales, factor, words) in cases {
            let why = Scale::of(weight, scales, factor).expect_err("no scales");
            assert!(why.contains(words), "{why}");
        }
        assert!(Scale::of(&nvfp4, Some(&tiles), Some(&number)).is_ok_and(|scale| scale.is_some()));
        assert!(Scale::of(&fp8, None, None).is_ok_and(|scale| scale.is_none()));
    }
}
