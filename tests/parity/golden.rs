//! The golden files, and distances of our results from them.

#[path = "case.rs"]
pub(crate) mod case;

use candle_core::{DType, Tensor};
pub(crate) use case::{Case, json};

/// `max |ours - theirs| / max |theirs|`.
pub(crate) fn relative_error(ours: &Tensor, theirs: &Tensor) -> f32 {
    assert_eq!(ours.dims(), theirs.dims());
    let flat = |t: &Tensor| -> Vec<f32> {
        t.to_dtype(DType::F32).and_then(|t| t.flatten_all()).and_then(|t| t.to_vec1()).expect("f32 values")
    };
    let (ours, theirs) = (flat(ours), flat(theirs));
    let scale = theirs.iter().fold(0f32, |m, x| m.max(x.abs()));
    // `max` ignores a NaN, which must fail the comparison.
    let worst = ours
        .iter()
        .zip(&theirs)
        .map(|(a, b)| (a - b).abs())
        .fold(0f32, |m, d| if d > m || d.is_nan() { d } else { m });
    worst / scale
}

/// Mean and maximum difference of 8-bit values.
pub(crate) fn pixel_difference(ours: &[u8], theirs: &[u8]) -> (f64, u8) {
    assert_eq!(ours.len(), theirs.len());
    let differences = ours.iter().zip(theirs).map(|(a, b)| a.abs_diff(*b));
    let sum: u64 = differences.clone().map(u64::from).sum();
    (sum as f64 / ours.len() as f64, differences.max().unwrap_or(0))
}
