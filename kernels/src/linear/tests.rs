//! Linear layers against candle in f64, and tests that their bits do not depend on threads or other rows.

use super::*;
use crate::testing::{f64s, max_abs, max_error, normal, same_on_any_pool};
use candle_core::{DType, Device};

/// In f64 by candle, activation by its formula.
fn reference(x: &Tensor, w: &Tensor, b: Option<&Tensor>, act: Activation) -> Result<Vec<f64>> {
    let w = w.to_dtype(DType::F64)?.t()?;
    let y = x.to_dtype(DType::F64)?.contiguous()?.broadcast_matmul(&w)?;
    let y = match b {
        Some(b) => y.broadcast_add(&b.to_dtype(DType::F64)?)?,
        None => y,
    };
    let y = match act {
        Activation::None => y,
        Activation::GeluTanh => y.gelu()?,
        Activation::GeluErf => y.gelu_erf()?,
        Activation::QuickGelu => (&y / ((&y * -1.702)?.exp()? + 1.0)?)?,
        Activation::Silu => y.silu()?,
        Activation::Relu => y.relu()?,
    };
    f64s(&y)
}

const ACTS: [Activation; 6] = [
    Activation::None,
    Activation::GeluTanh,
    Activation::GeluErf,
    Activation::QuickGelu,
    Activation::Silu,
    Activation::Relu,
];

/// (x without K, K, N): model sizes cut down, ragged ones, single rows.
const CASES: [(&[usize], usize, usize); 7] = [
    (&[1], 256, 768),
    (&[2], 7, 5),
    (&[3, 7], 24, 100),
    (&[2, 333], 256, 192),
    (&[1, 1030], 65, 63),
    (&[1, 97], 2432, 130),
    (&[2, 1], 300, 64),
];

/// f32: K products of deviation 1, each step rounded: the error grows as sqrt(K) * eps * sqrt(K) at
/// most, and 4 covers the extreme of some 10^5 outputs.
#[test]
fn f32_agrees_with_f64() -> Result<()> {
    for (i, (lead, k, n)) in CASES.iter().enumerate() {
        let act = ACTS[i % ACTS.len()];
        let x = normal(&[lead, &[*k][..]].concat(), 1);
        let (w, b) = (normal(&[*n, *k], 2), normal(&[*n], 3));
        for b in [None, Some(&b)] {
            let ours = linear(&x, &w, b, act)?;
            assert_eq!(ours.dims(), [lead, &[*n][..]].concat());
            let exact = reference(&x, &w, b, act)?;
            let error = max_error(&f64s(&ours)?, &exact);
            let bound = 4.0 * f64::from(f32::EPSILON) * (*k as f64 + 4.0);
            assert!(error <= bound, "{lead:?} {k} {n} {act:?}: {error:e} > {bound:e}");
        }
    }
    Ok(())
}

#[test]
fn every_activation() -> Result<()> {
    let (x, w, b) = (normal(&[9, 40], 1), normal(&[70, 40], 2), normal(&[70], 3));
    for act in ACTS {
        let error = max_error(&f64s(&linear(&x, &w, Some(&b), act)?)?, &reference(&x, &w, Some(&b), act)?);
        // As above for K = 40.
        assert!(error <= 4.0 * f64::from(f32::EPSILON) * 44.0, "{act:?}: {error:e}");
    }
    Ok(())
}

/// bf16: one rounding of ours against the rounding of every step in plain candle.
#[test]
fn bf16_is_no_worse_than_twice_plain() -> Result<()> {
    for (lead, k, n) in CASES {
        let x = normal(&[lead, &[k][..]].concat(), 1).to_dtype(DType::BF16)?;
        let w = normal(&[n, k], 2).to_dtype(DType::BF16)?;
        let b = normal(&[n], 3).to_dtype(DType::BF16)?;
        let exact = reference(&x, &w, Some(&b), Activation::GeluTanh)?;
        let ours = linear(&x, &w, Some(&b), Activation::GeluTanh)?;
        assert_eq!(ours.dtype(), DType::BF16);
        let plain = x.broadcast_matmul(&w.t()?)?.broadcast_add(&b)?.gelu()?;
        let (ours, plain) = (max_error(&f64s(&ours)?, &exact), max_error(&f64s(&plain)?, &exact));
        // Half a bf16 step of the largest result, should plain candle be lucky.
        let atol = max_abs(&exact) / 512.0;
        assert!(ours <= 2.0 * plain + atol, "{lead:?} {k} {n}: {ours:e} against {plain:e}");
    }
    Ok(())
}

#[test]
fn a_narrowed_view_equals_its_copy() -> Result<()> {
    let (x, w) = (normal(&[2, 50, 96], 1), normal(&[80, 96], 2));
    for dtype in [DType::F32, DType::BF16] {
        let (x, w) = (x.to_dtype(dtype)?, w.to_dtype(dtype)?);
        for (start, len) in [(0, 33), (33, 17), (49, 1)] {
            let view = x.narrow(1, start, len)?;
            let ours = linear(&view, &w, None, Activation::None)?;
            let copied = linear(&view.contiguous()?, &w, None, Activation::None)?;
            assert_eq!(f64s(&ours)?, f64s(&copied)?);
        }
    }
    Ok(())
}

#[test]
fn a_row_does_not_depend_on_batch_or_threads() -> Result<()> {
    let (x, w) = (normal(&[3, 200, 300], 1), normal(&[130, 300], 2));
    let all = linear(&x, &w, None, Activation::Silu)?;
    let alone = linear(&x.narrow(0, 1, 1)?, &w, None, Activation::Silu)?;
    assert_eq!(f64s(&all.narrow(0, 1, 1)?)?, f64s(&alone)?);
    let row = linear(&x.narrow(0, 1, 1)?.narrow(1, 77, 1)?, &w, None, Activation::Silu)?;
    assert_eq!(f64s(&all.narrow(0, 1, 1)?.narrow(1, 77, 1)?)?, f64s(&row)?);
    same_on_any_pool(|| linear(&x, &w, None, Activation::Silu))
}

/// In bf16 only a processor with products of it packs.
#[test]
fn packed_weights_give_the_same_bits() -> Result<()> {
    for (dtype, other) in [(DType::F32, DType::BF16), (DType::BF16, DType::F32)] {
        for (lead, k, n) in CASES {
            let [x, w, b] = [normal(&[lead, &[k][..]].concat(), 1), normal(&[n, k], 2), normal(&[n], 3)]
                .map(|t| t.to_dtype(dtype));
            let (x, w, b) = (x?, w?, b?);
            let Some(packed) = PackedWeight::new(&w)? else {
                assert_eq!(dtype, DType::BF16);
                continue;
            };
            assert_eq!(packed.dims(), [n, k]);
            for b in [None, Some(&b)] {
                let plain = linear(&x, &w, b, Activation::Silu)?;
                let ours = linear_packed(&x, &packed, b, Activation::Silu)?;
                assert_eq!(f64s(&ours)?, f64s(&plain)?, "{dtype:?} {lead:?} {k} {n}");
            }
            let error = linear_packed(&x.to_dtype(other)?, &packed, None, Activation::None);
            assert!(error.is_err_and(|e| e.to_string().contains("another type")));
        }
    }
    Ok(())
}

#[test]
fn nan_and_infinity_stay_in_their_row() -> Result<()> {
    for act in ACTS {
        let mut values = vec![1f32; 3 * 20];
        values[5] = f32::NAN;
        values[20 + 5] = f32::INFINITY;
        let x = Tensor::from_vec(values, (3, 20), &Device::Cpu)?;
        let y = f64s(&linear(&x, &Tensor::ones((66, 20), DType::F32, &Device::Cpu)?, None, act)?)?;
        assert!(y[..66].iter().all(|v| v.is_nan()), "{act:?}");
        assert!(y[66..132].iter().all(|v| *v == f64::INFINITY), "{act:?}");
        assert!(y[132..].iter().all(|v| (19.9..20.1).contains(v)), "{act:?}");
    }
    Ok(())
}

#[test]
fn wrong_shapes_are_refused_with_their_shapes() -> Result<()> {
    let x = normal(&[4, 8], 1);
    for (w, b) in [(normal(&[5, 9], 2), None), (normal(&[5, 8], 2), Some(normal(&[4], 3)))] {
        let error = linear(&x, &w, b.as_ref(), Activation::None).expect_err("shapes do not fit").to_string();
        assert!(error.contains("[4, 8]") && error.contains("[5, "), "{error}");
    }
    assert!(linear(&normal(&[8, 4], 1).t()?, &normal(&[5, 8], 2), None, Activation::None).is_err());
    Ok(())
}
