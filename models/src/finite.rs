//! Whether a stage's numbers are finite. What is not must never become an image.

use crate::error::Stage;
use crate::{Error, Result};
use candle_core::{DType, Tensor};

/// Refuses a tensor with a NaN or an infinity in it. It is read on the host: for what is there already, or comes once in
/// a request.
pub(crate) fn check(tensor: &Tensor, stage: Stage) -> Result<()> {
    let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    check_values(&values, stage)
}

/// Refuses values of which one is NaN or infinite.
pub(crate) fn check_values(values: &[f32], stage: Stage) -> Result<()> {
    match values.iter().all(|value| value.is_finite()) {
        true => Ok(()),
        false => Err(Error::NonFinite { stage }),
    }
}
