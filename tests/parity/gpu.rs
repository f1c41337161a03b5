//! The goldens on a CUDA device: the checks of the CPU, and others that only a GPU can fail.
//!
//! Needs a device, real or emulated (`kernels/emulator`), and fails without one.

use crate::golden::{Case, pixel_difference};
use crate::init_image;
use crate::pipeline::{bytes, check_on};
use crate::shortcuts::check_cache;
use crate::skip_layers;
use latentd_kernels::cuda::{DeviceHandle, MemoryUse};
use latentd_models::{
    Control, DType, Decoding, Device, GenerateRequest, GuidanceInterval, Image, LoadOptions, MemoryMode,
    ModelSource, Observer, Pipeline, Shortcuts, Step,
};
use std::path::PathBuf;
use std::sync::OnceLock;
use tempfile::TempDir;

#[path = "gpu/weights.rs"]
mod weights;

const GPU: Device = Device::Cuda(0);

/// The folder of this process's choice of algorithms for matrix products: pipelines whose images must be equal need the
/// same choice, and each would otherwise time them separately.
fn choices() -> PathBuf {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    FOLDER.get_or_init(|| tempfile::tempdir().expect("a folder")).path().into()
}

fn load(case: &Case, dtype: DType, fused: bool) -> Pipeline {
    let options = LoadOptions { fused, cache: Some(choices()), ..LoadOptions::new(GPU, dtype) };
    Pipeline::load(&ModelSource::Directory(case.model()), &options)
        .unwrap_or_else(|e| panic!("{}: {e}", case.name))
}

/// Images of the captured loop.
fn generate(pipeline: &mut Pipeline, request: &GenerateRequest) -> Vec<u8> {
    bytes(&pipeline.generate(request, &mut |_: Step| Control::Continue).expect("an image"))
}

/// Every stage in f32, then the captured loop's image.
fn check(name: &'static str) {
    check_on(GPU, name, true);
    let case = Case::read(name);
    let (mean, max) =
        pixel_difference(&generate(&mut load(&case, DType::F32, true), &case.request), &case.images());
    assert!(mean < 0.5 && max <= 3, "{name}: captured, off by {mean} on average, {max} at most");
}

#[test]
fn base() {
    check("base");
}

#[test]
fn base_in_plain_candle() {
    check_on(GPU, "base", false);
}

/// Between the replays of a captured step some steps are launched op by op.
#[test]
fn with_skip_layer_guidance() {
    skip_layers::check_on(GPU, "base");
    let (case, request) = skip_layers::read("base");
    let generated = generate(&mut load(&case, DType::F32, true), &request);
    let (mean, max) = pixel_difference(&generated, &case.images());
    assert!(mean < 0.5 && max <= 3, "captured, off by {mean} on average, {max} at most");
}

#[test]
fn without_t5() {
    check("no_t5");
}

/// What a mask keeps is put back between the replays of a captured step.
#[test]
fn from_an_image_with_and_without_a_mask() {
    for kind in ["picture", "inpaint"] {
        init_image::check_on(GPU, "base", kind);
        let (case, request) = init_image::read("base", kind);
        let generated = generate(&mut load(&case, DType::F32, true), &request);
        let (mean, max) = pixel_difference(&generated, &case.images());
        assert!(mean < 0.5 && max <= 3, "{kind}: captured, off by {mean} on average, {max} at most");
    }
}

#[test]
fn dual_attention_in_some_layers() {
    check("dual");
}

#[test]
fn without_qk_norm() {
    check("no_qk_norm");
}

#[test]
fn other_head_counts_and_vae_depth() {
    check("odd_heads");
}

/// Our kernels round once where plain candle rounds at every op: at most twice its distance from f32.
#[test]
fn fused_bf16_is_as_close_to_f32_as_plain_bf16() {
    let case = Case::read("base");
    let distance = |fused| {
        let image = generate(&mut load(&case, DType::Bf16, fused), &case.request);
        pixel_difference(&image, &case.images()).0
    };
    let (fused, plain) = (distance(true), distance(false));
    assert!(fused <= 2.0 * plain, "fused is off by {fused} on average, plain candle by {plain}");
}

/// A captured step is reused, for another prompt and after another size.
#[test]
fn a_seed_gives_the_same_bytes() {
    for dtype in [DType::F32, DType::Bf16] {
        let case = Case::read("base");
        let mut pipeline = load(&case, dtype, true);
        let first = generate(&mut pipeline, &case.request);
        let other = GenerateRequest { prompt: "something else".into(), seed: 5, ..case.request.clone() };
        assert_ne!(generate(&mut pipeline, &other), first);
        let smaller = GenerateRequest { width: case.request.width / 2, ..case.request.clone() };
        generate(&mut pipeline, &smaller);
        assert_eq!(generate(&mut pipeline, &case.request), first);
        assert_eq!(generate(&mut load(&case, dtype, true), &case.request), first);
    }
}

/// Images of one request share every product, and none changes another. Products of twice the rows may have another
/// algorithm, which adds in another order: the bytes are equal only if there is one algorithm, as on an emulated device.
#[test]
fn the_first_of_two_images_is_the_image_alone() {
    let case = Case::read("base");
    for (dtype, least) in [(DType::F32, 60.0), (DType::Bf16, 30.0)] {
        let mut pipeline = load(&case, dtype, true);
        let of = |count| GenerateRequest { num_images: count, ..case.request.clone() };
        let (one, two) = (generate(&mut pipeline, &of(1)), generate(&mut pipeline, &of(2)));
        assert_eq!(two.len(), 2 * one.len());
        let psnr = psnr(&two[..one.len()], &one);
        assert!(psnr >= least, "{dtype:?}: {psnr:.1} dB");
    }
}

/// The second captured step, without guidance, equals the eager one, also after a step with guidance.
#[test]
fn guidance_in_an_interval_is_captured() {
    let case = Case::read("base");
    let mut pipeline = load(&case, DType::F32, true);
    let exact = generate(&mut pipeline, &case.request);
    let interval = GuidanceInterval { low: 0.4, high: 0.95 };
    pipeline.set_shortcuts(Shortcuts { guidance_interval: Some(interval), ..Shortcuts::default() });
    let captured = generate(&mut pipeline, &case.request);
    let eager = pipeline.trace(&case.request, &mut |_, _| Ok(())).expect("an image");
    assert!((1..case.request.steps).contains(&eager.timings.skipped.unguided_steps.expect("a count")));
    let (mean, max) = pixel_difference(&captured, &bytes(&eager));
    assert!(mean < 0.1 && max <= 1, "off by {mean} on average, {max} at most");
    assert_ne!(captured, exact);
    assert_eq!(generate(&mut pipeline, &case.request), captured);
    pipeline.set_shortcuts(Shortcuts::default());
    assert_eq!(generate(&mut pipeline, &case.request), exact);
}

#[test]
fn a_cache_reuses_what_diffusers_reuses() {
    check_cache(GPU, "base");
    check_cache(GPU, "dual");
}

/// Steps are reported in order, and a client that disconnects stops the loop.
#[test]
fn a_captured_loop_reports_and_stops() {
    let case = Case::read("base");
    let mut pipeline = load(&case, DType::F32, true);
    let request = GenerateRequest { steps: 4, ..case.request.clone() };
    let mut seen = Vec::new();
    let stopped = pipeline.generate(&request, &mut |step: Step| {
        seen.push(step.index);
        if step.index == 2 { Control::Stop } else { Control::Continue }
    });
    assert!(matches!(stopped, Err(latentd_models::Error::Stopped { step: 3, of: 4 })), "{stopped:?}");
    assert_eq!(seen, [1, 2]);
    let all = generate(&mut pipeline, &request);
    assert_eq!(
        generate(&mut load(&case, DType::F32, true), &request),
        all,
        "after a stop as if never stopped"
    );
}

/// Collects the state after every step, and goes on from the one that it was made with.
#[derive(Default)]
struct Resumed {
    saved: Option<Vec<u8>>,
    states: Vec<Vec<u8>>,
    steps: Vec<usize>,
}

impl Observer for Resumed {
    fn step(&mut self, step: Step) -> Control {
        self.steps.push(step.index);
        Control::Continue
    }

    fn saved_state(&mut self) -> Option<Vec<u8>> {
        self.saved.take()
    }

    fn wants_state(&mut self) -> bool {
        self.saved.is_none()
    }

    fn state(&mut self, _steps: usize, bytes: Vec<u8>) {
        self.states.push(bytes);
    }
}

/// A state is read between two replays, and a loop that starts from it ends in the same image.
#[test]
fn a_captured_loop_goes_on_after_any_step() {
    let case = Case::read("base");
    let request = GenerateRequest { steps: 3, ..case.request.clone() };
    let mut pipeline = load(&case, DType::F32, true);
    let undisturbed = generate(&mut pipeline, &request);
    let mut first = Resumed::default();
    assert_eq!(bytes(&pipeline.generate(&request, &mut first).expect("an image")), undisturbed);
    assert_eq!((first.states.len(), first.steps.len()), (2, 3), "none after the last step");
    for (index, state) in first.states.into_iter().enumerate() {
        let mut resumed = Resumed { saved: Some(state), ..Resumed::default() };
        assert_eq!(bytes(&pipeline.generate(&request, &mut resumed).expect("an image")), undisturbed);
        assert_eq!(resumed.steps, (index + 2..=3).collect::<Vec<_>>());
    }
}

/// Requests only the last preview: more take too long on an emulated device.
struct Viewer {
    steps: usize,
    asked: usize,
    previews: Vec<Image>,
}

impl Observer for Viewer {
    fn step(&mut self, _: Step) -> Control {
        Control::Continue
    }

    fn wants_preview(&mut self) -> bool {
        self.asked += 1;
        self.asked == self.steps
    }

    fn preview(&mut self, image: Image) {
        self.previews.push(image);
    }
}

/// A preview between replays reads the latents without changing them. The image is so small that its preview is not
/// downscaled: the one of the last step is the image.
#[test]
fn a_preview_does_not_change_the_image() {
    let case = Case::read("base");
    let request = GenerateRequest { num_images: 2, ..case.request.clone() };
    let mut pipeline = load(&case, DType::F32, true);
    let unseen = generate(&mut pipeline, &request);
    let mut viewer = Viewer { steps: request.steps, asked: 0, previews: Vec::new() };
    assert_eq!(bytes(&pipeline.generate(&request, &mut viewer).expect("an image")), unseen);
    let preview = viewer.previews.pop().expect("a preview");
    assert!(psnr(&preview.rgb, &unseen[..preview.rgb.len()]) > 50.0);
    assert_eq!(generate(&mut pipeline, &request), unseen);
}

/// Each stage has its own stream: overlapping requests have the same images as requests one after another.
#[test]
fn overlapping_stages_do_not_change_images() {
    let case = Case::read("base");
    for dtype in [DType::F32, DType::Bf16] {
        let requests = ["a fox", "a boat", "a house"]
            .map(|prompt| GenerateRequest { prompt: prompt.into(), ..case.request.clone() });
        let in_turn = requests.clone().map(|request| generate(&mut load(&case, dtype, true), &request));
        let mut pipeline = load(&case, dtype, true);
        assert!(pipeline.stages_overlap());
        let prefetcher = pipeline.prefetcher();
        let overlapped: Vec<_> = std::thread::scope(|scope| {
            let mut finishing = Vec::new();
            for (index, request) in requests.iter().enumerate() {
                let next = requests.get(index + 1);
                let ahead = next.map(|next| scope.spawn(|| prefetcher.prefetch(next).expect("prompts")));
                let pending =
                    pipeline.generate_latents(request, &mut |_: Step| Control::Continue).expect("latents");
                finishing.push(scope.spawn(move || bytes(&pending.decode(Decoding::Whole).expect("images"))));
                if let Some(ahead) = ahead {
                    ahead.join().expect("no panic");
                }
            }
            finishing.into_iter().map(|one| one.join().expect("no panic")).collect()
        });
        assert_eq!(overlapped, in_turn, "{dtype:?}");
    }
}

/// What was captured is dropped and captured anew, and latents wait on the host until they are decoded in tiles.
#[cfg(feature = "planted-failures")]
#[test]
fn a_device_that_ran_out_of_memory_generates_the_same_images_afterwards() {
    use latentd_models::{Allocation, Error};
    let case = Case::read("base");
    let mut pipeline = load(&case, DType::F32, true);
    let undisturbed = generate(&mut pipeline, &case.request);
    pipeline.plant(&[Allocation::Step(1)]);
    let full = pipeline.generate(&case.request, &mut |_: Step| Control::Continue).expect_err("no memory");
    assert!(matches!(full, Error::OutOfMemory), "{full}");
    pipeline.free_memory().expect("a device that can be used");
    assert_eq!(generate(&mut pipeline, &case.request), undisturbed);

    // So small an image is one tile, which is the whole image.
    pipeline.plant(&[Allocation::Decode]);
    assert_eq!(generate(&mut pipeline, &case.request), undisturbed);
}

/// 40 dB is a mean squared difference of 6.5 levels: bf16 rounding, which is not visible. In images much
/// smaller than the model was trained on, or in fewer steps, rounding decides details: on the CPU too, bf16 is then
/// 33 to 43 dB from f32.
#[test]
fn the_built_in_model_generates_the_same_as_on_the_cpu() {
    let request = GenerateRequest {
        prompt: "a red house on the left of a lake at sunset".into(),
        negative_prompt: String::new(),
        width: 128,
        height: 128,
        steps: 8,
        guidance: 3.5,
        seed: 7,
        num_images: 1,
        skipped_images: 0,
        t5_tokens: 256,
        check_safety: false,
        init_image: None,
        loras: Vec::new(),
        skip_layers: None,
        controlnet: None,
        ip_adapter: None,
    };
    let on = |device, dtype| {
        let options = LoadOptions::new(device, dtype);
        generate(&mut Pipeline::load(&ModelSource::Builtin, &options).expect("the built-in model"), &request)
    };
    let cpu = on(Device::Cpu, DType::F32);
    for (dtype, least) in [(DType::F32, 60.0), (DType::Bf16, 40.0)] {
        let psnr = psnr(&on(GPU, dtype), &cpu);
        assert!(psnr >= least, "{dtype:?}: {psnr:.1} dB");
    }
}

/// Peak signal-to-noise ratio of 8-bit values in dB.
fn psnr(ours: &[u8], theirs: &[u8]) -> f64 {
    let square = |(a, b): (&u8, &u8)| f64::from(a.abs_diff(*b)).powi(2);
    let mean: f64 = ours.iter().zip(theirs).map(square).sum::<f64>() / ours.len() as f64;
    10.0 * (255.0f64.powi(2) / mean).log10()
}
