//! Measuring what shortcuts cost in exactness.

use super::{DenoiseBench, DenoiseSpec};
use crate::generate::{Control, Step};
use crate::{Result, Shortcuts};
use candle_core::Tensor;

impl DenoiseBench {
    /// What every later run may leave out; nothing unless this is called.
    pub fn set_shortcuts(&mut self, shortcuts: Shortcuts) {
        self.shortcuts = shortcuts;
    }

    /// How far the final latents are from those of the exact loop: the norm of the difference over the norm of theirs.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn relative_error(&mut self, spec: &DenoiseSpec) -> Result<f64> {
        let ours = self.latents(spec)?;
        let shortcuts = std::mem::take(&mut self.shortcuts);
        let exact = self.latents(spec);
        self.shortcuts = shortcuts;
        let exact = exact?;
        Ok(norm(&(ours - &exact)?)? / norm(&exact)?)
    }

    fn latents(&mut self, spec: &DenoiseSpec) -> Result<Tensor> {
        Ok(self.denoise(spec, &mut |_: Step| Control::Continue, None)?.0.latents)
    }
}

fn norm(x: &Tensor) -> Result<f64> {
    Ok(f64::from(x.sqr()?.sum_all()?.sqrt()?.to_scalar::<f32>()?))
}
