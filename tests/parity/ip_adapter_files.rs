//! Files that are no IP-Adapter of a model, or no image encoder.

use crate::golden::case;
use crate::ip_adapter::{WEIGHTS, adapter, encoder, generate, read};
use crate::pipeline::load;
use candle_core::{Device as Place, Tensor};
use latentd_models::{
    DType, Device, Error, GenerateRequest, IpAdapter, ModelSource, Pipeline, check_ip_adapter,
};
use std::collections::HashMap;
use std::path::Path;

/// A copy of a file's tensors, changed.
fn changed(from: &Path, to: &Path, change: impl FnOnce(&mut HashMap<String, Tensor>)) {
    let mut tensors = candle_core::safetensors::load(from, &Place::Cpu).expect("tensors");
    change(&mut tensors);
    candle_core::safetensors::save(&tensors, to).expect("a file");
}

/// Files of an IP-Adapter and an image encoder in a folder of their own.
struct Files {
    folder: tempfile::TempDir,
    request: GenerateRequest,
    pipeline: Pipeline,
}

impl Files {
    fn new() -> Self {
        let (case, request) = read("guided");
        let pipeline = load(&case, Device::Cpu, DType::F32, true);
        Self { folder: tempfile::tempdir().expect("a folder"), request, pipeline }
    }

    /// The error of a request with these files, as what checks them without loading says it too.
    fn refusal(&mut self, path: &Path, encoder_path: &Path) -> Error {
        let prompt = self.request.ip_adapter.clone().expect("an IP-Adapter");
        let files = encoder(encoder_path.into());
        let prompt = IpAdapter { path: path.into(), encoder: files.clone(), ..prompt };
        let request = GenerateRequest { ip_adapter: Some(prompt), ..self.request.clone() };
        let error = generate(&mut self.pipeline, &request).expect_err("a refusal");
        let why = error.to_string();
        for path in [path, encoder_path] {
            assert!(!why.contains(&*path.to_string_lossy()), "{why}");
        }
        error
    }
}

#[test]
fn what_is_no_ip_adapter_of_the_model_is_refused() {
    let mut files = Files::new();
    let (model, siglip) = (adapter("published").join(WEIGHTS), adapter("published").join("image_encoder"));
    let whole = std::fs::read(&model).expect("weights");
    let path = |name: &str| files.folder.path().join(name);
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(path(name), bytes).expect("a file");
        path(name)
    };
    let change = |name: &str, change: fn(&mut HashMap<String, Tensor>)| {
        changed(&model, &path(name), change);
        path(name)
    };
    let huge = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
    let cases = [
        (write("short.safetensors", &whole[..whole.len() - 10]), "it is no whole safetensors file"),
        (write("huge.safetensors", &huge), "its header claims"),
        (
            write("ip-adapter.bin", b"\x80\x02}q\x00X"),
            "it is a pickle, and to open a pickle is to run the program inside it",
        ),
        (
            change("less.safetensors", |tensors| {
                tensors.remove("ip_adapter.1.to_k_ip.weight");
                tensors.remove("image_proj.norm_out.bias");
            }),
            "missing: image_proj.norm_out.bias [24]\n  missing: ip_adapter.1.to_k_ip.weight [24, 24]",
        ),
        (
            change("more.safetensors", |tensors| {
                let more = tensors["ip_adapter.0.norm_k.weight"].clone();
                tensors.insert("ip_adapter.2.norm_k.weight".into(), more.clone());
                tensors.insert("other.weight".into(), more);
            }),
            "unused: ip_adapter.2.norm_k.weight\n  unused: other.weight",
        ),
        (
            change("wide.safetensors", |tensors| {
                let shape = Tensor::zeros(9, candle_core::DType::F32, &Place::Cpu).expect("zeros");
                tensors.insert("ip_adapter.0.norm_k.weight".into(), shape);
            }),
            "wrong shape: ip_adapter.0.norm_k.weight is [9], the config says [8]",
        ),
        (
            change("heads.safetensors", |tensors| {
                let query = tensors["image_proj.layers.0.0.to_q.weight"].narrow(0, 0, 60).expect("rows");
                tensors.insert("image_proj.layers.0.0.to_q.weight".into(), query);
            }),
            "the number of its heads is 0",
        ),
        (
            change("features.safetensors", |tensors| {
                let input = tensors["image_proj.proj_in.weight"].narrow(1, 0, 18).expect("columns");
                tensors.insert("image_proj.proj_in.weight".into(), input.contiguous().expect("a copy"));
            }),
            "it reads features of 18 channels, and the image encoder makes 24",
        ),
        (adapter("diffusers").join(WEIGHTS), "unused: ip_adapter.2.norm_ip.linear.bias"),
        (case::path("lora/peft.safetensors"), "it is no IP-Adapter of SD3.5"),
        (case::path("ip_adapter/nothing"), "there is no such file"),
    ];
    for (path, words) in cases {
        match files.refusal(&path, &siglip) {
            Error::IpAdapter(why) => {
                assert!(why.starts_with("the IP-Adapter style: ") && why.contains(words), "{words}: {why}");
            }
            other => panic!("{path:?}: {other:?}"),
        }
    }
}

#[test]
fn what_is_no_image_encoder_is_refused() {
    let mut files = Files::new();
    let model = adapter("published").join(WEIGHTS);
    let siglip = adapter("published").join("image_encoder");
    let (config, processor) = ("config.json", "preprocessor_config.json");
    let text = |name: &str| std::fs::read_to_string(siglip.join(name)).expect("a config");
    let whole = std::fs::read(siglip.join("model.safetensors")).expect("weights");
    let mut number = 0;
    let mut folder = |config_text: Option<String>, processor_text: Option<String>, weights: &[u8]| {
        number += 1;
        let path = files.folder.path().join(format!("encoder{number}"));
        std::fs::create_dir(&path).expect("a folder");
        for (name, text) in [(config, config_text), (processor, processor_text)] {
            if let Some(text) = text {
                std::fs::write(path.join(name), text).expect("a file");
            }
        }
        std::fs::write(path.join("model.safetensors"), weights).expect("weights");
        path
    };
    let replaced = |from: &str, to: &str| Some(text(config).replace(from, to));
    let (as_is, images) = (Some(text(config)), Some(text(processor)));
    let cases = [
        (folder(as_is.clone(), images.clone(), &whole[..whole.len() - 9]), "model.safetensors"),
        (folder(as_is.clone(), images.clone(), b"\x80\x02}q\x00X"), "model.safetensors is a pickle"),
        (folder(None, images.clone(), &whole), "it has no config.json"),
        (folder(as_is.clone(), None, &whole), "it has no preprocessor_config.json"),
        (folder(replaced("\"siglip\"", "\"clip\""), images.clone(), &whole), "its model_type is \"clip\""),
        (folder(replaced("30", "60"), images.clone(), &whole), "size is 30x30, but the network reads 60x60"),
        (
            folder(replaced("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 5"), images.clone(), &whole),
            "missing: vision_model.encoder.layers.3.layer_norm1.weight [24]",
        ),
        (
            folder(
                as_is.clone(),
                Some(text(processor).replace("\"resample\": 3", "\"resample\": 0")),
                &whole,
            ),
            "its preprocessor_config.json: resample 0",
        ),
        (
            folder(
                as_is.clone(),
                Some(r#"{"do_center_crop": true, "size": {"shortest_edge": 28823037615171176}, "crop_size": 30}"#.into()),
                &whole,
            ),
            "its preprocessor_config.json: size 28823037615171176x28823037615171176 is more than 65536",
        ),
        (folder(replaced("\"num_hidden_layers\"", "\"hidden_act\": \"mish\", \"num_hidden_layers\""), images.clone(), &whole), "hidden_act \"mish\" is not supported"),
        (folder(as_is, images, b""), "model.safetensors"),
        (case::path("ip_adapter/nothing"), "there is no such file"),
    ];
    for (path, words) in cases {
        match files.refusal(&model, &path) {
            Error::ImageEncoder(why) => {
                assert!(
                    why.starts_with("the image encoder siglip: ") && why.contains(words),
                    "{words}: {why}"
                );
            }
            other => panic!("{path:?}: {other:?}"),
        }
    }
}

/// What would not fit is known before anything is loaded.
#[test]
fn files_are_checked_without_loading_them() {
    let base = ModelSource::Directory(case::path("base/model"));
    let files = |name: &str| (adapter(name), encoder(adapter(name).join("image_encoder")));
    let (path, siglip) = files("published");
    let values = check_ip_adapter(&base, ("style", &path), &siglip).expect("it fits");
    assert!((100_000..200_000).contains(&values), "{values}");
    let (other, other_siglip) = files("diffusers");
    let refused = check_ip_adapter(&base, ("style", &other), &siglip).expect_err("other features");
    assert!(refused.to_string().contains("it reads features of 18 channels"), "{refused}");
    let refused = check_ip_adapter(&base, ("style", &path), &encoder(path.clone())).expect_err("no encoder");
    assert!(matches!(&refused, Error::ImageEncoder(_)), "{refused}");
    let narrow = ModelSource::Directory(case::path("odd_heads/model"));
    let refused = check_ip_adapter(&narrow, ("style", &other), &other_siglip).expect_err("another width");
    assert!(refused.to_string().contains("its tokens are 24 wide, and this model is 20"), "{refused}");
}
