//! Checkpoints in the original layout: the same images as the same model in the diffusers layout, bit for bit, and
//! diffusers' own (`export_checkpoint.py`).

use crate::golden::case::path;
use crate::golden::{Case, pixel_difference, relative_error};
use crate::pipeline::bytes;
use candle_core::{DType as Stored, Device as Place, Tensor};
use latentd_models::{Control, DType, Device, Error, LoadOptions, ModelSource, Pipeline, Step};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

pub(crate) type Tensors = HashMap<String, Tensor>;

pub(crate) const VAE: &str = "first_stage_model.";
pub(crate) const TRANSFORMER: &str = "model.diffusion_model.";
pub(crate) const ENCODERS: [&str; 3] = [
    "text_encoders.clip_l.transformer.",
    "text_encoders.clip_g.transformer.",
    "text_encoders.t5xxl.transformer.",
];

pub(crate) fn golden(name: &str) -> PathBuf {
    path("checkpoint").join(name)
}

pub(crate) fn read(name: &str) -> Tensors {
    candle_core::safetensors::load(golden(name), &Place::Cpu).expect("golden tensors")
}

/// The file `name` in `dir` with these tensors.
pub(crate) fn write(dir: &Path, name: &str, tensors: &Tensors) -> PathBuf {
    let path = dir.join(name);
    candle_core::safetensors::save(tensors, &path).expect("a file");
    path
}

/// `encoders.safetensors` with whole tables in place of the rows that are not zero.
pub(crate) fn encoders() -> Tensors {
    let mut tensors = read("encoders.safetensors");
    let rows: Vec<String> = tensors.keys().filter(|name| name.ends_with(".rows")).cloned().collect();
    assert_eq!(rows.len(), 3);
    for key in rows {
        let name = key.trim_end_matches(".rows").to_owned();
        let count = if name.contains("clip") { 49408 } else { 32128 };
        let (rows, values) = (tensors.remove(&key).expect("rows"), tensors.remove(&name).expect("values"));
        let width = values.dim(1).expect("a table");
        let table = Tensor::zeros((count, width), values.dtype(), &Place::Cpu).expect("a table");
        for (index, row) in rows.to_vec1::<i64>().expect("rows").into_iter().enumerate() {
            table.slice_set(&values.narrow(0, index, 1).expect("a row"), 0, row as usize).expect("a row");
        }
        tensors.insert(name, table);
    }
    tensors
}

/// The tensors below a prefix, with the prefix removed.
pub(crate) fn below(tensors: &Tensors, prefix: &str) -> Tensors {
    let inside =
        |(name, tensor): (&String, &Tensor)| Some((name.strip_prefix(prefix)?.to_owned(), tensor.clone()));
    tensors.iter().filter_map(inside).collect()
}

/// The checkpoint with its transformer below the prefix of real checkpoints, and the tensors `more`.
pub(crate) fn whole(more: Tensors) -> Tensors {
    let prefixed = |(name, tensor): (String, Tensor)| {
        let name = if name.starts_with(VAE) { name } else { format!("{TRANSFORMER}{name}") };
        (name, tensor)
    };
    read("checkpoint.safetensors").into_iter().map(prefixed).chain(more).collect()
}

pub(crate) fn open(file: PathBuf, text_encoders: Option<&Path>) -> latentd_models::Result<Pipeline> {
    let source = ModelSource::Checkpoint { file, text_encoders: text_encoders.map(Path::to_owned) };
    Pipeline::load(&source, &LoadOptions::new(Device::Cpu, DType::F32))
}

pub(crate) fn generate(pipeline: &mut Pipeline, case: &Case) -> Vec<u8> {
    bytes(&pipeline.generate(&case.request, &mut |_: Step| Control::Continue).expect("an image"))
}

/// The case's image, compared with diffusers' within the tolerance of all images.
fn check(mut pipeline: Pipeline, name: &'static str) -> Vec<u8> {
    let case = Case::read(name);
    let image = generate(&mut pipeline, &case);
    let (mean, max) = pixel_difference(&image, &case.images());
    assert!(mean < 0.5 && max <= 3, "{name}: pixels differ by {mean} on average, {max} at most");
    image
}

pub(crate) fn refusal(result: latentd_models::Result<Pipeline>) -> String {
    match result {
        Err(Error::Model(words)) => words,
        Err(Error::MissingParts { missing, files, .. }) => format!("has no {missing} inside: {files}"),
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("no refusal"),
    }
}

/// Dual attention, swapped halves, convolutions that are linear layers: no prefix, encoders in separate files.
#[test]
fn both_layouts_generate_the_same_bits() {
    let case = Case::read("checkpoint/beside");
    let options = LoadOptions::new(Device::Cpu, DType::F32);
    let mut directory =
        Pipeline::load(&ModelSource::Directory(case.model()), &options).expect("diffusers' layout");
    let checkpoint =
        open(golden("checkpoint.safetensors"), Some(&case.model())).expect("the original layout");
    assert_eq!(check(checkpoint, "checkpoint/beside"), generate(&mut directory, &case));
}

#[test]
fn both_layouts_generate_the_same_bits_in_bf16() {
    let case = Case::read("checkpoint/beside");
    let options = LoadOptions::new(Device::Cpu, DType::Bf16);
    let sources = [
        ModelSource::Directory(case.model()),
        ModelSource::Checkpoint { file: golden("checkpoint.safetensors"), text_encoders: Some(case.model()) },
    ];
    let [directory, checkpoint] =
        sources.map(|source| generate(&mut Pipeline::load(&source, &options).expect("a model"), &case));
    assert_eq!(checkpoint, directory);
}

/// An image to start from goes through the VAE's encoder.
#[test]
fn both_layouts_encode_the_same_bits() {
    let mut case = Case::read("checkpoint/beside");
    let rgb = case.images();
    let image = latentd_models::Image { width: case.request.width, height: case.request.height, rgb };
    let init_image = Some(latentd_models::InitImage { image, strength: 0.7, mask: None });
    case.request.init_image = init_image;
    let options = LoadOptions::new(Device::Cpu, DType::F32);
    let mut directory =
        Pipeline::load(&ModelSource::Directory(case.model()), &options).expect("diffusers' layout");
    let mut checkpoint =
        open(golden("checkpoint.safetensors"), Some(&case.model())).expect("the original layout");
    assert_eq!(generate(&mut checkpoint, &case), generate(&mut directory, &case));
}

/// Everything in one file, with the built-in tokenizers; then the same encoders in separate files.
#[test]
fn encoders_inside_and_in_separate_files_are_the_same() {
    let dir = tempfile::tempdir().expect("a directory");
    let encoders = encoders();
    // Extra tensors of other programs: a projection that SD3.5 leaves out, and CLIP's temperature.
    let ones = Tensor::ones((64, 64), Stored::F16, &Place::Cpu).expect("a tensor");
    let left_out =
        [format!("{}text_projection.weight", ENCODERS[0]), "text_encoders.clip_l.logit_scale".into()];
    let more = encoders.clone().into_iter().chain(left_out.map(|name| (name, ones.clone())));
    let inside = write(dir.path(), "all.safetensors", &whole(more.collect()));
    let folder = dir.path().join("encoders");
    std::fs::create_dir(&folder).expect("a folder");
    // File names are not used: T5 is first in order, and its 8-bit copy must not be chosen.
    for (name, prefix) in ["x.safetensors", "b.safetensors", "a.safetensors"].iter().zip(ENCODERS) {
        write(&folder, name, &below(&encoders, prefix));
    }
    let to_f8 = |(name, tensor): (String, Tensor)| (name, tensor.to_dtype(Stored::F8E4M3).expect("fp8"));
    write(&folder, "0-fp8.safetensors", &below(&encoders, ENCODERS[2]).into_iter().map(to_f8).collect());
    std::fs::write(folder.join("notes.txt"), "not weights").expect("a file");
    let beside = write(dir.path(), "some.safetensors", &whole(Tensors::new()));

    let mut pipeline = open(inside, None).expect("all in one");
    let case = Case::read("checkpoint/inside");
    let mut seen = 0;
    let traced = pipeline.trace(&case.request, &mut |stage, tensor| {
        if matches!(stage, "context" | "pooled") {
            let golden = if stage == "context" { "cond.prompt_embeds" } else { "cond.pooled" };
            let error = relative_error(&tensor.narrow(0, 1, 1)?, case.tensor(golden));
            // The tolerance of every stage: a few hundred additions in another order than torch's.
            assert!(error < 1e-4, "{stage} is off by {error:e}");
            seen += 1;
        }
        Ok(())
    });
    traced.expect("an image");
    assert_eq!(seen, 2);
    let inside = check(pipeline, "checkpoint/inside");
    assert_eq!(check(open(beside, Some(&folder)).expect("encoders beside"), "checkpoint/inside"), inside);
}

#[test]
fn a_checkpoint_without_t5_generates() {
    let dir = tempfile::tempdir().expect("a directory");
    let clips: Tensors = encoders().into_iter().filter(|(name, _)| !name.starts_with(ENCODERS[2])).collect();
    let file = write(dir.path(), "clips.safetensors", &whole(clips));
    let pipeline = open(file, None).expect("two encoders");
    assert!(!pipeline.has_t5());
    check(pipeline, "checkpoint/no_t5");
}

/// `w = w_fp8 * scale_weight`, of q, k and v together; scales of activations are ignored.
#[test]
fn scaled_fp8_equals_its_dequantized_weights() {
    let dir = tempfile::tempdir().expect("a directory");
    let encoders = Case::read("checkpoint/scaled").name;
    let pipeline = open(scaled_file(dir.path()), Some(&golden("beside/model"))).expect("scaled fp8");
    check(pipeline, encoders);
}

/// Writes a checkpoint in scaled fp8 with a VAE.
pub(crate) fn scaled_file(dir: &Path) -> PathBuf {
    let vae = whole(Tensors::new()).into_iter().filter(|(name, _)| name.starts_with(VAE));
    let tensors = read("scaled.safetensors").into_iter().chain(vae).collect();
    write(dir, "scaled.safetensors", &tensors)
}

#[test]
fn missing_and_unused_tensors_are_listed_by_their_name_in_the_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut tensors = whole(Tensors::new());
    tensors.remove("model.diffusion_model.joint_blocks.1.x_block.attn.qkv.weight").expect("q, k and v");
    let spare = tensors["model.diffusion_model.pos_embed"].clone();
    tensors.insert("model_em.extra".into(), spare.clone());
    tensors.insert("model.diffusion_model.extra".into(), spare);
    let file = write(dir.path(), "odd.safetensors", &tensors);
    let words = refusal(open(file, Some(&golden("beside/model"))));
    for line in [
        "missing: model.diffusion_model.joint_blocks.1.x_block.attn.qkv.weight [96, 32]",
        "unused: model.diffusion_model.extra",
        "unused: model_em.extra",
    ] {
        assert!(words.contains(line), "{words}");
    }
    assert_eq!(words.matches("joint_blocks.1.x_block.attn.qkv.weight").count(), 1, "{words}");
}

#[test]
fn a_missing_clip_is_an_error_that_names_its_source() {
    let error = open(golden("checkpoint.safetensors"), None).err().expect("a refusal");
    assert!(error.to_string().ends_with("has no CLIP-L and no CLIP-G inside"), "{error}");
    assert!(
        matches!(&error, Error::MissingParts { files, .. } if files.starts_with("clip_l.safetensors")),
        "{error:?}"
    );
    let empty = tempfile::tempdir().expect("a directory");
    let words = refusal(open(golden("checkpoint.safetensors"), Some(empty.path())));
    assert!(words.contains(&format!("nor has {}: put there clip_l", empty.path().display())), "{words}");
}

/// The error for another kind of file names the kind.
#[test]
fn other_kinds_of_files_are_named_in_the_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let clip = write(dir.path(), "clip.safetensors", &below(&encoders(), ENCODERS[1]));
    let named = [
        (clip, "is the text encoder CLIP-G"),
        (golden("beside/model/vae/diffusion_pytorch_model.safetensors"), "is a VAE alone"),
        (golden("beside/model/transformer/diffusion_pytorch_model.safetensors"), "in the diffusers layout"),
    ];
    let tensor = Tensor::zeros(1, Stored::F32, &Place::Cpu).expect("a tensor");
    let made = [
        ("lora_unet_joint_blocks_0_x_block_attn_qkv.lora_down.weight", "is a LoRA"),
        ("model.diffusion_model.double_blocks.0.img_attn.qkv.weight", "is a FLUX model"),
        ("conditioner.embedders.1.model.ln_final.weight", "is a Stable Diffusion XL model"),
        (
            "cond_stage_model.transformer.text_model.final_layer_norm.weight",
            "is a Stable Diffusion 1 or 2 model",
        ),
        ("something", "is a file of tensors that latentd does not know"),
    ];
    let made = made.map(|(name, words)| {
        (
            write(
                dir.path(),
                &format!("{}.safetensors", words.len()),
                &Tensors::from([(name.into(), tensor.clone())]),
            ),
            words,
        )
    });
    for (file, what) in named.into_iter().chain(made) {
        let words = refusal(open(file, None));
        assert!(
            words.contains(what) && words.contains("give a checkpoint of Stable Diffusion 3.5"),
            "{words}"
        );
    }
}
