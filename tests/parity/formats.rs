//! Checkpoint files of other programs: those that are read, and those that are rejected with one sentence.

use crate::checkpoint::{
    ENCODERS, TRANSFORMER, Tensors, VAE, below, encoders, generate, golden, open, read, refusal, whole, write,
};
use crate::golden::Case;
use candle_core::{DType as Stored, Device as Place, Tensor};
use latentd_models::{DType, Device, LoadOptions, ModelSource, Pipeline};
use std::path::{Path, PathBuf};

fn tensor() -> Tensor {
    Tensor::zeros(1, Stored::F32, &Place::Cpu).expect("a tensor")
}

/// The error of a checkpoint file, which must be one sentence.
fn sentence(file: PathBuf, text_encoders: Option<&Path>) -> String {
    let words = refusal(open(file, text_encoders));
    assert!(!words.contains('\n'), "{words}");
    words
}

#[test]
fn an_ema_copy_of_the_weights_is_ignored() {
    let dir = tempfile::tempdir().expect("a directory");
    let more = ["model_ema.decay", "model_ema.num_updates", "model_ema.diffusion_modelpos_embed"];
    let more = more.map(|name| (name.to_owned(), tensor())).into_iter().collect();
    let file = write(dir.path(), "ema.safetensors", &whole(more));
    let case = Case::read("checkpoint/beside");
    let mut pipelines = [file, golden("checkpoint.safetensors")]
        .map(|file| open(file, Some(&golden("beside/model"))).expect("a checkpoint"));
    let [with, without] = pipelines.each_mut().map(|pipeline| generate(pipeline, &case));
    assert_eq!(with, without);
}

/// A checkpoint file does not contain its shift, which is the published model's or the operator's.
#[test]
fn the_shift_is_the_operators_or_that_of_the_published_model() {
    let case = Case::read("checkpoint/beside");
    let file = golden("checkpoint.safetensors");
    let encoders = golden("beside/model");
    let sigmas = |source: ModelSource, shift| {
        let options = LoadOptions { shift, ..LoadOptions::new(Device::Cpu, DType::F32) };
        let mut pipeline = Pipeline::load(&source, &options).expect("a model");
        let mut found = Vec::new();
        let traced = pipeline.trace(&case.request, &mut |stage, tensor| {
            if stage == "sigmas" {
                found = tensor.to_vec1::<f32>()?;
            }
            Ok(())
        });
        traced.expect("an image");
        found
    };
    let checkpoint = || ModelSource::Checkpoint { file: file.clone(), text_encoders: Some(encoders.clone()) };
    let directory = || ModelSource::Directory(case.model());
    let usual = sigmas(checkpoint(), None);
    assert_eq!(usual, sigmas(directory(), None), "3");
    assert_eq!(sigmas(checkpoint(), Some(3.0)), usual);
    let other = sigmas(checkpoint(), Some(1.0));
    assert!(other[1] < usual[1] && (other[1] - 0.5005).abs() < 1e-4, "{other:?}");
    assert_eq!(sigmas(directory(), Some(1.0)), usual, "a directory contains it");
}

#[test]
fn a_missing_vae_is_an_error_that_names_its_source() {
    let dir = tempfile::tempdir().expect("a directory");
    let is_other = |(name, _): &(String, Tensor)| !name.starts_with(VAE);
    let file = write(
        dir.path(),
        "no_vae.safetensors",
        &whole(Tensors::new()).into_iter().filter(is_other).collect(),
    );
    open(file.clone(), Some(&golden("beside/model"))).expect("the VAE of the directory");
    let (folder, all) = (dir.path().join("encoders"), encoders());
    std::fs::create_dir(&folder).expect("a folder");
    for (name, prefix) in ["l.safetensors", "g.safetensors"].iter().zip(ENCODERS) {
        write(&folder, name, &below(&all, prefix));
    }
    let words = sentence(file.clone(), Some(&folder));
    assert!(words.contains("has no VAE inside") && words.contains("vae/diffusion_pytorch_model"), "{words}");
    assert!(!words.contains("clip_l"), "{words}");
    let words = sentence(file, None);
    assert!(words.contains("no VAE and no CLIP-L and no CLIP-G") && words.contains("clip_l"), "{words}");
}

#[test]
fn quantized_formats_are_refused_by_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let layer = format!("{TRANSFORMER}joint_blocks.0.x_block.attn.qkv.weight");
    for (name, format) in [
        (format!("{layer}.quant_state.bitsandbytes__nf4"), "bitsandbytes (NF4 or FP4)"),
        (format!("{layer}.absmax"), "bitsandbytes (NF4 or FP4)"),
        (layer.replace("weight", "SCB"), "8 bits by bitsandbytes"),
        (layer.replace("weight", "qweight"), "GPTQ or AWQ"),
        (layer.replace("weight", "wscales"), "Nunchaku"),
    ] {
        let more = Tensors::from([(name.clone(), tensor())]);
        let file = write(dir.path(), "quantized.safetensors", &whole(more));
        // Whether or not text encoders are given.
        for encoders in [None, Some(golden("beside/model"))] {
            let words = sentence(file.clone(), encoders.as_deref());
            assert!(words.contains(format) && words.contains("use the same model in F16"), "{name}: {words}");
        }
    }
    // Scaled fp8 has other names, and is supported.
    assert!(read("scaled.safetensors").keys().any(|name| name.ends_with("scale_weight")));
}

#[test]
fn an_encoder_in_another_format_is_an_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = write(dir.path(), "some.safetensors", &whole(Tensors::new()));
    let folder = dir.path().join("encoders");
    std::fs::create_dir(&folder).expect("a folder");
    let all = encoders();
    for (name, prefix) in ["l.safetensors", "g.safetensors"].iter().zip(ENCODERS) {
        write(&folder, name, &below(&all, prefix));
    }
    assert!(!open(file.clone(), Some(&folder)).expect("two encoders").has_t5());
    let damaged = folder.join("t5-v1_1-xxl.Q8_0.GGUF");
    std::fs::write(&damaged, "GGUF").expect("a file");
    let words = sentence(file.clone(), Some(&folder));
    assert!(words.contains("t5-v1_1-xxl.Q8_0.GGUF is no whole GGUF file"), "{words}");
    std::fs::remove_file(damaged).expect("removed");
    let pickle = folder.join("t5xxl.bin");
    std::fs::write(&pickle, [0x80, 2]).expect("a file");
    let words = sentence(file.clone(), Some(&folder));
    assert!(["t5xxl.bin", "a pickle", "T5"].iter().all(|word| words.contains(word)), "{words}");
    // It is ignored if there is another, supported T5.
    let t5 = write(&folder, "t5.safetensors", &below(&all, ENCODERS[2]));
    assert!(open(file.clone(), Some(&folder)).expect("three encoders").has_t5());
    std::fs::remove_file(t5).expect("removed");
    std::fs::remove_file(pickle).expect("removed");
    let quantized =
        Tensors::from([("encoder.block.0.layer.0.SelfAttention.q.weight.absmax".into(), tensor())]);
    write(&folder, "t5-nf4.safetensors", &quantized);
    assert!(sentence(file, Some(&folder)).contains("bitsandbytes"));
}
