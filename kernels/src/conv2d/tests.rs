//! [`conv2d`] against a direct sum in f64.

use super::*;
use crate::testing::{f64s, max_abs, max_error, normal, same_on_any_pool};
use candle_core::{DType, Device};

/// The definition, in f64.
fn reference(x: &Tensor, w: &Tensor, b: Option<&Tensor>, spec: Conv2dSpec) -> Result<Vec<f64>> {
    let x = x.to_dtype(DType::F64)?;
    let x = if spec.upsample { x.upsample_nearest2d(2 * x.dim(2)?, 2 * x.dim(3)?)? } else { x };
    let (batch, channels, height, width) = x.dims4()?;
    let (outputs, _, k, _) = w.dims4()?;
    let (x, w) = (f64s(&x)?, f64s(w)?);
    let bias = b.map_or(Ok(vec![0.0; outputs]), f64s)?;
    let side = |n: usize| (n + 2 * spec.padding - k) / spec.stride + 1;
    let mut out = Vec::new();
    for (n, o) in (0..batch).flat_map(|n| (0..outputs).map(move |o| (n, o))) {
        for (i, j) in (0..side(height)).flat_map(|i| (0..side(width)).map(move |j| (i, j))) {
            let mut sum = bias[o];
            for (c, ky) in (0..channels).flat_map(|c| (0..k).map(move |ky| (c, ky))) {
                for kx in 0..k {
                    let (y, z) = (i * spec.stride + ky, j * spec.stride + kx);
                    let inside = |v: usize, n: usize| v >= spec.padding && v - spec.padding < n;
                    if inside(y, height) && inside(z, width) {
                        let at = ((n * channels + c) * height + y - spec.padding) * width;
                        sum += x[at + z - spec.padding] * w[((o * channels + c) * k + ky) * k + kx];
                    }
                }
            }
            out.push(sum);
        }
    }
    Ok(out)
}

type Case = ([usize; 4], usize, usize, Conv2dSpec);

/// (x, O, k, spec): the VAE's layers cut down, ragged widths and heights, strides, an even kernel.
fn cases() -> Vec<Case> {
    let spec = |stride, padding, upsample| Conv2dSpec { stride, padding, upsample };
    vec![
        ([1, 16, 8, 64], 32, 3, spec(1, 1, false)),
        ([2, 5, 7, 13], 7, 3, spec(1, 1, false)),
        ([1, 3, 33, 100], 30, 3, spec(1, 1, false)),
        ([1, 40, 6, 70], 3, 3, spec(1, 1, false)),
        ([1, 4, 1, 1], 5, 3, spec(1, 1, false)),
        ([2, 12, 9, 67], 25, 1, spec(1, 0, false)),
        ([1, 6, 5, 35], 9, 3, spec(1, 1, true)),
        ([1, 6, 17, 131], 10, 3, spec(2, 1, false)),
        ([1, 6, 16, 130], 10, 3, spec(2, 0, false)),
        ([2, 4, 16, 24], 50, 2, spec(2, 0, false)),
        ([1, 3, 12, 20], 4, 5, spec(1, 2, false)),
        ([1, 3, 28, 28], 4, 14, spec(14, 0, false)),
        ([1, 2, 9, 9], 4, 3, spec(3, 2, true)),
    ]
}

/// K products of deviation 1 in f32, as in `linear`.
#[test]
fn f32_agrees_with_the_definition() -> Result<()> {
    for (dims, o, k, spec) in cases() {
        let (x, w, b) = (normal(&dims, 1), normal(&[o, dims[1], k, k], 2), normal(&[o], 3));
        for b in [None, Some(&b)] {
            let ours = f64s(&conv2d(&x, &w, b, spec)?)?;
            let error = max_error(&ours, &reference(&x, &w, b, spec)?);
            let bound = 4.0 * f64::from(f32::EPSILON) * ((dims[1] * k * k) as f64 + 4.0);
            assert!(error <= bound, "{dims:?} {o} {k} {spec:?}: {error:e} > {bound:e}");
        }
    }
    Ok(())
}

/// bf16: ours rounds once; "plain" is the exact result of the same inputs, sum and bias each rounded.
#[test]
fn bf16_is_no_worse_than_twice_plain() -> Result<()> {
    for (dims, o, k, spec) in cases() {
        let x = normal(&dims, 1).to_dtype(DType::BF16)?;
        let w = normal(&[o, dims[1], k, k], 2).to_dtype(DType::BF16)?;
        let b = normal(&[o], 3).to_dtype(DType::BF16)?;
        let exact = reference(&x, &w, Some(&b), spec)?;
        let ours = conv2d(&x, &w, Some(&b), spec)?;
        let round = |v: Vec<f64>| Tensor::from_vec(v, ours.dims(), &Device::Cpu)?.to_dtype(DType::BF16);
        let plain = round(reference(&x, &w, None, spec)?)?.broadcast_add(&b.reshape((1, o, 1, 1))?)?;
        let (ours, plain) = (max_error(&f64s(&ours)?, &exact), max_error(&f64s(&plain)?, &exact));
        // An f32 error can push a result over a rounding boundary: one bf16 step of the largest.
        let atol = max_abs(&exact) / 256.0;
        assert!(ours <= 2.0 * plain && ours <= atol, "{dims:?} {o} {k}: {ours:e} against {plain:e}");
    }
    Ok(())
}

#[test]
fn bits_do_not_depend_on_batch_or_threads() -> Result<()> {
    let spec = Conv2dSpec { padding: 1, ..Conv2dSpec::default() };
    let (x, w) = (normal(&[3, 10, 21, 37], 1), normal(&[20, 10, 3, 3], 2));
    let all = conv2d(&x, &w, None, spec)?;
    assert_eq!(f64s(&all.narrow(0, 1, 1)?)?, f64s(&conv2d(&x.narrow(0, 1, 1)?, &w, None, spec)?)?);
    same_on_any_pool(|| conv2d(&x, &w, None, spec))
}

#[test]
fn nan_reaches_its_neighbours_and_nothing_else() -> Result<()> {
    let (height, width) = (9, 70);
    let mut data = vec![1f32; 2 * height * width];
    data[height * width + 4 * width + 64] = f32::NAN;
    let x = Tensor::from_vec(data, (1, 2, height, width), &Device::Cpu)?;
    let spec = Conv2dSpec { padding: 1, ..Conv2dSpec::default() };
    let y = f64s(&conv2d(&x, &normal(&[7, 2, 3, 3], 2), None, spec)?)?;
    for (i, v) in y.iter().enumerate() {
        let (row, column) = (i / width % height, i % width);
        assert_eq!(v.is_nan(), row.abs_diff(4) <= 1 && column.abs_diff(64) <= 1, "at {row},{column}");
    }
    Ok(())
}

#[test]
fn wrong_shapes_are_refused_with_their_shapes() {
    let x = normal(&[1, 2, 2, 8], 1);
    for w in [normal(&[4, 3, 3, 3], 2), normal(&[4, 2, 3, 3], 2), normal(&[4, 2, 1, 3], 2)] {
        let error = conv2d(&x, &w, None, Conv2dSpec::default()).expect_err("shapes do not fit").to_string();
        assert!(error.contains("[1, 2, 2, 8]") && error.contains("[4, "), "{error}");
    }
}
