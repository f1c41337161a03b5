//! A request that is interrupted between two steps goes on from there, in this process or another, with the same pixels.

use latentd_models::{
    Control, DType, Device, Error, GenerateRequest, GuidanceInterval, Image, InitImage, LoadOptions,
    ModelSource, Observer, Pipeline, Shortcuts, Step,
};

fn pipeline() -> Pipeline {
    let load = LoadOptions::new(Device::Cpu, DType::F32);
    Pipeline::load(&ModelSource::Builtin, &load).expect("the built-in model")
}

fn request() -> GenerateRequest {
    GenerateRequest {
        prompt: "two boats on a lake".into(),
        negative_prompt: String::new(),
        width: 128,
        height: 64,
        steps: 7,
        guidance: 3.5,
        seed: 5,
        num_images: 2,
        skipped_images: 0,
        t5_tokens: 64,
        check_safety: true,
        init_image: None,
        loras: Vec::new(),
        skip_layers: None,
        controlnet: None,
        ip_adapter: None,
    }
}

/// Saves the state after every step, stops after step `last`, and gives the state that it was made with.
#[derive(Default)]
struct Interrupter {
    last: usize,
    saved: Option<Vec<u8>>,
    states: Vec<Vec<u8>>,
    steps: Vec<usize>,
    notes: Vec<String>,
}

impl Observer for Interrupter {
    fn step(&mut self, step: Step) -> Control {
        self.steps.push(step.index);
        if step.index == self.last { Control::Stop } else { Control::Continue }
    }

    fn note(&mut self, words: &str) {
        self.notes.push(words.into());
    }

    fn saved_state(&mut self) -> Option<Vec<u8>> {
        self.saved.take()
    }

    fn wants_state(&mut self) -> bool {
        true
    }

    fn state(&mut self, _steps: usize, bytes: Vec<u8>) {
        self.states.push(bytes);
    }
}

/// Runs a request until the end of step `last`; the state then.
fn interrupted(pipeline: &mut Pipeline, request: &GenerateRequest, last: usize) -> Vec<u8> {
    let mut observer = Interrupter { last, ..Interrupter::default() };
    let stopped = pipeline.generate(request, &mut observer).expect_err("it was interrupted");
    assert!(matches!(stopped, Error::Stopped { .. }), "{stopped}");
    assert_eq!(observer.states.len(), last, "one after every step, the one that it stops at included");
    observer.states.pop().expect("a state")
}

/// Runs a request from a state on; its images, the steps that were taken, and the notes.
fn from_state(
    pipeline: &mut Pipeline,
    request: &GenerateRequest,
    state: Vec<u8>,
) -> (Vec<Image>, Vec<usize>, Vec<String>) {
    let mut observer = Interrupter { saved: Some(state), ..Interrupter::default() };
    let generated = pipeline.generate(request, &mut observer).expect("images");
    (generated.images, observer.steps, observer.notes)
}

fn undisturbed(pipeline: &mut Pipeline, request: &GenerateRequest) -> Vec<Image> {
    pipeline.generate(request, &mut |_: Step| Control::Continue).expect("images").images
}

#[test]
fn the_images_are_those_of_an_undisturbed_run() {
    let (mut first, mut other) = (pipeline(), pipeline());
    let plain = request();
    let noisy: Vec<u8> = (0..128 * 64 * 3).map(|index| (index * 7 % 251) as u8).collect();
    let image = Image { width: 128, height: 64, rgb: noisy };
    let init_image = InitImage { image: image.clone(), strength: 0.8, mask: None };
    let masked = InitImage { mask: Some(image), ..init_image.clone() };
    let requests = [
        plain.clone(),
        GenerateRequest { guidance: 1.0, num_images: 1, ..plain.clone() },
        GenerateRequest { init_image: Some(init_image), ..plain.clone() },
        GenerateRequest { init_image: Some(masked), ..plain },
    ];
    for request in &requests {
        let expected = undisturbed(&mut first, request);
        let steps = if request.init_image.is_some() { 6 } else { 7 };
        for done in 1..steps {
            let state = interrupted(&mut first, request, done);
            let (images, taken, notes) = from_state(&mut other, request, state);
            assert_eq!(taken, (done + 1..=steps).collect::<Vec<_>>());
            assert_eq!(notes, [format!("continuing after step {done}/{steps}")]);
            assert!(images == expected, "other pixels after step {done} of {request:?}");
        }
    }
}

/// Steps with and without guidance follow from the noise level alone.
#[test]
fn a_guidance_interval_goes_on_too() {
    let mut pipeline = pipeline();
    let interval = GuidanceInterval { low: 0.3, high: 0.9 };
    pipeline.set_shortcuts(Shortcuts { guidance_interval: Some(interval), ..Shortcuts::default() });
    let expected = undisturbed(&mut pipeline, &request());
    let state = interrupted(&mut pipeline, &request(), 3);
    assert!(from_state(&mut pipeline, &request(), state).0 == expected);
}

#[test]
fn a_state_of_other_settings_or_a_damaged_one_is_not_used() {
    let mut pipeline = pipeline();
    let expected = undisturbed(&mut pipeline, &request());
    let state = interrupted(&mut pipeline, &request(), 3);
    let longer = interrupted(&mut pipeline, &GenerateRequest { steps: 9, ..request() }, 3);
    let wider = interrupted(&mut pipeline, &GenerateRequest { width: 192, ..request() }, 3);
    let other_text = interrupted(&mut pipeline, &GenerateRequest { t5_tokens: 32, ..request() }, 3);
    let load = LoadOptions { t5: false, ..LoadOptions::new(Device::Cpu, DType::F32) };
    let mut without = Pipeline::load(&ModelSource::Builtin, &load).expect("the built-in model");
    let without_t5 = interrupted(&mut without, &request(), 3);
    for unfit in [longer, wider, other_text, without_t5, state[..state.len() - 1].to_vec(), Vec::new()] {
        let (images, taken, notes) = from_state(&mut pipeline, &request(), unfit);
        assert_eq!(taken, (1..=7).collect::<Vec<_>>());
        assert!(notes.len() == 1 && notes[0].contains("starting at step 1"), "{notes:?}");
        assert!(images == expected);
    }
    // What a step puts back is another image now, as a file at a URL may be.
    let masked = |level: u8| {
        let image = Image { width: 64, height: 64, rgb: vec![level; 64 * 64 * 3] };
        let mask = Image { width: 2, height: 1, rgb: vec![0, 0, 0, 255, 255, 255] };
        let init_image = InitImage { image, strength: 1.0, mask: Some(mask) };
        GenerateRequest { init_image: Some(init_image), ..request() }
    };
    let expected = undisturbed(&mut pipeline, &masked(200));
    let (dark, light) =
        (interrupted(&mut pipeline, &masked(10), 3), interrupted(&mut pipeline, &masked(200), 3));
    for (state, first) in [(dark, 1), (light, 4)] {
        let (images, taken, _) = from_state(&mut pipeline, &masked(200), state);
        assert_eq!(taken, (first..=7).collect::<Vec<_>>());
        assert!(images == expected);
    }
    // The cache remembers earlier steps: there is nothing that a state could go on from, and none is saved.
    pipeline.set_shortcuts(Shortcuts { first_block_cache: Some(0.1), ..Shortcuts::default() });
    let mut observer = Interrupter { saved: Some(state), ..Interrupter::default() };
    pipeline.generate(&request(), &mut observer).expect("images");
    assert_eq!((observer.steps.len(), observer.states.len()), (7, 0));
}
