//! A caller's access to the tensors of a request while they are computed, for parity tests and profiles.

use crate::Result;
use candle_core::Tensor;

/// Receives tensors as they are computed: name and value.
pub(crate) type Probe<'a> = Option<&'a mut dyn FnMut(&str, &Tensor) -> Result<()>>;

/// Passes a tensor to `probe`, if there is one.
pub(crate) fn report_tensor(probe: &mut Probe, name: &str, tensor: &Tensor) -> Result<()> {
    probe.as_mut().map_or(Ok(()), |probe| probe(name, tensor))
}
