//! Live previews: they resemble the final image, do not change it, and are withheld if they may be unsafe.

use latentd_models::{
    Control, DType, Device, GenerateRequest, Generated, Image, LoadOptions, ModelSource, Observer, Pipeline,
    Step,
};

/// Requests every preview from a step on.
#[derive(Default)]
struct Viewer {
    from: usize,
    step: usize,
    asked: usize,
    previews: Vec<Image>,
}

impl Observer for Viewer {
    fn step(&mut self, step: Step) -> Control {
        self.step = step.index;
        Control::Continue
    }

    fn wants_preview(&mut self) -> bool {
        self.asked += 1;
        self.step >= self.from
    }

    fn preview(&mut self, image: Image) {
        self.previews.push(image);
    }
}

fn pipeline() -> Pipeline {
    let load = LoadOptions::new(Device::Cpu, DType::F32);
    Pipeline::load(&ModelSource::Builtin, &load).expect("the built-in model")
}

fn request(prompt: &str, width: usize, height: usize) -> GenerateRequest {
    GenerateRequest {
        prompt: prompt.into(),
        negative_prompt: String::new(),
        width,
        height,
        steps: 12,
        guidance: 3.5,
        seed: 2,
        num_images: 1,
        skipped_images: 0,
        t5_tokens: 256,
        check_safety: true,
        init_image: None,
        loras: Vec::new(),
        skip_layers: None,
        controlnet: None,
        ip_adapter: None,
    }
}

fn watch(pipeline: &mut Pipeline, request: &GenerateRequest, from: usize) -> (Vec<Image>, Generated) {
    let mut viewer = Viewer { from, ..Viewer::default() };
    let generated = pipeline.generate(request, &mut viewer).expect("an image");
    assert!(viewer.asked <= 8, "asked {} times", viewer.asked);
    (viewer.previews, generated)
}

/// Downscales by averaging squares of pixels.
fn smaller(image: &Image, times: usize) -> Image {
    let (width, height) = (image.width / times, image.height / times);
    let mean = |index: usize| {
        let (x, y, c) = (index / 3 % width, index / 3 / width, index % 3);
        let row = |dy| (y * times + dy) * image.width + x * times;
        let square = (0..times).flat_map(|dy| (0..times).map(move |dx| (dy, dx)));
        let sum: usize = square.map(|(dy, dx)| usize::from(image.rgb[(row(dy) + dx) * 3 + c])).sum();
        (sum / (times * times)) as u8
    };
    Image { width, height, rgb: (0..width * height * 3).map(mean).collect() }
}

/// Peak signal to noise in dB.
fn likeness(one: &Image, other: &Image) -> f64 {
    assert_eq!((one.width, one.height), (other.width, other.height));
    let square = |(a, b): (&u8, &u8)| f64::from(a.abs_diff(*b)).powi(2);
    let sum: f64 = one.rgb.iter().zip(&other.rgb).map(square).sum();
    10.0 * (255.0 * 255.0 * one.rgb.len() as f64 / sum.max(1.0)).log10()
}

const SUNSET: &str = "a red house on the left of a lake at sunset, two boats";

/// A preview skips two of the built-in decoder's five upsamplings, so that it shows the same things at a lower resolution:
/// 25 dB is a difference of 6 % of the range, which does not change what is seen. Different images have 10 to 15 dB.
#[test]
fn the_last_preview_is_like_the_image() {
    let mut pipeline = pipeline();
    let sunset = request(SUNSET, 1024, 768);
    let (previews, generated) = watch(&mut pipeline, &sunset, sunset.steps);
    assert_eq!(previews.len(), 1, "of the last step alone");
    let image = smaller(&generated.images[0], 4);
    let alike = likeness(&previews[0], &image);
    assert!(alike > 25.0, "{alike} dB");
    let night = request("a snow field at night", 1024, 768);
    let other = smaller(&watch(&mut pipeline, &night, usize::MAX).1.images[0], 4);
    let unlike = likeness(&previews[0], &other);
    assert!(unlike < alike - 6.0, "{unlike} and {alike} dB");
}

#[test]
fn previews_change_no_byte_and_are_of_the_first_image_only() {
    let mut pipeline = pipeline();
    for (width, height) in [(256, 128), (320, 704)] {
        let request = GenerateRequest { num_images: 2, ..request(SUNSET, width, height) };
        let (none, unseen) = watch(&mut pipeline, &request, usize::MAX);
        let (previews, seen) = watch(&mut pipeline, &request, 1);
        assert_eq!(seen.images, unseen.images);
        assert!(none.is_empty() && !previews.is_empty());
        for preview in previews {
            assert!(preview.width.max(preview.height) <= 256);
            let ratio = preview.width * height / preview.height;
            assert!(ratio.abs_diff(width) <= width / 10, "{}x{}", preview.width, preview.height);
        }
    }
}
