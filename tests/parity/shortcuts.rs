//! Guidance in an interval and the first-block cache, against diffusers and against the exact loop.

use crate::golden::{Case, json, pixel_difference, relative_error};
use crate::pipeline::bytes;
use latentd_models::{
    Control, DType, Device, GenerateRequest, Generated, GuidanceInterval, LoadOptions, ModelSource, Pipeline,
    Shortcuts, Step,
};

fn load(case: &Case, device: Device, shortcuts: Shortcuts) -> Pipeline {
    let options = LoadOptions::new(device, DType::F32);
    let mut pipeline = Pipeline::load(&ModelSource::Directory(case.model()), &options)
        .unwrap_or_else(|e| panic!("{}: {e}", case.name));
    pipeline.set_shortcuts(shortcuts);
    pipeline
}

fn generate(case: &Case, request: &GenerateRequest, shortcuts: Shortcuts) -> Generated {
    load(case, Device::Cpu, shortcuts).generate(request, &mut |_: Step| Control::Continue).expect("an image")
}

fn within(low: f64, high: f64) -> Shortcuts {
    Shortcuts { guidance_interval: Some(GuidanceInterval { low, high }), ..Shortcuts::default() }
}

fn cached(threshold: f64) -> Shortcuts {
    Shortcuts { first_block_cache: Some(threshold), ..Shortcuts::default() }
}

/// The latents of every step equal diffusers', and hence every decision of the cache.
pub(crate) fn check_cache(device: Device, name: &'static str) {
    let case = Case::read_file(name, "golden_cache.safetensors");
    let cache = json(&format!("{name}/cache.json"));
    let steps = cache["steps"].as_u64().expect("a count") as usize;
    let request = GenerateRequest { steps, ..case.request.clone() };
    let mut pipeline = load(&case, device, cached(cache["threshold"].as_f64().expect("a number")));
    let generated = pipeline.trace(&request, &mut |stage, tensor| {
        if let Some(step) = stage.strip_prefix("latents.") {
            let golden = case.tensor(&format!("step.{:02}.latents", step.parse::<usize>().expect("a step")));
            let error = relative_error(&tensor.to_device(&candle_core::Device::Cpu)?, golden);
            assert!(error < 1e-4, "{name}: step {step} is off by {error:e}");
        }
        Ok(())
    });
    let generated = generated.expect("an image");
    let reused = cache["reused"].as_array().expect("steps").len();
    assert_eq!(generated.timings.skipped.reused_steps, Some(reused));
    let (mean, max) = pixel_difference(&bytes(&generated), &case.images());
    assert!(mean < 0.5 && max <= 3, "{name}: pixels differ by {mean} on average, {max} at most");
}

#[test]
fn a_cache_reuses_what_diffusers_reuses() {
    check_cache(Device::Cpu, "base");
}

#[test]
fn a_cache_with_dual_attention_reuses_what_diffusers_reuses() {
    check_cache(Device::Cpu, "dual");
}

#[test]
fn a_cache_that_never_reuses_is_exact_and_one_that_always_does_computes_first_and_last_step() {
    let case = Case::read("base");
    let exact = generate(&case, &case.request, Shortcuts::default());
    let tiny = generate(&case, &case.request, cached(1e-9));
    assert_eq!(tiny.timings.skipped.reused_steps, Some(0));
    assert_eq!(tiny.timings.skipped.unguided_steps, None);
    assert!(tiny.images == exact.images);
    let huge = generate(&case, &case.request, cached(1e9));
    assert_eq!(huge.timings.skipped.reused_steps, Some(case.request.steps - 2));
    assert!(huge.images != exact.images);
}

#[test]
fn an_interval_of_all_noise_levels_is_exact_and_one_of_none_is_unguided() {
    let case = Case::read("base");
    let exact = generate(&case, &case.request, Shortcuts::default());
    assert_eq!(exact.timings.skipped.unguided_steps, None);
    let everywhere = generate(&case, &case.request, within(0.0, 1.0));
    assert_eq!(everywhere.timings.skipped.unguided_steps, Some(0));
    assert!(everywhere.images == exact.images);

    let without = GenerateRequest { guidance: 1.0, ..case.request.clone() };
    let without = generate(&case, &without, Shortcuts::default());
    let nowhere = generate(&case, &case.request, within(0.0, 1e-6));
    assert_eq!(nowhere.timings.skipped.unguided_steps, Some(case.request.steps));
    assert!(nowhere.images == without.images);

    let partly = generate(&case, &case.request, within(0.4, 0.95));
    let unguided = partly.timings.skipped.unguided_steps.expect("a count");
    assert!(0 < unguided && unguided < case.request.steps, "{unguided}");
    assert!(partly.images != exact.images && partly.images != without.images);
}
