//! The classifier against transformers' own numbers (`tests/parity/export_safety.py`), and what it refuses.

use super::golden_images::{golden_images, test_image};
use super::*;
use candle_core::{Device, Tensor};
use std::collections::HashMap;
use std::path::Path;

fn golden_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/golden/safety")
}

fn checker(dir: &Path, fused: bool) -> Result<SafetyChecker> {
    let options =
        SafetyOptions { source: SafetySource::Directory(dir.into()), threshold: None, forced: false };
    let mut target = Target::host();
    target.ops.fused = fused;
    SafetyChecker::load(&ModelSource::Builtin.files().expect("built in"), &options, &target)
        .map(|checker| checker.expect("a checker"))
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().and_then(|flat| flat.to_vec1()).expect("values")
}

/// The same integers and the same two roundings, so no difference at all.
fn check_pixels(pixels: &Tensor, golden: &HashMap<String, Tensor>, name: &str, index: usize) {
    let Some(theirs) = golden.get(&format!("pixels.{index:02}")) else { return };
    assert_eq!(pixels.dims(), theirs.dims());
    let same = values(pixels).iter().zip(values(theirs)).all(|(a, b)| a.to_bits() == b.to_bits());
    assert!(same, "{name}: pixels of image {index}");
}

/// Logits: f32 sums in another order than torch's, so 1e-4 of the largest logit, as every stage of the pipeline.
fn check(name: &str, fused: bool) {
    let dir = golden_dir().join(name);
    let golden: HashMap<String, Tensor> =
        candle_core::safetensors::load(dir.join("golden.safetensors"), &Device::Cpu).expect("golden tensors");
    let checker = checker(&dir, fused).expect("a classifier");
    let own = SafetyOptions { source: SafetySource::Directory(dir), threshold: None, forced: true };
    assert!(own.verify(&ModelSource::Builtin).expect("it fits"));
    let images = golden_images();
    assert!(images.len() >= 20);
    for (index, image) in images.iter().enumerate() {
        let pixels = checker.preprocessor.pixels(image).expect("pixels");
        check_pixels(&pixels, &golden, name, index);
        let Network::Vit(vit) = &checker.network else { panic!("{name} is a ViT") };
        let ours = values(&vit.logits(&pixels).expect("logits"));
        let theirs = values(&golden[&format!("logits.{index:02}")]);
        assert_eq!(ours.len(), theirs.len());
        let scale = theirs.iter().fold(0f32, |most, logit| most.max(logit.abs()));
        for (a, b) in ours.iter().zip(&theirs) {
            assert!(
                (a - b).abs() <= 1e-4 * scale,
                "{name} (fused: {fused}), {index}: {ours:?}, not {theirs:?}"
            );
        }
        let sum: f32 = theirs.iter().map(|logit| logit.exp()).sum();
        let (score, measure) = checker.score(image).expect("a score");
        assert_eq!(measure, Measure::Probability);
        assert!((score - theirs[1].exp() / sum).abs() < 1e-4, "{name}, {index}: {score} of {theirs:?}");
    }
}

#[test]
fn pixels_and_logits_are_those_of_transformers() {
    check("plain", true);
    check("other", true);
}

#[test]
fn also_in_plain_candle() {
    check("plain", false);
    check("other", false);
}

#[test]
fn the_goldens_have_safe_and_unsafe_images() {
    let checker = checker(&golden_dir().join("plain"), true).expect("a classifier");
    let scores: Vec<f32> =
        golden_images().iter().map(|image| checker.score(image).expect("a score").0).collect();
    let spread = scores.iter().fold(0f32, |most, score| most.max(*score))
        - scores.iter().fold(1f32, |least, score| least.min(*score));
    assert!(spread > 0.1, "{scores:?}");
}

/// A checker as the built-in model has it: bytes in the executable, beside the model's other parts.
#[test]
fn a_checker_inside_the_executable_is_found_and_loaded() {
    macro_rules! plain {
        ($name:literal) => {
            (
                concat!("safety_checker/", $name),
                include_bytes!(concat!("../../../tests/parity/golden/safety/plain/", $name)).as_slice(),
            )
        };
    }
    static FILES: &[(&str, &[u8])] =
        &[plain!("config.json"), plain!("preprocessor_config.json"), plain!("model.safetensors")];
    let files = ModelFiles::Embedded(FILES);
    let own = SafetyOptions { source: SafetySource::Own, threshold: None, forced: true };
    let embedded = SafetyChecker::load(&files, &own, &Target::host()).expect("it fits").expect("a checker");
    let on_disk = checker(&golden_dir().join("plain"), false).expect("a classifier");
    let image = test_image("disc", 64, 48);
    let scores = [embedded, on_disk].map(|checker| checker.score(&image).expect("a score"));
    assert_eq!(scores[0], scores[1]);
}

/// The files as CompVis publishes them, and as a pipeline of today saves them: beside each other, named otherwise, in
/// half precision.
const COMPVIS: [(&str, &str); 2] = [("compvis", ""), ("compvis-pipe", "safety_checker")];

/// Cosines: products of vectors of length 1, f32 sums in another order than torch's, so 2e-5 of that length. The
/// rounding then is the same operations on the same f32, so their cosines give their scores bit for bit; no score of the
/// goldens is within 1e-5 of where rounding turns, so the verdicts are theirs too.
fn check_compvis((name, folder): (&str, &str), fused: bool) {
    let dir = golden_dir().join(name).join(folder);
    let golden: HashMap<String, Tensor> =
        candle_core::safetensors::load(golden_dir().join(name).join("golden.safetensors"), &Device::Cpu)
            .expect("golden tensors");
    let checker = checker(&dir, fused).expect("a checker");
    let Network::Clip(clip) = &checker.network else { panic!("{name} is CompVis'") };
    let rows = |key: &str| golden[key].to_vec2::<f32>().expect("rows");
    let flags = golden["flagged"].to_vec1::<u8>().expect("flags");
    for (index, image) in golden_images().iter().enumerate() {
        let pixels = checker.preprocessor.pixels(image).expect("pixels");
        check_pixels(&pixels, &golden, name, index);
        let (special, unsafe_ones) = clip.cosines(&pixels).expect("cosines");
        let theirs = &rows("cosines")[index];
        let ours = special.iter().chain(&unsafe_ones);
        let off = ours.zip(theirs).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
        assert!(off <= 2e-5, "{name} (fused: {fused}), {index}: a cosine is off by {off}");
        let scores = clip.concepts.scores(&theirs[..3], &theirs[3..]);
        assert_eq!(scores, rows("scores")[index], "{name}, {index}");

        let mut judged = [image.clone()];
        let verdict = checker.check(&mut judged).expect("a verdict")[0];
        assert_eq!(
            (verdict.flagged, verdict.measure),
            (flags[index] == 1, Measure::Margin),
            "{name}, {index}"
        );
        let most = rows("scores")[index][3..].iter().fold(f32::MIN, |most, score| most.max(*score));
        assert!((verdict.score - most).abs() < 0.0011, "{name}, {index}: {} is not {most}", verdict.score);
        assert_eq!(judged[0].rgb.iter().all(|byte| *byte == 0), verdict.flagged);
        assert!(!(verdict.flagged && checker.clears(image).expect("a preview's verdict")));
    }
}

#[test]
fn compvis_judges_as_diffusers_does() {
    COMPVIS.into_iter().for_each(|place| check_compvis(place, true));
}

#[test]
fn compvis_does_so_in_plain_candle_too() {
    COMPVIS.into_iter().for_each(|place| check_compvis(place, false));
}

/// Its thresholds are cosines, and are in its weights.
#[test]
fn compvis_takes_no_probability() {
    let source = SafetySource::Directory(golden_dir().join("compvis"));
    let options = SafetyOptions { source, threshold: Some(0.4), forced: false };
    let words = options.verify(&ModelSource::Builtin).expect_err("a refusal").to_string();
    assert!(words.contains("0.4 is a probability") && words.contains("compvis"), "{words}");
    let options = SafetyOptions { threshold: None, ..options };
    assert!(options.verify(&ModelSource::Builtin).expect("it fits"));
}
