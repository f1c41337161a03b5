//! Reads the golden files: a request, its model, and diffusers' tensors for it.

use candle_core::{Device, Tensor};
use latentd_models::GenerateRequest;
use std::collections::HashMap;
use std::path::PathBuf;

/// A file below `golden/`. Uses the package's folder at run time, which may differ from that at build time.
pub(crate) fn path(name: &str) -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("CARGO_MANIFEST_DIR: the folder models/");
    PathBuf::from(package).join("../tests/parity/golden").join(name)
}

/// A JSON file below `golden/`.
pub(crate) fn json(name: &str) -> serde_json::Value {
    let bytes = std::fs::read(path(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// One model, one request, and diffusers' tensors for it.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) request: GenerateRequest,
    tensors: HashMap<String, Tensor>,
}

impl Case {
    pub(crate) fn read(name: &'static str) -> Self {
        Self::read_file(name, "golden.safetensors")
    }

    pub(crate) fn read_file(name: &'static str, file: &str) -> Self {
        let case = json(&format!("{name}/case.json"));
        let text = |key: &str| case[key].as_str().expect("a string").to_string();
        let count = |key: &str| case[key].as_u64().expect("a count") as usize;
        let request = GenerateRequest {
            prompt: text("prompt"),
            negative_prompt: text("negative"),
            width: count("width"),
            height: count("height"),
            steps: count("steps"),
            guidance: case["guidance"].as_f64().expect("a number"),
            seed: case["seed"].as_i64().expect("a seed"),
            num_images: count("num_images"),
            skipped_images: 0,
            t5_tokens: count("max_sequence_length"),
            check_safety: false,
            init_image: None,
            loras: Vec::new(),
            skip_layers: None,
            controlnet: None,
            ip_adapter: None,
        };
        let tensors = candle_core::safetensors::load(path(&format!("{name}/{file}")), &Device::Cpu);
        Self { name, request, tensors: tensors.expect("golden tensors") }
    }

    pub(crate) fn model(&self) -> PathBuf {
        path(self.name).join("model")
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    pub(crate) fn tensor(&self, name: &str) -> &Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("{}: no golden {name}", self.name))
    }

    /// Golden rows in our batch order: negative prompt first; if the request has one branch, only the prompt's.
    pub(crate) fn rows(&self, suffix: &str, prefixes: [&str; 2]) -> Tensor {
        let names = prefixes.map(|prefix| format!("{prefix}{suffix}"));
        let rows: Vec<_> = names.iter().filter(|name| self.has(name)).map(|name| self.tensor(name)).collect();
        Tensor::cat(&rows, 0).expect("rows of one shape")
    }

    /// diffusers' images, `[N, H, W, 3]` flat.
    pub(crate) fn images(&self) -> Vec<u8> {
        self.tensor("image.u8").flatten_all().and_then(|t| t.to_vec1()).expect("bytes")
    }
}
