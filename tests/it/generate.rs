//! `latentd generate`: sizes and other values that are refused, defaults of a model, and what is written to standard error.

use std::path::Path;
use std::process::{Command, Stdio};

/// What the file says of itself under this name.
fn text_chunk(file: &Path, name: &str) -> String {
    let bytes = std::io::BufReader::new(std::fs::File::open(file).expect("a file"));
    let reader = png::Decoder::new(bytes).read_info().expect("a PNG");
    let text = &reader.info().utf8_text;
    let found = text.iter().find(|chunk| chunk.keyword == name).expect("a text chunk");
    found.get_text().expect("text")
}

/// Exit code and standard error of `latentd generate` with more flags, into a file.
fn generate(file: &Path, flags: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_latentd"));
    command
        .args(["generate", "a fox", "--steps", "1", "--safety-checker", "none"])
        .args(flags)
        .arg("-o")
        .arg(file);
    let output = command.stdin(Stdio::null()).output().expect("the program");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_size_that_cannot_be_is_refused_as_it_was_typed() {
    let folder = tempfile::tempdir().expect("a directory");
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/golden/base/model");
    let model = model.to_str().expect("a path");
    for (flags, words) in [
        (&["--model", model, "--width", "5000"][..], "--width 5000: give at most "),
        (&["--model", model, "--width", "64", "--height", "5001"], "--height 5001: give at most "),
        (&["--width", "14143"], "--width 14143: give at most 14142, the longest side of this model"),
        (&["--width", "14000", "--height", "14000"], "--width 14000 --height 14000: at most 16777216"),
        (&["--width", "0"], "--width 0: give 1 or more"),
    ] {
        let (code, stderr) = generate(&folder.path().join("out.png"), flags);
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains(words), "{stderr}");
    }
}

#[test]
fn the_built_in_model_scales_to_sizes_that_it_does_not_generate() {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("out.png");
    let flags = ["--width", "1792", "--height", "64", "--seed", "18446744073709551615"];
    let (code, stderr) = generate(&file, &flags);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(
        stderr.contains("generated at 1536x55, the largest that this model generates, and scaled to 1792x64"),
        "{stderr}"
    );
    let reader = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(&file).expect("a file")));
    let reader = reader.read_info().expect("a PNG");
    assert_eq!((reader.info().width, reader.info().height), (1792, 64));
    assert_eq!(
        (text_chunk(&file, "seed"), text_chunk(&file, "model")),
        ("18446744073709551615".into(), "mini".into())
    );
}

#[test]
fn steps_and_guidance_are_those_of_the_published_model() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/golden");
    let folder = tempfile::tempdir().expect("a directory");
    let turbo = folder.path().join("my-turbo");
    std::fs::create_dir(&turbo).expect("a directory");
    for entry in std::fs::read_dir(golden.join("base/model")).expect("a model") {
        let entry = entry.expect("a file");
        std::os::unix::fs::symlink(entry.path(), turbo.join(entry.file_name())).expect("a link");
    }
    let cases = [
        (golden.join("base/model"), "28", "3.5"),
        (turbo, "4", "1"),
        (golden.join("dual/model"), "40", "4.5"), // as Medium is built
    ];
    for (model, steps, guidance) in cases {
        let file = folder.path().join("out.png");
        let mut command = Command::new(env!("CARGO_BIN_EXE_latentd"));
        command.args(["generate", "a fox", "--width", "64", "--height", "64", "--t5-tokens", "16"]);
        command.args(["--safety-checker", "none"]).arg("--model").arg(&model).arg("-o").arg(&file);
        let output = command.stdin(Stdio::null()).output().expect("the program");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let found = (text_chunk(&file, "steps"), text_chunk(&file, "guidance"));
        assert_eq!(found, (steps.to_owned(), guidance.to_owned()), "{}", model.display());
    }
}

/// Mean difference of the columns of two images, in levels.
fn difference(a: &image::RgbImage, b: &image::RgbImage, columns: std::ops::Range<u32>) -> f64 {
    let places = columns.flat_map(|x| (0..a.height()).map(move |y| (x, y)));
    let levels: Vec<f64> = places
        .flat_map(|(x, y)| (0..3).map(move |channel| (x, y, channel)))
        .map(|(x, y, channel)| f64::from(a.get_pixel(x, y).0[channel].abs_diff(b.get_pixel(x, y).0[channel])))
        .collect();
    levels.iter().sum::<f64>() / levels.len() as f64
}

#[test]
fn a_mask_keeps_what_is_black_in_it() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = |name: &str| folder.path().join(name);
    let house = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images/red-house.jpg");
    let (width, height) = (512, 384);
    let photo = image::open(house).expect("an image");
    let photo = photo.resize_exact(width, height, image::imageops::FilterType::Triangle).into_rgb8();
    photo.save(path("photo.png")).expect("a file");
    // As large as no other image here: it is resized.
    let mask = image::RgbImage::from_fn(64, 48, |x, _| image::Rgb([if x < 32 { 0 } else { 255 }; 3]));
    mask.save(path("mask.png")).expect("a file");
    let [image, mask] = ["photo.png", "mask.png"].map(|name| path(name).to_str().expect("a path").to_owned());
    let (code, stderr) = generate(&path("out.png"), &["--mask", &mask]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("--image"), "{stderr}");
    let flags = ["--image", &image, "--mask", &mask, "--strength", "1", "--seed", "1"];
    let (code, stderr) = generate(&path("out.png"), &flags);
    assert_eq!(code, Some(0), "{stderr}");
    let generated = image::open(path("out.png")).expect("an image").into_rgb8();
    // Latents at the border are mixed in the decoder: a token's width stays out.
    let kept = difference(&generated, &photo, 0..width / 2 - 64);
    let anew = difference(&generated, &photo, width / 2 + 64..width);
    assert!(kept < 12.0 && anew > 2.0 * kept, "{kept:.1} where it is kept, {anew:.1} where it is generated");
}

/// A file of the goldens.
fn golden(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/golden").join(name);
    path.to_str().expect("a path").to_owned()
}

#[test]
fn adapters_change_the_image_by_their_scale() {
    let folder = tempfile::tempdir().expect("a directory");
    let (model, peft, comfy) =
        (golden("base/model"), golden("lora/peft.safetensors"), golden("lora/comfy.safetensors"));
    let generate = |loras: &[String]| {
        let file = folder.path().join("out.png");
        let mut flags =
            vec!["--model", &model, "--width", "64", "--height", "64", "--t5-tokens", "16", "--seed", "1"];
        flags.extend(loras.iter().flat_map(|lora| ["--lora", lora.as_str()]));
        let (code, stderr) = generate(&file, &flags);
        assert_eq!(code, Some(0), "{stderr}");
        std::fs::read(&file).expect("an image")
    };
    let alone = generate(&[]);
    let one = generate(std::slice::from_ref(&peft));
    assert_ne!(one, alone);
    assert_eq!(generate(&[format!("{peft}@1")]), one);
    assert_eq!(generate(&[format!("{peft}@0")]), alone);
    let two = generate(&[format!("{peft}@0.5"), comfy.clone()]);
    assert!(two != one && two != alone);
    assert_eq!(generate(&[format!("{peft}@0.5,{comfy}")]), two, "separated by a comma");
    assert_eq!(generate(&[format!("name={peft}")]), alone, "a name for `serve`");
}

#[test]
fn an_adapter_that_cannot_be_used_is_one_error() {
    let folder = tempfile::tempdir().expect("a directory");
    let (model, dual) = (golden("base/model"), golden("dual/model"));
    let peft = golden("lora/peft.safetensors");
    let pickle = folder.path().join("a.bin");
    std::fs::write(&pickle, [0x80, 2, 0x7d]).expect("a file");
    let pickle = pickle.to_str().expect("a path");
    let vae = golden("base/model/vae/diffusion_pytorch_model.safetensors");
    let huge = folder.path().join("huge.safetensors");
    std::fs::write(&huge, [&(50u64 << 30).to_le_bytes()[..], b"{\"a\":"].concat()).expect("a file");
    let huge = huge.to_str().expect("a path");
    let over = format!("{peft}@4.5");
    for (model, lora, code, words) in [
        (&model, over.as_str(), 2, "give a scale from 0 to 4"),
        (&model, "@1", 2, "--lora @1: give a file"),
        (&model, "/nowhere/a.safetensors", 1, "the LoRA /nowhere/a.safetensors: there is no such file"),
        (&model, pickle, 1, "it is a pickle"),
        (&model, huge, 1, "its header claims 53687091200 bytes"),
        (&model, &vae, 1, "it does not fit this model"),
        (&dual, &peft, 1, "it does not fit this model\n  wrong shape: transformer.transformer_blocks.0."),
    ] {
        let flags =
            ["--model", model, "--lora", lora, "--width", "64", "--height", "64", "--t5-tokens", "16"];
        let (found, stderr) = generate(&folder.path().join("out.png"), &flags);
        assert_eq!(found, Some(code), "{lora}: {stderr}");
        assert!(stderr.contains(words), "{lora}: {stderr}");
    }
}

/// Exit code and standard error of the program.
fn run(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_latentd"));
    command.args(arguments).envs(variables.iter().copied()).stdin(Stdio::null());
    let output = command.output().expect("the program");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn values_that_cannot_be_are_refused_by_the_flags_name() {
    for (flag, value, words) in [
        ("--strength", "-0.1", "--strength -0.1: give a number above 0 up to 1"),
        ("--strength", "1.5", "--strength 1.5: give a number above 0 up to 1"),
        ("--steps", "0", "--steps 0: give 1 or more"),
        ("--steps", "-3", "invalid value '-3' for '--steps <N>'"),
        ("--num-images", "0", "--num-images 0: give 1 or more"),
        ("--width", "-64", "invalid value '-64' for '--width <W>'"),
        ("--guidance", "nan", "--guidance NaN: give a number"),
        ("--shift", "-1", "--shift -1: give a number above 0 up to 100"),
        ("--shift", "3", "--shift 3: it belongs to a checkpoint file"),
    ] {
        let (code, stderr) = run(&["generate", "a fox", "-o", "out.png", flag, value], &[]);
        assert!(code == Some(2) && stderr.contains(words), "{flag} {value}: {code:?} {stderr}");
    }
}

/// Also where the library for tensors takes a stack trace along.
#[test]
fn a_configuration_error_is_one_line() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/golden/base/model");
    let folder = tempfile::tempdir().expect("a directory");
    let model = folder.path().join("model");
    std::fs::create_dir(&model).expect("a directory");
    for entry in std::fs::read_dir(&golden).expect("a model") {
        let entry = entry.expect("a file");
        if entry.file_name() != "text_encoder" {
            std::os::unix::fs::symlink(entry.path(), model.join(entry.file_name())).expect("a link");
        }
    }
    let encoder = model.join("text_encoder");
    std::fs::create_dir(&encoder).expect("a directory");
    let config = std::fs::read_to_string(golden.join("text_encoder/config.json")).expect("a config");
    std::fs::write(encoder.join("config.json"), config.replace("quick_gelu", "mish")).expect("written");
    std::fs::copy(golden.join("text_encoder/model.safetensors"), encoder.join("model.safetensors"))
        .expect("a copy");
    let file = folder.path().join("out.png");
    let (model, file) = (model.to_str().expect("a path"), file.to_str().expect("a path"));
    let command = ["generate", "a fox", "-o", file, "--model", model, "--safety-checker", "none"];
    let command = [&command[..], &["--width", "32", "--height", "32"]].concat();
    let (code, stderr) = run(&command, &[("RUST_BACKTRACE", "1")]);
    assert_eq!(code, Some(1), "{stderr}");
    let complaint: Vec<_> = stderr.lines().filter(|line| line.contains("mish")).collect();
    assert!(complaint.len() == 1 && complaint[0].contains("text_encoder/config.json"), "{stderr}");
    assert!(
        !stderr.contains("backtrace") && !stderr.contains("  0:") && stderr.lines().count() == 1,
        "{stderr}"
    );
}

#[test]
fn a_prompt_that_is_cut_is_warned_of() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/golden/base/model");
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("out.png");
    let (model, file) = (golden.to_str().expect("a path"), file.to_str().expect("a path"));
    let prompt = format!("{} the very last words", "fox ".repeat(90));
    let command = ["generate", &prompt, "-o", file, "--model", model, "--safety-checker", "none"];
    let small = ["--width", "32", "--height", "32", "--steps", "1", "--t5-tokens", "16"];
    let (code, stderr) = run(&[&command[..], &small].concat(), &[]);
    assert_eq!(code, Some(0), "{stderr}");
    let line = stderr.lines().find(|line| line.contains("for CLIP-L and CLIP-G")).expect("a warning");
    assert!(
        line.starts_with("latentd: the prompt is cut after 77 tokens")
            && line.contains("the very last words"),
        "{stderr}"
    );
}

/// Commands whose reader has gone end quietly.
#[test]
fn a_reader_that_leaves_is_no_error() {
    let folder = tempfile::tempdir().expect("a directory");
    let data = folder.path().to_str().expect("a path");
    for command in ["models list", "models list --json", "doctor --json", "doctor", "keys list", "env"] {
        let program = env!("CARGO_BIN_EXE_latentd");
        // The pipe's other end is closed before the program begins: it waits for a line that comes after.
        let script = format!(
            "mkfifo $LATENTD_DATA_DIR/gone; {{ read _ < $LATENTD_DATA_DIR/gone; exec {program} {command}; }} | \
             {{ exec <&-; echo > $LATENTD_DATA_DIR/gone; }}; echo ${{PIPESTATUS[0]}}; rm $LATENTD_DATA_DIR/gone"
        );
        let mut shell = Command::new("bash");
        shell.args(["-c", &script]).env("LATENTD_DATA_DIR", data).stdin(Stdio::null());
        let output = shell.output().expect("bash");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!stderr.contains("panicked") && !stderr.contains("Broken pipe"), "{command}: {stderr}");
        assert_ne!(String::from_utf8_lossy(&output.stdout).trim(), "101", "{command}");
    }
}

#[test]
fn an_ip_adapter_follows_its_image_and_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a directory");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/golden");
    let golden = |path: &str| golden.join(path).to_str().expect("a path").to_owned();
    let file = |name: &str| folder.path().join(name);
    let style = file("style.png").to_str().expect("a path").to_owned();
    image::RgbImage::from_fn(40, 30, |x, y| image::Rgb([6 * x as u8, 8 * y as u8, 90]))
        .save(&style)
        .expect("a file");
    let (model, adapter) = (golden("base/model"), golden("ip_adapter/published/ip-adapter.safetensors"));
    let encoder = golden("ip_adapter/published/image_encoder");
    let size = ["--width", "64", "--height", "48", "--seed", "1"];
    let base = ["--model", &model, "--device", "cpu", "--dtype", "f32", "--ip-image", &style];
    let with = |name: &str, adapter: &str, encoder: &str, more: &[&str]| {
        let files = ["--ip-adapter", adapter, "--ip-encoder", encoder];
        generate(&file(name), &[&base[..], &size, &files, more].concat())
    };
    for (name, scale) in [("out.png", "1"), ("without.png", "0")] {
        let (code, stderr) = with(name, &adapter, &encoder, &["--ip-scale", scale]);
        assert_eq!(code, Some(0), "{stderr}");
    }
    let pixels = |name: &str| image::open(file(name)).expect("an image").to_rgb8();
    assert_ne!(pixels("out.png"), pixels("without.png"));
    let (lora, text) = (golden("lora/peft.safetensors"), golden("base/model/text_encoder"));
    for (adapter, encoder, flags, code, words) in [
        (&lora, &encoder, &[][..], 1, "peft.safetensors: it is no IP-Adapter of SD3.5"),
        (&adapter, &text, &[], 1, "text_encoder: its config: its model_type is \"clip_text_model\""),
        (&adapter, &encoder, &["--ip-scale", "5"], 2, "--ip-scale 5: give a number from 0 to 4"),
    ] {
        let (found, stderr) = with("no.png", adapter, encoder, flags);
        assert!(found == Some(code) && stderr.contains(words), "{stderr}");
    }
    let (code, stderr) = generate(&file("no.png"), &["--ip-adapter", &adapter]);
    assert!(code == Some(2) && stderr.contains("--ip-encoder"), "{stderr}");
}

#[test]
fn a_controlnet_follows_its_image_and_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a directory");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/golden");
    let golden = |path: &str| golden.join(path).to_str().expect("a path").to_owned();
    let file = |name: &str| folder.path().join(name);
    let edges = file("edges.png").to_str().expect("a path").to_owned();
    image::RgbImage::from_fn(64, 48, |x, _| image::Rgb([if x < 32 { 0 } else { 255 }; 3]))
        .save(&edges)
        .expect("a file");
    let (model, net) = (golden("base/model"), golden("controlnet/joint/model"));
    let base = ["--model", &model, "--seed", "1", "--device", "cpu", "--dtype", "f32"];
    let with = |name: &str, net: &str, more: &[&str]| {
        let control = ["--controlnet", net, "--control-image", &edges];
        generate(&file(name), &[&base[..], &control, more].concat())
    };
    for (name, scale) in [("out.png", "1"), ("without.png", "0")] {
        let (code, stderr) = with(name, &net, &["--control-scale", scale]);
        assert_eq!(code, Some(0), "{stderr}");
    }
    let pixels = |name: &str| image::open(file(name)).expect("an image").to_rgb8();
    assert_eq!(pixels("out.png").dimensions(), (64, 48), "that of the control image");
    assert_ne!(pixels("out.png"), pixels("without.png"));
    let lora = golden("lora/peft.safetensors");
    for (net, flags, code, words) in [
        (lora.as_str(), &[][..], 1, "peft.safetensors: it is no ControlNet of SD3.5: missing"),
        (&net, &["--control-scale", "3"], 2, "--control-scale 3: give a number from 0 to 2"),
        (&net, &["--control-end", "1.5"], 2, "--control-end 1.5: give a number from 0 to 1"),
    ] {
        let (found, stderr) = with("no.png", net, flags);
        assert!(found == Some(code) && stderr.contains(words), "{stderr}");
    }
    let (code, stderr) = generate(&file("no.png"), &["--controlnet", &net]);
    assert!(code == Some(2) && stderr.contains("--control-image"), "{stderr}");
}
