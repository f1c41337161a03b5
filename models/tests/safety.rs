//! The safety checker in the pipeline: black images, requests that turn it off, and errors at load.

#[path = "support/copy.rs"]
mod copy;
mod support;

use candle_core::{Device as TensorDevice, Tensor};
use latentd_models::{
    Control, DType, Device, Error, GenerateRequest, Generated, Image, LoadOptions, ModelSource, Observer,
    Pipeline, SafetyOptions, SafetySource, Stage, Step,
};
use std::path::{Path, PathBuf};
use support::{edit, swap};

const WEIGHTS: &str = "model.safetensors";

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/golden").join(path)
}

/// A classifier with the same logit for every image, or one that a test then damages.
fn classifier(logit: f64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    write_classifier(dir.path(), logit);
    dir
}

fn write_classifier(dir: &Path, logit: f64) {
    std::fs::create_dir_all(dir).expect("a directory");
    for name in ["config.json", "preprocessor_config.json", "model.safetensors"] {
        std::fs::copy(golden("safety/plain").join(name), dir.join(name)).expect("a copy");
    }
    edit(&dir.join(WEIGHTS), |tensors| {
        let zeros = tensors["classifier.weight"].zeros_like().expect("zeros");
        tensors.insert("classifier.weight".into(), zeros);
        let bias = Tensor::new(&[0f32, logit as f32], &TensorDevice::Cpu).expect("a bias");
        tensors.insert("classifier.bias".into(), bias);
    });
}

fn options(source: SafetySource) -> SafetyOptions {
    SafetyOptions { source, threshold: None, forced: false }
}

fn by(dir: &Path) -> SafetyOptions {
    options(SafetySource::Directory(dir.into()))
}

fn pipeline() -> Pipeline {
    let load = LoadOptions::new(Device::Cpu, DType::F32);
    Pipeline::load(&ModelSource::Directory(golden("base/model")), &load).expect("a model")
}

fn request(check_safety: bool) -> GenerateRequest {
    GenerateRequest {
        prompt: "a fox".into(),
        negative_prompt: String::new(),
        width: 64,
        height: 48,
        steps: 2,
        guidance: 4.0,
        seed: 1,
        num_images: 2,
        skipped_images: 0,
        t5_tokens: 16,
        check_safety,
        init_image: None,
        loras: Vec::new(),
        skip_layers: None,
        controlnet: None,
        ip_adapter: None,
    }
}

fn generate(pipeline: &mut Pipeline, check_safety: bool) -> Generated {
    pipeline.generate(&request(check_safety), &mut |_: Step| Control::Continue).expect("images")
}

/// Records every preview.
struct Viewer(Vec<Image>);

impl Observer for Viewer {
    fn step(&mut self, _: Step) -> Control {
        Control::Continue
    }

    fn wants_preview(&mut self) -> bool {
        true
    }

    fn preview(&mut self, image: Image) {
        self.0.push(image);
    }
}

fn is_previewed(pipeline: &mut Pipeline, check_safety: bool) -> bool {
    let mut viewer = Viewer(Vec::new());
    match pipeline.generate(&request(check_safety), &mut viewer) {
        // A failed check of the preview also fails the final check.
        Ok(_) | Err(Error::NonFinite { stage: Stage::SafetyChecker }) => {}
        Err(other) => panic!("{other}"),
    }
    !viewer.0.is_empty()
}

fn is_black(generated: &Generated) -> bool {
    generated.images.iter().all(|image| image.rgb.iter().all(|byte| *byte == 0))
}

#[test]
fn an_unsafe_image_is_black_and_of_its_own_size() {
    let (mut pipeline, dir) = (pipeline(), classifier(2.0));
    let plain = generate(&mut pipeline, true);
    assert_eq!((plain.flagged(), plain.verdicts.len()), (vec![false; 2], 0), "no checker yet");

    assert!(pipeline.set_safety(&by(dir.path())).expect("a checker"));
    let checked = generate(&mut pipeline, true);
    assert!(is_black(&checked));
    assert_eq!(checked.flagged(), [true, true]);
    assert!(checked.timings.safety > 0.0);
    for (black, image) in checked.images.iter().zip(&plain.images) {
        assert_eq!((black.width, black.height, black.rgb.len()), (64, 48, image.rgb.len()));
    }
    // exp(2) / (1 + exp(2))
    assert!(checked.verdicts.iter().all(|verdict| (verdict.score - 0.8808).abs() < 1e-4));
}

#[test]
fn a_safe_image_is_left_alone() {
    let (mut pipeline, dir) = (pipeline(), classifier(-2.0));
    let plain = generate(&mut pipeline, true);
    pipeline.set_safety(&by(dir.path())).expect("a checker");
    let checked = generate(&mut pipeline, true);
    assert_eq!(checked.images, plain.images);
    assert_eq!((checked.flagged(), checked.verdicts.len()), (vec![false; 2], 2));
    assert!(!is_black(&checked));
}

#[test]
fn a_request_may_turn_it_off_unless_the_operator_forces_it() {
    let (mut pipeline, dir) = (pipeline(), classifier(2.0));
    pipeline.set_safety(&by(dir.path())).expect("a checker");
    let declined = generate(&mut pipeline, false);
    assert!(!is_black(&declined));
    assert_eq!((declined.flagged(), declined.verdicts.len()), (vec![false; 2], 0));

    pipeline.set_safety(&SafetyOptions { forced: true, ..by(dir.path()) }).expect("a checker");
    let forced = generate(&mut pipeline, false);
    assert!(is_black(&forced));
    assert_eq!(forced.flagged(), [true, true]);
}

/// A preview is sent only if its score is at most half of the threshold.
#[test]
fn previews_that_may_be_unsafe_are_withheld() {
    let mut pipeline = pipeline();
    assert!(is_previewed(&mut pipeline, true), "nothing is checked");
    // Probabilities of 0.2, 0.4 and 0.88, and NaN.
    for (logit, shown) in [(-1.386, true), (-0.405, false), (2.0, false), (f64::NAN, false)] {
        let dir = classifier(logit);
        pipeline.set_safety(&by(dir.path())).expect("a checker");
        assert_eq!(is_previewed(&mut pipeline, true), shown, "{logit}");
        assert!(is_previewed(&mut pipeline, false), "{logit}: the request declines");
        pipeline.set_safety(&SafetyOptions { forced: true, ..by(dir.path()) }).expect("a checker");
        assert_eq!(is_previewed(&mut pipeline, false), shown, "{logit}: the operator insists");
    }
}

#[test]
fn the_threshold_decides() {
    let (mut pipeline, dir) = (pipeline(), classifier(0.0));
    for (threshold, flagged) in [(0.0, true), (0.49, true), (0.5, false), (1.0, false)] {
        pipeline
            .set_safety(&SafetyOptions { threshold: Some(threshold), ..by(dir.path()) })
            .expect("a checker");
        assert_eq!(generate(&mut pipeline, true).flagged(), [flagged; 2], "{threshold}");
    }
}

#[test]
fn a_nan_score_is_an_error() {
    let (mut pipeline, dir) = (pipeline(), classifier(f64::NAN));
    pipeline.set_safety(&by(dir.path())).expect("a checker");
    // It is no verdict either: a black image means unsafe.
    let error = pipeline.generate(&request(true), &mut |_: Step| Control::Continue).expect_err("no score");
    assert!(matches!(error, Error::NonFinite { stage: Stage::SafetyChecker }), "{error}");
}

#[test]
fn a_model_with_its_own_checker_uses_it() {
    let model = copy::copy();
    let load = LoadOptions::new(Device::Cpu, DType::F32);
    let own = options(SafetySource::Own);
    let forced = SafetyOptions { forced: true, ..own.clone() };
    let mut without =
        Pipeline::load(&ModelSource::Directory(model.path().to_path_buf()), &load).expect("a model");
    assert!(!without.set_safety(&own).expect("none"));
    assert!(!own.verify(&ModelSource::Directory(model.path().to_path_buf())).expect("none"));
    for error in
        [without.set_safety(&forced), forced.verify(&ModelSource::Directory(model.path().to_path_buf()))]
    {
        let words = error.expect_err("a refusal").to_string();
        assert!(words.contains("forced") && words.contains("safety_checker/"), "{words}");
    }

    write_classifier(&model.path().join("safety_checker"), 2.0);
    assert!(own.verify(&ModelSource::Directory(model.path().to_path_buf())).expect("a checker"));
    let mut with =
        Pipeline::load(&ModelSource::Directory(model.path().to_path_buf()), &load).expect("a model");
    assert!(with.set_safety(&own).expect("a checker"));
    assert!(is_black(&generate(&mut with, true)));
    assert!(!with.set_safety(&options(SafetySource::Disabled)).expect("none"));
    assert!(!is_black(&generate(&mut with, true)));
}

#[test]
fn the_built_in_model_checks_its_images_unless_the_request_turns_that_off() {
    let own = options(SafetySource::Own);
    assert!(own.verify(&ModelSource::Builtin).expect("a checker"));
    let load = LoadOptions::new(Device::Cpu, DType::F32);
    let mut pipeline = Pipeline::load(&ModelSource::Builtin, &load).expect("the built-in model");
    let verdicts = |pipeline: &mut Pipeline| generate(pipeline, true).verdicts.len();
    assert_eq!(verdicts(&mut pipeline), 0, "no checker is loaded with the model");
    assert!(pipeline.set_safety(&own).expect("a checker"));
    assert_eq!(verdicts(&mut pipeline), 2, "one for each image");
    assert!(!pipeline.set_safety(&options(SafetySource::Disabled)).expect("none"));
    assert_eq!(verdicts(&mut pipeline), 0);
}

/// The error of loading, and whether reading only the files gives the same error.
fn refusal(dir: &Path) -> (String, bool) {
    let mut pipeline = pipeline();
    let words = pipeline.set_safety(&by(dir)).expect_err("a refusal").to_string();
    let early = by(dir).verify(&ModelSource::Directory(golden("base/model")));
    let lines = |words: &str| {
        let mut lines: Vec<_> = words.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let same = early.is_err_and(|error| lines(&error.to_string()) == lines(&words));
    (words, same)
}

#[test]
fn a_directory_that_is_missing_or_lacks_a_file_is_named() {
    let dir = classifier(0.0);
    let (words, early) = refusal(&dir.path().join("nowhere"));
    assert!(words.contains("nowhere") && early, "{words}");
    let (words, early) = refusal(&dir.path().join("config.json"));
    assert!(words.contains("not a directory of a classifier") && early, "{words}");
    for file in ["model.safetensors", "preprocessor_config.json", "config.json"] {
        std::fs::remove_file(dir.path().join(file)).expect("removed");
        let (words, early) = refusal(dir.path());
        assert!(words.contains(file) && early, "{file}: {words}");
    }
}

#[test]
fn unsupported_configs_are_errors_that_say_why() {
    let cases = [
        (
            "config.json",
            "\"nsfw\"",
            "\"hot\"",
            "one label \"nsfw\" or \"unsafe\", but it has \"normal\", \"hot\"",
        ),
        ("config.json", "\"normal\"", "\"UNSAFE\"", "one label \"nsfw\" or \"unsafe\""),
        ("config.json", "\"model_type\": \"vit\"", "\"model_type\": \"clip\"", "model_type is \"clip\""),
        ("config.json", "\"num_attention_heads\": 4", "\"num_attention_heads\": 5", "5 heads"),
        ("config.json", "\"patch_size\": 8", "\"patch_size\": 7", "24x24 pixels are not square patches"),
        (
            "config.json",
            "\"image_size\": 24",
            "\"image_size\": 32",
            "size is 24x24, but the network reads 32x32",
        ),
        ("config.json", "{", "", "config.json"),
        ("preprocessor_config.json", "\"resample\": 2", "\"resample\": 0", "resample 0"),
        ("preprocessor_config.json", "\"do_resize\": true", "\"do_resize\": false", "do_resize"),
    ];
    for (file, from, to, complaint) in cases {
        let dir = classifier(0.0);
        swap(&dir.path().join(file), from, to);
        let (words, early) = refusal(dir.path());
        assert!(words.contains(complaint) && early, "{from}: {words}");
    }
    let dir = classifier(0.0);
    swap(&dir.path().join("config.json"), "\"gelu\"", "\"mish\"");
    assert!(refusal(dir.path()).0.contains("hidden_act \"mish\""));
}

#[test]
fn one_error_lists_every_tensor_that_does_not_fit() {
    let dir = classifier(0.0);
    edit(&dir.path().join(WEIGHTS), |tensors| {
        tensors.remove("vit.layernorm.bias").expect("a tensor");
        let three = Tensor::zeros(3, candle_core::DType::F32, &TensorDevice::Cpu).expect("zeros");
        tensors.insert("classifier.bias".into(), three.clone());
        tensors.insert("vit.pooler.dense.bias".into(), three);
    });
    let (words, early) = refusal(dir.path());
    assert!(early);
    for problem in [
        "missing: vit.layernorm.bias",
        "wrong shape: classifier.bias is [3]",
        "unused: vit.pooler.dense.bias",
    ] {
        assert!(words.contains(problem), "no \"{problem}\" in:\n{words}");
    }
}

#[test]
fn truncated_weights_name_the_file() {
    let dir = classifier(0.0);
    let path = dir.path().join("model.safetensors");
    let bytes = std::fs::read(&path).expect("weights");
    std::fs::write(&path, &bytes[..bytes.len() / 2]).expect("written");
    let (words, early) = refusal(dir.path());
    assert!(words.contains("model.safetensors") && early, "{words}");
}
