//! GroupNorm in both layouts.

use super::*;

/// The definition, in f64.
fn formula(x: &Tensor, w: &Tensor, b: &Tensor, groups: usize, silu: bool) -> Result<Vec<f64>> {
    let (_, channels, height, width) = x.dims4()?;
    let (x, w, b) = (f64s(x)?, f64s(w)?, f64s(b)?);
    let (per_group, area) = (channels / groups, height * width);
    let mut out = Vec::new();
    for (group, x) in x.chunks(per_group * area).enumerate() {
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / x.len() as f64;
        for (i, v) in x.iter().enumerate() {
            let channel = group % groups * per_group + i / area;
            let y = (v - mean) / (variance + 1e-6).sqrt() * w[channel] + b[channel];
            out.push(if silu { y / (1.0 + (-y).exp()) } else { y });
        }
    }
    Ok(out)
}

/// (x, groups): the VAE's layers cut down to one and to several chunks of pixels, ragged areas, groups of 1 to 4000
/// channels around the block's 384 vectors, widths that are not multiples of 16 bytes.
const CASES: [([usize; 4], usize); 12] = [
    ([1, 8, 16, 16], 2),
    ([2, 32, 7, 13], 32),
    ([1, 6, 65, 130], 2),
    ([2, 4, 1, 1], 2),
    ([1, 64, 64, 64], 32),
    ([3, 12, 333, 1], 3),
    ([2, 128, 41, 43], 32),
    ([1, 512, 17, 19], 32),
    ([1, 320, 9, 31], 32),
    ([1, 8000, 3, 5], 2),
    ([1, 4096, 3, 2], 4),
    ([1, 1023, 3, 5], 3),
];

/// Outputs are of order 5 * 3 = 15: four operations and the statistics, good to two roundings each, are 2^-24 * 8 * 15
/// = 7e-6, and the fast SiLU adds two roundings and 1e-6 of x.
const BOUND: f64 = 3e-5;

#[test]
fn both_types_and_layouts_agree_with_the_definition() -> Result<()> {
    let gpu = gpu();
    for (dims, groups) in CASES {
        for dtype in TYPES {
            let bias = normal(&[dims[1]], 3).to_dtype(dtype)?;
            let (x, w) = (normal(&dims, 1).to_dtype(dtype)?, normal(&[dims[1]], 2).to_dtype(dtype)?);
            let (gx, gw, gb) = (x.to_device(&gpu)?, w.to_device(&gpu)?, bias.to_device(&gpu)?);
            for (act, silu) in [(Activation::None, false), (Activation::Silu, true)] {
                let what = format!("{dims:?} {groups} {dtype:?} {act:?}");
                let exact = formula(&x, &w, &bias, groups, silu)?;
                let ours = group_norm(&channels_last(&gx)?, &gw, &gb, groups, 1e-6, act)?;
                let rounded = if dtype == DType::BF16 { BF16 } else { 0.0 };
                check(&what, &ours, &exact, |i| BOUND + rounded * exact[i].abs())?;
                assert!(ours.permute((0, 2, 3, 1))?.is_contiguous(), "{what}: channels last");
                let other = group_norm(&gx, &gw, &gb, groups, 1e-6, act)?;
                assert_eq!(bits(&ours)?, bits(&other)?, "{what}: the layout changes nothing");
                let cpu = f64s(&group_norm(&x, &w, &bias, groups, 1e-6, act)?)?;
                let apart = max_error(&f64s(&down(&ours)?)?, &cpu);
                // Both are within half a step of bf16.
                assert!(apart <= BOUND + 2.0 * rounded * max_abs(&cpu), "{what}: {apart:e} from the CPU");
            }
        }
    }
    Ok(())
}

/// Mean 1000, deviation 1: the f32 mean may be off by two steps of 6e-5, times a weight of at most 4; a sum of squares
/// in f32 would be off by whole deviations.
#[test]
fn a_group_far_from_zero() -> Result<()> {
    let gpu = gpu();
    let x = (normal(&[1, 4, 300, 301], 4) + 1000.0)?;
    let (w, b) = (normal(&[4], 2), normal(&[4], 3));
    let ours =
        group_norm(&x.to_device(&gpu)?, &w.to_device(&gpu)?, &b.to_device(&gpu)?, 2, 1e-6, Activation::None)?;
    check("mean 1000", &ours, &formula(&x, &w, &b, 2, false)?, |_| 5e-4)
}

/// Every difference is exactly zero, so the result is b.
#[test]
fn a_constant_group_gives_the_bias() -> Result<()> {
    let gpu = gpu();
    let (x, b) = (Tensor::full(5.3f32, (1, 8, 30, 50), &Device::Cpu)?, normal(&[8], 3));
    let (w, gb) = (normal(&[8], 2).to_device(&gpu)?, b.to_device(&gpu)?);
    let ours = group_norm(&x.to_device(&gpu)?, &w, &gb, 2, 1e-6, Activation::None)?;
    assert_eq!(bits(&ours)?, bits(&b.reshape((1, 8, 1, 1))?.broadcast_as(x.shape())?.contiguous()?)?);
    Ok(())
}

#[test]
fn nan_stays_in_its_group_and_bits_in_their_image() -> Result<()> {
    let gpu = gpu();
    let (w, b) = (normal(&[8], 2).to_device(&gpu)?, normal(&[8], 3).to_device(&gpu)?);
    let norm = |x: &Tensor| group_norm(x, &w, &b, 2, 1e-6, Activation::Silu);
    let mut values: Vec<f32> = (0..8 * 900).map(|i| (i % 77) as f32).collect();
    values[3 * 900 + 5] = f32::NAN;
    let y = norm(&Tensor::from_vec(values, (1, 8, 30, 30), &gpu)?)?;
    assert!(f64s(&down(&y)?)?.iter().enumerate().all(|(i, v)| v.is_nan() == (i < 4 * 900)));
    let x = normal(&[3, 8, 90, 90], 1).to_device(&gpu)?;
    let all = norm(&x)?;
    for i in 0..3 {
        assert_eq!(bits(&all.narrow(0, i, 1)?)?, bits(&norm(&x.narrow(0, i, 1)?)?)?, "image {i}");
    }
    Ok(())
}
