//! ControlNets in Stability's original layout: the images of the same ones in diffusers' layout, bit for bit, and those that
//! diffusers makes with the pixels of canny edges (`export_controlnet.py`).

use crate::checkpoint::{Tensors, write};
use crate::controlnet::{generate, read, refusal};
use crate::golden::{Case, case, pixel_difference, relative_error};
use crate::pipeline::load;
use candle_core::{DType as Stored, Device as Place, Tensor};
use latentd_models::{ControlNet, DType, Device, GenerateRequest, Layout, inspect};
use std::path::{Path, PathBuf};

/// Layers of a block in both layouts (diffusers' convert_sd3_controlnet_to_diffusers.py:107-135).
const LAYERS: [(&str, &str); 4] = [
    ("attn.to_out.0", "attn.proj"),
    ("ff.net.0.proj", "mlp.fc1"),
    ("ff.net.2", "mlp.fc2"),
    ("norm1.linear", "adaLN_modulation.1"),
];

/// The ControlNet of the case `single` as Stability stores one, with tensors that diffusers does not read.
fn original() -> Tensors {
    let file = case::path("controlnet/single/model/diffusion_pytorch_model.safetensors");
    let theirs = candle_core::safetensors::load(file, &Place::Cpu).expect("weights");
    let mut ours = Tensors::new();
    for (name, tensor) in &theirs {
        if let Some((block, leaf)) = name.split_once(".attn.to_q.") {
            let thirds =
                ["to_q", "to_k", "to_v"].map(|third| &theirs[&format!("{block}.attn.{third}.{leaf}")]);
            ours.insert(format!("{block}.attn.qkv.{leaf}"), Tensor::cat(&thirds, 0).expect("q, k and v"));
        } else if !name.contains(".attn.to_k.") && !name.contains(".attn.to_v.") {
            let layer = LAYERS.iter().find(|(layer, _)| name.contains(&format!(".{layer}.")));
            let name = layer.map_or(name.clone(), |(layer, stored)| name.replace(layer, stored));
            ours.insert(name, tensor.clone());
        }
    }
    assert_eq!(
        ours.keys().filter(|name| name.contains("qkv")).count(),
        4,
        "weights and biases of two blocks"
    );
    for (name, shape) in [("context_embedder.weight", [24, 40]), ("pos_embed.proj.weight", [24, 64])] {
        ours.insert(name.into(), Tensor::zeros(&shape, Stored::F16, &Place::Cpu).expect("a tensor"));
    }
    ours
}

fn with_type(kind: i64) -> Tensors {
    let kind = Tensor::from_vec(vec![kind], 1, &Place::Cpu).expect("a number");
    original().into_iter().chain([("control_type".into(), kind)]).collect()
}

fn with_file(request: &GenerateRequest, path: PathBuf) -> GenerateRequest {
    let net = request.controlnet.clone().expect("a ControlNet");
    GenerateRequest { controlnet: Some(ControlNet { path, ..net }), ..request.clone() }
}

#[test]
fn both_layouts_generate_the_same_bits() {
    let (case, request, _) = read("single");
    let dir = tempfile::tempdir().expect("a folder");
    let file = |name: &str, tensors: &Tensors| with_file(&request, write(dir.path(), name, tensors));
    // No config is read.
    std::fs::write(dir.path().join("config.json"), "{").expect("a config");
    for dtype in [DType::F32, DType::Bf16] {
        let mut pipeline = load(&case, Device::Cpu, dtype, true);
        let expected = generate(&mut pipeline, &request).expect("an image");
        for request in [
            file("plain.safetensors", &original()),
            file("blur.safetensors", &with_type(0)),
            file("depth.safetensors", &with_type(2)),
        ] {
            assert!(generate(&mut pipeline, &request).expect("an image") == expected, "{dtype:?}");
        }
    }
}

#[test]
fn canny_edges_have_the_pixels_of_their_training() {
    let (_, request, _) = read("single");
    let canny = Case::read_file("dual", "../controlnet/canny/golden.safetensors");
    let dir = tempfile::tempdir().expect("a folder");
    let request = with_file(&request, write(dir.path(), "canny.safetensors", &with_type(1)));
    let mut pipeline = load(&canny, Device::Cpu, DType::F32, true);
    let mut seen = 0;
    let generated = pipeline.trace(&request, &mut |stage, tensor| {
        if stage == "condition" {
            let error = relative_error(tensor, canny.tensor("condition"));
            assert!(error < 1e-4, "{stage} is off by {error:e}");
            seen += 1;
        }
        Ok(())
    });
    let image = crate::pipeline::bytes(&generated.expect("an image"));
    assert_eq!(seen, 1);
    let (mean, max) = pixel_difference(&image, &canny.images());
    assert!(mean < 0.5 && max <= 1, "pixels differ by {mean} on average, {max} at most");
}

/// Names are the file's own.
#[test]
fn what_does_not_fit_is_listed() {
    let (case, request, _) = read("single");
    let mut pipeline = load(&case, Device::Cpu, DType::F32, true);
    let dir = tempfile::tempdir().expect("a folder");
    let mut refused = |tensors: &Tensors| -> String {
        let file: &Path = &write(dir.path(), "net.safetensors", tensors);
        refusal(&mut pipeline, &request, file)
    };
    let (weight, norm) = ("transformer_blocks.1.mlp.fc1.weight", "transformer_blocks.0.attn.ln_q.weight");
    let mut tensors = original();
    tensors.remove(weight).expect("a weight");
    tensors.insert(norm.into(), Tensor::zeros(8, Stored::F16, &Place::Cpu).expect("a tensor"));
    let why = refused(&tensors);
    assert!(why.contains(&format!("missing: {weight} [96, 24]")), "{why}");
    assert!(why.contains(&format!("unused: {norm}")), "{why}");
    // Those of the 2B type embed the pooled text twice.
    let text = "time_text_embed.text_embedder.linear_1.weight";
    let square = Tensor::zeros((24, 24), Stored::F16, &Place::Cpu).expect("a tensor");
    let why = refused(&original().into_iter().chain([(text.into(), square)]).collect());
    assert!(why.contains("its pooled_projection_dim is 24"), "{why}");
}

#[test]
fn they_are_inspected() {
    let dir = tempfile::tempdir().expect("a folder");
    let found = inspect(&write(dir.path(), "net.safetensors", &with_type(1))).expect("an inspection");
    assert_eq!((found.what.as_str(), found.layout, found.runs()), ("a ControlNet", Layout::Original, false));
    let theirs = case::path("controlnet/single/model/diffusion_pytorch_model.safetensors");
    let theirs = candle_core::safetensors::load(theirs, &Place::Cpu).expect("weights");
    let parameters: usize = theirs.values().map(Tensor::elem_count).sum();
    assert_eq!((found.parts[0].name.as_str(), found.parts[0].parameters), ("ControlNet", parameters as u64));
}
