//! The GPU's ops at the sizes of the denoising loop, each against plain f32 on the same card. Needs a GPU, and fails
//! without one.
//!
//! `GPU_CHECK_SMALL=1` cuts the sizes down, for an emulated GPU. Ops that a card does not support are named and left out.
#![cfg(feature = "cuda")]

mod attentions;
#[path = "../rows/formulas.rs"]
mod formulas;
mod products;
mod rows;

use candle_core::{D, DType, Device, Result, Tensor};
use latentd_kernels::cuda;
use std::fmt;

/// Half a step of bf16, the largest error of a number that is rounded once, relative to it. No row is off by more.
const BF16: f64 = 1.0 / 256.0;

/// Errors that are anywhere within half a step are `1 / sqrt(3)` of it in the mean square, which is what many rows see.
const MEAN: f64 = 0.5774;

/// What f32 arithmetic may add to a comparison, relative: sums of thousands of terms, and functions within some steps.
const F32: f64 = 2e-5;

/// Image and text tokens of a request, and heads of 64.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    image: usize,
    text: usize,
    heads: usize,
}

/// With guidance: one half of the batch for the prompt, one for the negative prompt.
const BATCH: usize = 2;
const HEAD: usize = 64;

impl Sizes {
    fn width(self) -> usize {
        self.heads * HEAD
    }

    fn length(self) -> usize {
        self.image + self.text
    }
}

/// SD3.5 Large and Medium at 1024x1024, with T5's usual 256 tokens beside CLIP's 77, and with 512.
fn sizes() -> Vec<Sizes> {
    if small() {
        // More than one block of queries and of keys, and a tail.
        return vec![Sizes { image: 130, text: 37, heads: 3 }];
    }
    let of = |text, heads| Sizes { image: 4096, text, heads };
    vec![of(333, 38), of(589, 38), of(333, 24), of(589, 24)]
}

fn small() -> bool {
    std::env::var_os("GPU_CHECK_SMALL").is_some()
}

/// A device of its own, so that no other test draws from its random numbers.
fn gpu() -> Device {
    let device = cuda::open(0, None).expect("these tests need a GPU");
    device.set_seed(17).expect("a seed");
    device
}

/// Normal numbers of deviation `deviation`, made on the device.
fn normal(device: &Device, shape: &[usize], deviation: f64) -> Result<Tensor> {
    Tensor::randn(0f32, deviation as f32, shape, device)?.to_dtype(DType::BF16)
}

fn wide(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.to_dtype(DType::F32)
}

/// `|ours - exact| / |exact|` (Euclidean norms), over everything and over the row where it is the largest.
struct Off {
    whole: f64,
    row: f64,
}

impl Off {
    /// Rows are of `width` elements. NaN anywhere makes both NaN.
    fn new(ours: &Tensor, exact: &Tensor, width: usize) -> Result<Self> {
        assert_eq!(ours.dims(), exact.dims());
        let squares = |x: &Tensor| -> Result<Vec<f64>> {
            x.reshape(((), width))?.sqr()?.sum(D::Minus1)?.to_dtype(DType::F64)?.to_vec1()
        };
        let (off, exact) = (squares(&(wide(ours)? - exact)?)?, squares(exact)?);
        let ratio = |off: f64, of: f64| if off == 0.0 && of == 0.0 { 0.0 } else { (off / of).sqrt() };
        let rows = off.iter().zip(&exact).map(|(off, of)| ratio(*off, *of));
        let row = rows.fold(0.0, |most: f64, row| if row > most || row.is_nan() { row } else { most });
        Ok(Self { whole: ratio(off.iter().sum(), exact.iter().sum()), row })
    }

    /// Fails above `bound` for everything, or above `row_bound` for one row.
    fn judge(&self, what: &str, bound: f64, row_bound: f64) {
        println!("{what}: {self}, allowed {bound:.2e} and {row_bound:.2e}");
        // Not the other way round: NaN must fail.
        assert!(
            self.whole <= bound && self.row <= row_bound,
            "{what}: {self}, allowed {bound:e}, {row_bound:e}"
        );
    }
}

impl fmt::Display for Off {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "off by {:.2e}, one row by {:.2e}", self.whole, self.row)
    }
}

#[test]
fn what_is_not_written_or_wrong_in_one_row_is_found() -> Result<()> {
    let device = gpu();
    let exact = wide(&normal(&device, &[500, 64], 1.0)?)?;
    let spoiled = |value: f32| -> Result<Off> {
        let row = (Tensor::ones((1, 64), DType::F32, &device)? * f64::from(value))?;
        Off::new(&Tensor::cat(&[&exact.narrow(0, 0, 499)?, &row], 0)?, &exact, 64)
    };
    let (unwritten, wrong) = (spoiled(f32::NAN)?, spoiled(0.5)?);
    assert!(unwritten.whole.is_nan() && unwritten.row.is_nan());
    assert!(wrong.whole < 0.1 && wrong.row > 0.5, "{wrong}");
    let same = Off::new(&exact, &exact, 64)?;
    assert_eq!((same.whole, same.row), (0.0, 0.0));
    Ok(())
}
