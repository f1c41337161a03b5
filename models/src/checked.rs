//! What is wrong with a request, before anything is computed.

use crate::generate::{ControlNet, GenerateRequest, IpAdapter, SkipLayerGuidance};
use crate::{Error, ModelCard, Result};
use std::ops::RangeInclusive;

/// T5 lengths the encoder is used with (diffusers refuses more than 512).
const T5_TOKENS: RangeInclusive<usize> = 1..=512;

/// Refuses what the model of `card`, with a transformer of `depth` blocks, cannot generate.
///
/// # Errors
/// [`Error::Request`] with what to change.
pub(crate) fn check(request: &GenerateRequest, card: &ModelCard, depth: usize) -> Result<()> {
    card.canvas(request.width, request.height)?;
    let complaint = if request.steps == 0 {
        "steps must be at least 1"
    } else if request.num_images == 0 {
        "num_images must be at least 1"
    } else if !request.guidance.is_finite() {
        "guidance must be a finite number"
    } else if request
        .init_image
        .as_ref()
        .is_some_and(|init_image| !(init_image.strength > 0.0 && init_image.strength <= 1.0))
    {
        "strength must be above 0 and at most 1"
    } else if !T5_TOKENS.contains(&request.t5_tokens) {
        "t5_tokens (max_sequence_length) must be 1 to 512"
    } else if request.controlnet.as_ref().is_some_and(|net| !is_controlnet(net)) {
        "a ControlNet needs a scale that is a number, and a start and an end from 0 to 1"
    } else if request.ip_adapter.as_ref().is_some_and(|adapter| !is_ip_adapter(adapter)) {
        "an IP-Adapter needs a scale that is a number, 0 or more"
    } else {
        return check_skip_layers(request, depth);
    };
    Err(Error::Request(complaint.into()))
}

fn is_controlnet(net: &ControlNet) -> bool {
    let shares = 0.0..=1.0;
    net.scale.is_finite() && shares.contains(&net.start) && shares.contains(&net.end)
}

fn is_ip_adapter(adapter: &IpAdapter) -> bool {
    adapter.scale.is_finite() && adapter.scale >= 0.0
}

fn check_skip_layers(request: &GenerateRequest, depth: usize) -> Result<()> {
    let Some(SkipLayerGuidance { layers, scale, start, stop }) = &request.skip_layers else { return Ok(()) };
    let complaint = if !request.is_guided() {
        "skip-layer guidance needs a guidance above 1".to_owned()
    } else if layers.is_empty() {
        "skip-layer guidance needs at least one layer".to_owned()
    } else if let Some(beyond) = layers.iter().find(|layer| **layer >= depth) {
        format!("skip-layer guidance: there is no layer {beyond}: this model has 0 to {}", depth - 1)
    } else if !scale.is_finite() || !(0.0..=1.0).contains(start) || !(0.0..=1.0).contains(stop) {
        "skip-layer guidance needs a scale that is a number, and a start and a stop from 0 to 1".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::Request(complaint))
}
