//! Stages that overlap, and prompts that are known: faster, and the same to the byte.

use latentd_models::{
    Control, DType, Device, GenerateRequest, Generated, LoadOptions, ModelSource, Pipeline, Step,
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
        begin: None,
    }
}

fn paint(pipeline: &mut Pipeline, request: &GenerateRequest) -> Generated {
    pipeline.generate(request, &mut |_: Step| Control::Continue).expect("a picture")
}

#[test]
fn a_prompt_is_encoded_once_and_the_picture_is_the_same() {
    let (boat, house) = (request("a boat"), request("a house"));
    let fresh = paint(&mut pipeline(), &boat);
    let mut pipeline = pipeline();
    let mut paint = |request: &GenerateRequest| paint(&mut pipeline, request);
    let known = |made: Generated, count| {
        assert_eq!(made.timings.known_prompts, count);
        made.pictures
    };
    known(paint(&house), 0);
    assert_eq!(known(paint(&boat), 1), fresh.pictures, "the negative one is known");
    assert_eq!(known(paint(&boat), 2), fresh.pictures);
    // The length of the text and guidance decide too.
    known(paint(&GenerateRequest { t5_tokens: 32, ..boat.clone() }), 0);
    known(paint(&GenerateRequest { guidance: 1.0, ..boat.clone() }), 1);
}

#[test]
fn stages_at_work_at_the_same_time_paint_what_they_paint_in_turn() {
    let requests = ["a boat", "a house", "a tower"].map(request);
    let in_turn: Vec<_> = requests.iter().map(|request| paint(&mut pipeline(), request).pictures).collect();

    let mut pipeline = pipeline();
    let prefetcher = pipeline.prefetcher();
    let overlapped: Vec<_> = std::thread::scope(|scope| {
        let mut finishing = Vec::new();
        for (index, request) in requests.iter().enumerate() {
            let next = requests.get(index + 1);
            let painted = pipeline.paint(request, &mut |step: Step| {
                // The encoders are idle by then, as when a worker asks.
                if let Some(next) = next.filter(|_| step.index == 1) {
                    prefetcher.prefetch(next).expect("prompts");
                }
                Control::Continue
            });
            let painted = painted.expect("latents");
            finishing.push(scope.spawn(|| painted.finish().expect("pictures")));
        }
        finishing.into_iter().map(|one| one.join().expect("no panic")).collect()
    });
    for (index, (made, alone)) in overlapped.iter().zip(&in_turn).enumerate() {
        assert_eq!(made.timings.known_prompts, if index == 0 { 0 } else { 2 });
        assert_eq!(made.pictures, *alone);
    }
}
