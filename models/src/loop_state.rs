//! The state of the denoising loop between two steps, as bytes that another process can go on from.
//!
//! The sampler has no memory but the latents, so a loop that goes on from them ends in the same bits as one that was never
//! interrupted. Bytes are a safetensors file: the latents, and as metadata how many steps are done and what the steps
//! depend on besides the request.

use crate::Result;
use candle_core::{Device, Tensor};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::collections::HashMap;

const LATENTS: &str = "latents";
const DONE: &str = "steps_done";
const SETTINGS: &str = "settings";

/// Where a loop goes on.
#[derive(Debug)]
pub(crate) struct LoopState {
    /// At least 1, and fewer than the request has.
    pub(crate) steps_done: usize,
    /// `[N, C, h, w]` f32, on the host.
    pub(crate) latents: Tensor,
}

impl LoopState {
    /// Writes the state after `steps_done` steps of a loop with these settings; `latents` is `[N, C, h, w]` f32.
    pub(crate) fn encode(steps_done: usize, latents: &Tensor, settings: &str) -> Result<Vec<u8>> {
        let values = latents.flatten_all()?.to_vec1::<f32>()?;
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, latents.dims().to_vec(), &bytes);
        let view = view.map_err(candle_core::Error::from)?;
        let metadata = HashMap::from([
            (DONE.to_owned(), steps_done.to_string()),
            (SETTINGS.to_owned(), settings.to_owned()),
        ]);
        Ok(safetensors::serialize([(LATENTS, view)], Some(metadata)).map_err(candle_core::Error::from)?)
    }

    /// Reads what [`Self::encode`] wrote; `None` where it is damaged, of other settings or of another shape, or where no
    /// step of `steps` is left.
    pub(crate) fn decode(bytes: &[u8], shape: &[usize], steps: usize, settings: &str) -> Option<Self> {
        let (_, header) = SafeTensors::read_metadata(bytes).ok()?;
        let metadata = header.metadata().as_ref()?;
        let steps_done: usize = metadata.get(DONE)?.parse().ok()?;
        let view = SafeTensors::deserialize(bytes).ok()?.tensor(LATENTS).ok()?;
        let fits = view.dtype() == Dtype::F32 && view.shape() == shape && (1..steps).contains(&steps_done);
        if !fits || metadata.get(SETTINGS)? != settings {
            return None;
        }
        let values: Vec<f32> = view
            .data()
            .chunks_exact(4)
            .map(|value| f32::from_le_bytes([value[0], value[1], value[2], value[3]]))
            .collect();
        if !values.iter().all(|value| value.is_finite()) {
            return None;
        }
        let latents = Tensor::from_vec(values, shape, &Device::Cpu).ok()?;
        Some(Self { steps_done, latents })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_damaged_or_of_another_loop_is_not_gone_on_from() {
        let latents = Tensor::new(&[[[[1f32, -2.5], [0.0, 1e-30]]]], &Device::Cpu).expect("latents");
        let bytes = LoopState::encode(3, &latents, "a").expect("a state");
        let state = LoopState::decode(&bytes, &[1, 1, 2, 2], 4, "a").expect("the state");
        assert_eq!(state.steps_done, 3);
        let values = |tensor: &Tensor| tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>());
        assert_eq!(values(&state.latents).expect("values"), values(&latents).expect("values"));

        assert!(LoopState::decode(&bytes, &[1, 1, 2, 2], 3, "a").is_none(), "no step is left");
        assert!(LoopState::decode(&bytes, &[1, 1, 4, 1], 4, "a").is_none(), "another shape");
        assert!(LoopState::decode(&bytes, &[1, 1, 2, 2], 4, "b").is_none(), "other settings");
        for cut in 0..bytes.len() {
            assert!(LoopState::decode(&bytes[..cut], &[1, 1, 2, 2], 4, "a").is_none(), "cut at {cut}");
        }
        let infinite = Tensor::new(&[[[[f32::INFINITY, 0.0]]]], &Device::Cpu).expect("latents");
        let bytes = LoopState::encode(1, &infinite, "a").expect("a state");
        assert!(LoopState::decode(&bytes, &[1, 1, 1, 2], 4, "a").is_none(), "not finite");
    }
}
