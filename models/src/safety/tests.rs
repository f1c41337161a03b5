//! The classifier against transformers' own numbers (`tests/parity/export_safety.py`), and what it refuses.

use super::*;
use crate::golden;
use candle_core::{Device, Tensor};
use std::collections::HashMap;

fn golden_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/golden/safety")
}

fn checker(dir: &Path, fused: bool) -> Result<SafetyChecker> {
    let options =
        SafetyOptions { source: SafetySource::Directory(dir.into()), threshold: 0.5, forced: false };
    let mut target = Target::host();
    target.ops.fused = fused;
    SafetyChecker::load(&ModelSource::Builtin.files().expect("built in"), &options, &target)
        .map(|checker| checker.expect("a checker"))
}

fn pictures() -> Vec<Picture> {
    let specs = golden::json("safety/pictures.json");
    let side = |value: &serde_json::Value| value.as_u64().expect("a side");
    let specs = specs.as_array().expect("a list");
    let paint =
        |spec: &serde_json::Value| paint(spec[0].as_str().expect("a kind"), side(&spec[1]), side(&spec[2]));
    specs.iter().map(paint).collect()
}

/// `picture` of `export_safety.py`.
fn paint(kind: &str, width: u64, height: u64) -> Picture {
    let byte = |x: u64, y: u64, c: u64| -> u64 {
        match kind {
            "smooth" => x * (c + 1) * 100 / width + y * (3 - c) * 50 / height,
            "noise" => {
                let bits = ((y * width + x) * 3 + c + 1) * 2_654_435_761 % (1 << 32);
                let bits = (bits ^ (bits >> 15)) * 2_246_822_519 % (1 << 32);
                (bits ^ (bits >> 13)) >> 16
            }
            "lines" if (x + y / 4) % (5 + c) < 1 => 255,
            "lines" => 20 * c,
            "checks" if (x / 3 + y / (2 + c)).is_multiple_of(2) => 255,
            "checks" => 0,
            "disc" => {
                let (dx, dy) = ((2 * x).abs_diff(width), (2 * y).abs_diff(height));
                let radius = width.min(height) * 4 / 5;
                if dx * dx + dy * dy < radius * radius { 250 - 60 * c } else { 5 + 100 * c }
            }
            "flat" => 30 + 90 * c,
            _ => panic!("no kind {kind}"),
        }
    };
    let rows = (0..height).flat_map(|y| (0..width).flat_map(move |x| (0..3).map(move |c| (x, y, c))));
    let rgb = rows.map(|(x, y, c)| (byte(x, y, c) % 256) as u8).collect();
    Picture { width: width as usize, height: height as usize, rgb }
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().and_then(|flat| flat.to_vec1()).expect("values")
}

/// Logits: f32 sums in another order than torch's, so 1e-4 of the largest logit, as every stage of the pipeline.
/// Pixels: the same integers and the same two roundings, so no difference at all.
fn check(name: &str, fused: bool) {
    let dir = golden_dir().join(name);
    let golden: HashMap<String, Tensor> =
        candle_core::safetensors::load(dir.join("golden.safetensors"), &Device::Cpu).expect("golden tensors");
    let checker = checker(&dir, fused).expect("a classifier");
    let own = SafetyOptions { source: SafetySource::Directory(dir), threshold: 0.5, forced: true };
    assert!(own.verify(&ModelSource::Builtin).expect("it fits"));
    let pictures = pictures();
    assert!(pictures.len() >= 20);
    for (index, picture) in pictures.iter().enumerate() {
        let pixels = checker.preprocessor.pixels(picture).expect("pixels");
        if let Some(theirs) = golden.get(&format!("pixels.{index:02}")) {
            assert_eq!(pixels.dims(), theirs.dims());
            let same = values(&pixels).iter().zip(values(theirs)).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{name}: pixels of picture {index}");
        }
        let ours = values(&checker.vit.logits(&pixels).expect("logits"));
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
        let score = checker.score(picture).expect("a score");
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
fn the_goldens_tell_pictures_apart() {
    let checker = checker(&golden_dir().join("plain"), true).expect("a classifier");
    let scores: Vec<f32> =
        pictures().iter().map(|picture| checker.score(picture).expect("a score")).collect();
    let spread = scores.iter().fold(0f32, |most, score| most.max(*score))
        - scores.iter().fold(1f32, |least, score| least.min(*score));
    assert!(spread > 0.1, "{scores:?}");
}

/// As the built-in model would bring one: bytes in the executable, beside the model's other parts.
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
    let own = SafetyOptions { source: SafetySource::Own, threshold: 0.5, forced: true };
    let embedded = SafetyChecker::load(&files, &own, &Target::host()).expect("it fits").expect("a checker");
    let on_disk = checker(&golden_dir().join("plain"), false).expect("a classifier");
    let picture = paint("disc", 64, 48);
    let scores = [embedded, on_disk].map(|checker| checker.score(&picture).expect("a score"));
    assert_eq!(scores[0], scores[1]);
}
