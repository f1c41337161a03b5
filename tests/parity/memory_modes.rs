//! The memory modes: what stays in files changes no bit of an image.

use crate::golden::{Case, case};
use crate::pipeline::bytes;
use crate::{checkpoint, controlnet, ip_adapter, lora};
use latentd_models::{
    Control, DType, Device, GenerateRequest, LoadOptions, MemoryMode, ModelSource, Pipeline, Step,
};

/// The images of a request in each mode of a model.
fn images(source: &ModelSource, dtype: DType, request: &GenerateRequest) -> [Vec<u8>; 3] {
    MemoryMode::ALL.map(|memory| {
        let options = LoadOptions { memory, ..LoadOptions::new(Device::Cpu, dtype) };
        let mut pipeline = Pipeline::load(source, &options).expect("a model");
        bytes(&pipeline.generate(request, &mut |_: Step| Control::Continue).expect("an image"))
    })
}

fn check(source: &ModelSource, request: &GenerateRequest) {
    for dtype in [DType::F32, DType::Bf16] {
        let [resident, offload, stream] = images(source, dtype, request);
        assert!(resident == offload, "{source} in {}: offload is another image", dtype.name());
        assert!(resident == stream, "{source} in {}: stream is another image", dtype.name());
    }
}

/// Second attentions, several files of a part, no T5, and tables in 16 bits.
#[test]
fn of_a_directory() {
    for name in ["dual", "sharded", "no_t5"] {
        let case = Case::read(name);
        check(&ModelSource::Directory(case.model()), &case.request);
    }
}

/// Halves that are swapped, and matrices that are thirds of one.
#[test]
fn of_a_checkpoint() {
    let source = |file: &str, name: &str| ModelSource::Checkpoint {
        file: case::path(file),
        text_encoders: Some(case::path(name).join("model")),
    };
    let request = Case::read("checkpoint/beside").request;
    check(&source("checkpoint/checkpoint.safetensors", "checkpoint/beside"), &request);
    check(
        &source("gguf/model/transformer/diffusion_pytorch_model.gguf", "gguf"),
        &Case::read("gguf").request,
    );
}

/// Matrices in fp8, each with a scale.
#[test]
fn of_scaled_fp8() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = checkpoint::scaled_file(folder.path());
    let text_encoders = Some(case::path("checkpoint/beside/model"));
    check(&ModelSource::Checkpoint { file, text_encoders }, &Case::read("checkpoint/scaled").request);
}

/// Matrices that are quantized, T5's table too.
#[test]
fn of_a_gguf_file() {
    let case = Case::read("gguf");
    check(&ModelSource::Directory(case.model()), &case.request);
}

/// The whole built-in model, at a size that its products take in several pieces.
#[test]
fn of_the_built_in_model() {
    let request = GenerateRequest {
        prompt: "a red house by a lake".into(),
        width: 256,
        height: 192,
        steps: 2,
        ..Case::read("base").request
    };
    check(&ModelSource::Builtin, &request);
}

/// What is added to the transformer's and the encoders' layers is added to those that stay in files too.
#[test]
fn with_adapters() {
    let base = Case::read("base");
    check(&ModelSource::Directory(base.model()), &lora::request(&base, "all"));
}

/// The network of a request stays in its files as the transformer does.
#[test]
fn with_other_networks() {
    for name in ["joint", "single"] {
        let (case, request, _) = controlnet::read(name);
        check(&ModelSource::Directory(case.model()), &request);
    }
    let (case, request) = ip_adapter::read("controlnet");
    check(&ModelSource::Directory(case.model()), &request);
}

/// A file that became shorter ends a request with an error that names it, and not the process.
#[test]
fn a_file_that_was_cut_meanwhile_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let case = Case::read("base");
    copy(&case.model(), folder.path());
    let source = ModelSource::Directory(folder.path().to_path_buf());
    let options = LoadOptions { memory: MemoryMode::Stream, ..LoadOptions::new(Device::Cpu, DType::F32) };
    let mut pipeline = Pipeline::load(&source, &options).expect("a model");
    let file = folder.path().join("transformer/diffusion_pytorch_model.safetensors");
    let bytes = std::fs::metadata(&file).expect("a file").len();
    std::fs::OpenOptions::new()
        .write(true)
        .open(&file)
        .and_then(|file| file.set_len(bytes / 2))
        .expect("a cut");
    let error = pipeline.generate(&case.request, &mut |_: Step| Control::Continue).expect_err("no image");
    assert!(error.to_string().contains("became shorter"), "{error}");
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).expect("a folder") {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).expect("an entry");
        let to = to.join(name);
        if path.is_dir() {
            std::fs::create_dir(&to).expect("a folder");
            copy(&path, &to);
        } else {
            std::fs::copy(&path, &to).expect("a copy");
        }
    }
}
