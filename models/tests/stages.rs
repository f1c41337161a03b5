//! Overlapping stages and cached prompts do not change a byte of the image.

use latentd_models::{
    Control, DType, Decoding, Device, GenerateRequest, Generated, LoadOptions, ModelSource, Pipeline, Step,
};

fn pipeline() -> Pipeline {
    let load = LoadOptions::new(Device::Cpu, DType::F32);
    Pipeline::load(&ModelSource::Builtin, &load).expect("the built-in model")
}

fn request(prompt: &str) -> GenerateRequest {
    GenerateRequest {
        prompt: prompt.into(),
        negative_prompt: "fog".into(),
        width: 128,
        height: 128,
        steps: 2,
        guidance: 3.5,
        seed: 2,
        num_images: 2,
        t5_tokens: 64,
        check_safety: true,
        init_image: None,
        loras: Vec::new(),
        skip_layers: None,
    }
}

fn generate(pipeline: &mut Pipeline, request: &GenerateRequest) -> Generated {
    pipeline.generate(request, &mut |_: Step| Control::Continue).expect("an image")
}

#[test]
fn a_prompt_is_encoded_once_and_the_image_is_the_same() {
    let (boat, house) = (request("a boat"), request("a house"));
    let fresh = generate(&mut pipeline(), &boat);
    let mut pipeline = pipeline();
    let mut generate = |request: &GenerateRequest| generate(&mut pipeline, request);
    let known = |made: Generated, count| {
        assert_eq!(made.timings.known_prompts, count);
        made.images
    };
    known(generate(&house), 0);
    assert_eq!(known(generate(&boat), 1), fresh.images, "the negative one is known");
    assert_eq!(known(generate(&boat), 2), fresh.images);
    // The key also includes the text length and guidance.
    known(generate(&GenerateRequest { t5_tokens: 32, ..boat.clone() }), 0);
    known(generate(&GenerateRequest { guidance: 1.0, ..boat.clone() }), 1);
}

#[test]
fn overlapping_stages_generate_the_same_as_sequential_ones() {
    let requests = ["a boat", "a house", "a tower"].map(request);
    let in_turn: Vec<_> = requests.iter().map(|request| generate(&mut pipeline(), request).images).collect();

    let mut pipeline = pipeline();
    let prefetcher = pipeline.prefetcher();
    let overlapped: Vec<_> = std::thread::scope(|scope| {
        let mut finishing = Vec::new();
        for (index, request) in requests.iter().enumerate() {
            let next = requests.get(index + 1);
            let pending = pipeline.generate_latents(request, &mut |step: Step| {
                // The encoders are idle then, as when a worker prefetches.
                if let Some(next) = next.filter(|_| step.index == 1) {
                    prefetcher.prefetch(next).expect("prompts");
                }
                Control::Continue
            });
            let pending = pending.expect("latents");
            finishing.push(scope.spawn(move || pending.decode(Decoding::Whole).expect("images")));
        }
        finishing.into_iter().map(|one| one.join().expect("no panic")).collect()
    });
    for (index, (made, alone)) in overlapped.iter().zip(&in_turn).enumerate() {
        assert_eq!(made.timings.known_prompts, if index == 0 { 0 } else { 2 });
        assert_eq!(made.images, *alone);
    }
}
