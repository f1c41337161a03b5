//! Rows as e4m3 with a scale each.

use super::*;
use latentd_kernels::Rowwise;

/// The value of an e4m3 byte.
pub(crate) fn e4m3(byte: u8) -> f64 {
    let (exponent, mantissa) = (i32::from(byte >> 3 & 15), f64::from(byte & 7));
    let magnitude = match (exponent, byte & 7) {
        (15, 7) => f64::NAN,
        (0, _) => mantissa / 512.0,
        _ => (1.0 + mantissa / 8.0) * 2f64.powi(exponent - 7),
    };
    if byte & 128 == 0 { magnitude } else { -magnitude }
}

/// The values are `exact` to half a step of e4m3, and the scales those of its rows, but for `bound` of the row's
/// largest.
pub(crate) fn check_rowwise(rowwise: &Rowwise, exact: &Tensor, bound: f64) -> Result<()> {
    assert_eq!(rowwise.values.dims(), exact.dims());
    assert_eq!(rowwise.scales.dims(), &exact.dims()[..exact.rank() - 1]);
    let values: Vec<u8> = rowwise.values.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?;
    let (scales, width) = (f64s(&rowwise.scales)?, exact.dims()[exact.rank() - 1]);
    for ((row, exact), scale) in values.chunks(width).zip(f64s(exact)?.chunks(width)).zip(scales) {
        let max = exact.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        let expected = if max == 0.0 { 1.0 } else { max / 448.0 };
        assert!((scale / expected - 1.0).abs() <= 4.0 * bound + 1e-7, "scale {scale:e} for {expected:e}");
        for (&byte, exact) in row.iter().zip(exact) {
            let allowed =
                scale * (exact.abs() / scale / 16.0).max(1.0 / 1024.0) + 8.0 * bound * max + 1e-6 * max;
            let off = (e4m3(byte) * scale - exact).abs();
            assert!(
                off <= allowed,
                "{byte:#x} * {scale:e} for {exact:e}: off by {off:e}, allowed {allowed:e}"
            );
        }
    }
    Ok(())
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
}

#[test]
fn e4m3_rows() -> Result<()> {
    for ((b, l, d), dtype) in ROWS.into_iter().flat_map(|rows| TYPES.map(|dtype| (rows, dtype))) {
        for amplitude in [1e-3, 3.0, 1e4] {
            let x = (normal(&[b, l + 1, d], 1, DType::F64) * amplitude)?.to_dtype(dtype)?;
            let (x, on_gpu) = view(&x, |x| x.narrow(1, 1, l))?;
            check_rowwise(&ours::quantize_rowwise(&on_gpu, false)?, &wide(&x)?, 0.0)?;
            let activated: Vec<f64> = f64s(&x)?.into_iter().map(gelu).collect();
            let activated = Tensor::from_vec(activated, (b, l, d), &Device::Cpu)?;
            check_rowwise(&ours::quantize_rowwise(&on_gpu, true)?, &activated, 2e-6)?;
        }
        let block = Block::new((b, l, d), dtype, 2.0, 1.0)?;
        let ([gx, _, gm], [wx, _, wm]) = (&block.gpu, &block.wide()?);
        let rowwise = ours::layer_norm_modulate_rowwise(gx, gm, 1, 0, EPS)?;
        check_rowwise(&rowwise, &plain_modulate(wx, wm, 1, 0)?, NORM_BOUND)?;
    }
    Ok(())
}

#[test]
fn e4m3_scales_of_exact_zero_tiny_and_broken_rows() -> Result<()> {
    let (largest, tiny, none) = (896f32, 1e-40f32, 0f32);
    let mut rows = vec![0f32; 6 * 40];
    for (row, value) in [largest, tiny, none, f32::NAN, f32::INFINITY, f32::NEG_INFINITY].iter().enumerate() {
        rows[row * 40 + 7] = *value;
        rows[row * 40 + 9] = value / 2.0;
    }
    let x = Tensor::from_vec(rows, (6, 40), &Device::Cpu)?;
    for (width, dtype) in [(40, DType::F32), (40, DType::BF16), (39, DType::F32), (39, DType::BF16)] {
        let x = up(&x.narrow(1, 0, width)?.contiguous()?.to_dtype(dtype)?)?;
        let rowwise = ours::quantize_rowwise(&x, false)?;
        let values: Vec<u8> = rowwise.values.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?;
        let scales = f64s(&rowwise.scales)?;
        let at = |row: usize, column: usize| e4m3(values[row * width + column]) * scales[row];
        assert_eq!((scales[0], at(0, 7), at(0, 9), at(0, 0)), (2.0, 896.0, 448.0, 0.0));
        assert!(scales[1] > 0.0 && at(1, 7) >= 0.0 && at(1, 0) == 0.0, "tiny: {} {}", scales[1], at(1, 7));
        assert_eq!((scales[2], at(2, 7)), (1.0, 0.0));
        for row in 3..6 {
            assert!(!at(row, 7).is_finite() && !at(row, 9).is_finite(), "row {row}: {}", at(row, 7));
        }
    }
    Ok(())
}
