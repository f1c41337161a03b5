//! Overlapping stages, cached prompts and the number of images do not change a byte of an image.

use latentd_models::{
    Control, DType, Decoding, Device, GenerateRequest, Generated, Image, InitImage, LoadOptions, ModelSource,
    Pipeline, Step,
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
fn each_image_of_several_can_be_generated_alone() {
    let rgb = (0..3 * 128 * 128).map(|at| (at % 251) as u8).collect();
    let init_image = InitImage { image: Image { width: 128, height: 128, rgb }, strength: 0.8, mask: None };
    let mut pipeline = pipeline();
    for init_image in [None, Some(init_image)] {
        let three = GenerateRequest { num_images: 3, init_image, ..request("a boat") };
        let together = generate(&mut pipeline, &three).images;
        assert_ne!(together[1], together[2]);
        for (skipped_images, image) in together.into_iter().enumerate() {
            let one = GenerateRequest { num_images: 1, skipped_images, ..three.clone() };
            assert_eq!(generate(&mut pipeline, &one).images, [image], "image {skipped_images}");
        }
    }
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
