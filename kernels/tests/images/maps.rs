//! Activations, sums and upsampling.

use super::*;

fn formula(act: Activation, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match act {
        Activation::None => x,
        Activation::GeluTanh => {
            x * sigmoid(2.0 * (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x))
        }
        Activation::GeluErf => x * normal_distribution(x),
        Activation::QuickGelu => x * sigmoid(1.702 * x),
        Activation::Silu => x * sigmoid(x),
        Activation::Relu => x.max(0.0),
    }
}

/// By Simpson's rule from 0; 1e-12 for |x| below 8.
fn normal_distribution(x: f64) -> f64 {
    let (n, density) = (4000, |t: f64| (-t * t / 2.0).exp() / std::f64::consts::TAU.sqrt());
    let h = x / f64::from(n);
    let weight = |i| if i == 0 || i == n { 1.0 } else { f64::from(2 + 2 * (i % 2)) };
    0.5 + (0..=n).map(|i| weight(i) * density(f64::from(i) * h)).sum::<f64>() * h / 3.0
}

/// In f32 within 8 roundings of x, which never exceeds the result's slope: exp, tanh and erf are good to two steps,
/// and there are four operations. In bf16 one rounding more.
#[test]
fn activations_agree_with_the_formulas() -> Result<()> {
    use Activation::{GeluErf, GeluTanh, None, QuickGelu, Relu, Silu};
    let gpu = gpu();
    for act in [None, GeluTanh, GeluErf, QuickGelu, Silu, Relu] {
        for dtype in TYPES {
            for (count, offset) in [(1, 0), (7, 0), (8, 0), (2049, 0), (515, 1), (64, 8)] {
                let whole = (normal(&[count + offset], 1) * 2.0)?.to_dtype(dtype)?;
                let ours = whole.to_device(&gpu)?;
                elementwise::activate(&ours.narrow(0, offset, count)?, act)?;
                let (x, rounding) = (f64s(&whole)?, rounding(dtype));
                let exact: Vec<f64> = x
                    .iter()
                    .enumerate()
                    .map(|(i, &x)| if i < offset { x } else { formula(act, x) })
                    .collect();
                let bound = |i: usize| 8.0 * F32 * x[i].abs() + rounding * exact[i].abs();
                check(&format!("{act:?} {dtype:?} {count} {offset}"), &ours, &exact, bound)?;
            }
        }
    }
    Ok(())
}

#[test]
fn activations_keep_nan_and_take_any_dense_layout() -> Result<()> {
    let gpu = gpu();
    let x = Tensor::new(&[f32::NAN, -1e30, 1e30, 0.0, f32::INFINITY], &gpu)?;
    for act in [Activation::GeluTanh, Activation::QuickGelu, Activation::Silu, Activation::Relu] {
        let y = x.copy()?;
        elementwise::activate(&y, act)?;
        let y: Vec<f32> = y.to_vec1()?;
        assert!(y[0].is_nan() && y[2..] == [1e30, 0.0, f32::INFINITY], "{act:?}: {y:?}");
        assert!(y[1] == 0.0, "{act:?}: {y:?}");
    }
    let whole = normal(&[2, 3, 4, 5], 1).to_device(&gpu)?;
    let image = channels_last(&whole)?;
    elementwise::activate(&image, Activation::Relu)?;
    assert_eq!(bits(&image)?, bits(&whole.relu()?)?);
    assert!(elementwise::activate(&whole.narrow(3, 0, 2)?, Activation::Relu).is_err(), "gaps");
    Ok(())
}

/// One f32 sum and one rounding on both sides.
#[test]
fn sums_keep_the_layout() -> Result<()> {
    let gpu = gpu();
    for dims in [[1, 8, 16, 16], [2, 3, 5, 7], [1, 1, 1, 1], [1, 128, 9, 1]] {
        for dtype in TYPES {
            for last in [false, true] {
                let (a, b) = (normal(&dims, 1).to_dtype(dtype)?, normal(&dims, 2).to_dtype(dtype)?);
                let exact = (a.to_dtype(DType::F32)? + b.to_dtype(DType::F32)?)?.to_dtype(dtype)?;
                let lay = |x: &Tensor| if last { channels_last(x) } else { Ok(x.clone()) };
                let (a, b) = (lay(&a.to_device(&gpu)?)?, lay(&b.to_device(&gpu)?)?);
                let ours = elementwise::add(&a, &b)?;
                assert_eq!(bits(&ours)?, bits(&exact)?, "{dims:?} {dtype:?} {last}");
                let (ours, a) = (ours.permute((0, 2, 3, 1))?, a.permute((0, 2, 3, 1))?);
                assert_eq!(ours.is_contiguous(), a.is_contiguous(), "{dims:?} {last}");
            }
        }
    }
    let a = normal(&[2, 3, 4, 5], 1).to_device(&gpu)?;
    assert!(elementwise::add(&a, &channels_last(&a)?).is_err(), "different layouts");
    Ok(())
}

/// The last has more rows than a side of the grid.
#[test]
fn upsampling_repeats_every_pixel() -> Result<()> {
    let gpu = gpu();
    for [batch, height, width, channels] in
        [[1, 5, 7, 16], [2, 3, 4, 3], [1, 1, 1, 1], [2, 9, 33, 40], [2, 33000, 1, 1]]
    {
        for dtype in TYPES {
            let x = normal(&[batch, height, width, channels], 1).to_dtype(dtype)?;
            let exact = x
                .reshape(&[batch, height, 1, width, 1, channels][..])?
                .broadcast_as(&[batch, height, 2, width, 2, channels][..])?
                .reshape((batch, 2 * height, 2 * width, channels))?;
            let ours = elementwise::upsample_nearest2x(&x.to_device(&gpu)?)?;
            assert_eq!(ours.dims(), exact.dims());
            assert_eq!(bits(&ours)?, bits(&exact)?, "{batch} {height} {width} {channels} {dtype:?}");
        }
    }
    Ok(())
}
