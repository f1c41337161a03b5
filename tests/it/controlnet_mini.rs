//! The ControlNet of the built-in model on the command line: images have the edges of the control image, by the scale.

use image::{GrayImage, RgbImage};
use std::path::{Path, PathBuf};
use std::process::Command;

const NET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/mini-controlnet");

fn control() -> PathBuf {
    Path::new(NET).join("house-edges.png")
}

/// The image that `latentd generate` makes of a prompt that says nothing of its layout.
fn generate(flags: &[&str]) -> RgbImage {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("out.png");
    let mut command = Command::new(env!("CARGO_BIN_EXE_latentd"));
    command.args(["generate", "a house at noon", "--steps", "16", "--seed", "5", "--safety-checker", "none"]);
    command.args(["--width", "1024", "--height", "768"]).args(flags).arg("-o").arg(&file);
    let output = command.output().expect("the program");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    image::open(&file).expect("an image").into_rgb8()
}

/// How much steeper the luminance is on the lines of a control image than elsewhere. Lines that its mirror image has too, such
/// as a horizon, say nothing.
fn steepness_on(lines: &GrayImage, image: &RgbImage) -> f64 {
    let (grey, mirrored) = (image::imageops::grayscale(image), image::imageops::flip_horizontal(lines));
    let (mut on, mut off) = ((0.0, 0.0), (0.0, 0.0));
    for (x, y, line) in lines.enumerate_pixels() {
        let [is_line, is_mirrored] = [line, mirrored.get_pixel(x, y)].map(|pixel| pixel.0[0] > 127);
        if x + 1 == grey.width() || y + 1 == grey.height() || is_mirrored {
            continue;
        }
        let at = |x, y| f64::from(grey.get_pixel(x, y).0[0]);
        let slope = (at(x + 1, y) - at(x, y)).hypot(at(x, y + 1) - at(x, y));
        let (sum, count) = if is_line { &mut on } else { &mut off };
        *sum += slope;
        *count += 1.0;
    }
    (on.0 / on.1) / (off.0 / off.1)
}

#[test]
fn the_controlnet_of_the_built_in_model_draws_along_the_lines() {
    let lines = image::open(control()).expect("a control image").into_luma8();
    let control = control().display().to_string();
    let controlled =
        |scale: &str| generate(&["--controlnet", NET, "--control-image", &control, "--control-scale", scale]);
    let (plain, followed) = (generate(&[]), controlled("1"));
    assert!(controlled("0") == plain, "a scale of 0 changes the image");
    let [without, with] = [&plain, &followed].map(|image| steepness_on(&lines, image));
    let mirrored = steepness_on(&image::imageops::flip_horizontal(&lines), &followed);
    assert!(with > 2.0 * without && with > 2.0 * mirrored, "{with}, without {without}, mirrored {mirrored}");
}
