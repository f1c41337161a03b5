//! ComfyUI's mixed precision: the images of the dequantized weights, bit for bit; and formats that are refused by name. What
//! each format's bytes mean is compared with ComfyUI's own package in `models/src/weights/scale.rs`.

use crate::checkpoint::{
    ENCODERS, TRANSFORMER, Tensors, VAE, below, encoders, generate, golden, open, read, refusal, whole, write,
};
use crate::golden::Case;
use candle_core::{DType as Stored, Device as Place, Tensor};
use latentd_models::{DType, Device, Layout, LoadOptions, ModelSource, Pipeline, Plan, Work, inspect};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

fn json(text: &str) -> Tensor {
    Tensor::from_slice(text.as_bytes(), text.len(), &Place::Cpu).expect("bytes")
}

fn format_of(name: &str) -> Tensor {
    json(&format!(r#"{{"format": "{name}"}}"#))
}

/// Bytes that look drawn, the same for the same tensor.
fn drawn(name: &str, count: usize) -> Vec<u8> {
    let mut state = name.bytes().fold(7u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..count).map(|_| next()).collect()
}

/// The fp8 of `scaled.safetensors` as ComfyUI writes it now, without formats.
fn renamed() -> Tensors {
    let vae = whole(Tensors::new()).into_iter().filter(|(name, _)| name.starts_with(VAE));
    let renamed = |(name, tensor): (String, Tensor)| {
        let name = name.replace(".scale_weight", ".weight_scale").replace(".scale_input", ".input_scale");
        (name, tensor)
    };
    let scaled = read("scaled.safetensors").into_iter().filter(|(name, _)| !name.ends_with("scaled_fp8"));
    scaled.map(renamed).chain(vae).collect()
}

fn layers(tensors: &Tensors) -> Vec<String> {
    tensors.keys().filter_map(|name| Some(name.strip_suffix(".weight_scale")?.to_owned())).collect()
}

#[test]
fn fp8_has_the_image_of_scaled_fp8() {
    let dir = tempfile::tempdir().expect("a directory");
    let case = Case::read("checkpoint/scaled");
    let image = |file: PathBuf| {
        generate(&mut open(file, Some(&golden("beside/model"))).expect("a checkpoint"), &case)
    };
    let vae = whole(Tensors::new()).into_iter().filter(|(name, _)| name.starts_with(VAE));
    let expected = image(write(
        dir.path(),
        "old.safetensors",
        &read("scaled.safetensors").into_iter().chain(vae).collect(),
    ));
    let plain = renamed();
    assert_eq!(image(write(dir.path(), "plain.safetensors", &plain)), expected, "scales alone");
    let formats =
        layers(&plain).into_iter().map(|layer| (format!("{layer}.comfy_quant"), format_of("float8_e4m3fn")));
    let marked: Tensors = plain.clone().into_iter().chain(formats).collect();
    assert_eq!(
        image(write(dir.path(), "marked.safetensors", &marked)),
        expected,
        "formats beside the layers"
    );
    let names: HashMap<_, _> = layers(&plain)
        .into_iter()
        .map(|layer| (layer, serde_json::json!({ "format": "float8_e4m3fn" })))
        .collect();
    let metadata = serde_json::json!({ "format_version": "1.0", "layers": names }).to_string();
    let metadata = HashMap::from([("_quantization_metadata".to_owned(), metadata)]);
    let file = dir.path().join("header.safetensors");
    safetensors::serialize_to_file(&plain, Some(metadata), &file).expect("a file");
    assert_eq!(image(file), expected, "formats in the header");
}

/// A layer in blocks of quantized values, whose scales are all the same, and its values: half of them in NVFP4, half in MXFP8.
fn in_blocks(name: &str, [rows, columns]: [usize; 2], is_nvfp4: bool) -> (Tensors, Tensor) {
    const SIZES: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    let layer = name.strip_suffix("weight").expect("a weight");
    let tiles = |blocks: usize| [rows.next_multiple_of(128), blocks.next_multiple_of(4)];
    let filled = |byte: u8, blocks| Tensor::full(byte, &tiles(blocks)[..], &Place::Cpu).expect("scales");
    let (weight, scales, values, format) = if is_nvfp4 {
        let bytes = drawn(name, rows * columns / 2);
        let value = |bits: u8| SIZES[usize::from(bits & 7)] * if bits < 8 { 1.0 } else { -1.0 };
        // 0x30 is 0.5 in e4m3, and the tensor's number an eighth.
        let values: Vec<f32> =
            bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|bits| value(bits) / 16.0).collect();
        let weight = Tensor::from_vec(bytes, (rows, columns / 2), &Place::Cpu);
        (weight, filled(0x30, columns / 16), values, "nvfp4")
    } else {
        let values = drawn(name, rows * columns).into_iter().map(|byte| f32::from(byte >> 4) - 8.0).collect();
        let fp8 =
            Tensor::from_vec(values, (rows, columns), &Place::Cpu).and_then(|x| x.to_dtype(Stored::F8E4M3));
        let fp8 = fp8.expect("fp8");
        let values =
            fp8.to_dtype(Stored::F32).and_then(|x| (x / 32.0)?.flatten_all()?.to_vec1()).expect("values");
        // 2^-5.
        (Ok(fp8), filled(122, columns / 32), values, "mxfp8")
    };
    let mut tensors = Tensors::from([
        (name.to_owned(), weight.expect("a weight")),
        (format!("{layer}weight_scale"), scales),
        (format!("{layer}comfy_quant"), format_of(format)),
    ]);
    if is_nvfp4 {
        let number = Tensor::new(0.125f32, &Place::Cpu).expect("a number");
        tensors.insert(format!("{layer}weight_scale_2"), number);
    }
    (tensors, Tensor::from_vec(values, (rows, columns), &Place::Cpu).expect("values"))
}

/// The same tensors with their matrices quantized, and with the values of these.
fn quantized(tensors: Tensors) -> (Tensors, Tensors) {
    let (mut packed, mut dense, mut count) = (Tensors::new(), Tensors::new(), 0);
    let mut tensors: Vec<_> = tensors.into_iter().collect();
    tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (name, tensor) in tensors {
        match *tensor.dims() {
            [rows, columns] if name.ends_with(".weight") && rows * columns > 512 && columns % 32 == 0 => {
                count += 1;
                let (stored, values) = in_blocks(&name, [rows, columns], count % 2 == 0);
                packed.extend(stored);
                dense.insert(name, values);
            }
            _ => {
                packed.insert(name.clone(), tensor.clone());
                dense.insert(name, tensor);
            }
        }
    }
    assert!(count > 10, "only {count} matrices");
    (packed, dense)
}

/// The transformer with its embeddings, whose shapes the config is made of, and T5; in each precision.
#[test]
fn blocks_have_the_images_of_their_dequantized_weights() {
    let dir = tempfile::tempdir().expect("a directory");
    let all = encoders();
    let (packed_t5, dense_t5) = quantized(below(&all, ENCODERS[2]));
    let (packed, dense) = quantized(whole(Tensors::new()));
    let sources = [("packed", packed, packed_t5), ("dense", dense, dense_t5)].map(|(name, model, t5)| {
        let folder = dir.path().join(name);
        std::fs::create_dir(&folder).expect("a folder");
        for (file, tensors) in [("l", below(&all, ENCODERS[0])), ("g", below(&all, ENCODERS[1])), ("t5", t5)]
        {
            write(&folder, &format!("{file}.safetensors"), &tensors);
        }
        let file = write(dir.path(), &format!("{name}.safetensors"), &model);
        ModelSource::Checkpoint { file, text_encoders: Some(folder) }
    });
    let case = Case::read("checkpoint/inside");
    for dtype in [DType::F32, DType::Bf16] {
        let options = LoadOptions::new(Device::Cpu, dtype);
        let images = sources
            .each_ref()
            .map(|source| generate(&mut Pipeline::load(source, &options).expect("a checkpoint"), &case));
        assert!(images[0] == images[1], "{dtype:?}");
        assert!(images[0].iter().any(|byte| *byte != images[0][0]), "an image of one colour shows nothing");
        let plans =
            sources.each_ref().map(|source| Plan::of(source, &options, &Work::default()).expect("a plan"));
        assert_eq!(plans[0].weights(), plans[1].weights(), "loaded they are as large");
    }
    let parts = [dir.path().join("packed.safetensors"), dir.path().join("dense.safetensors")]
        .map(|file| inspect(&file).expect("an inspection"));
    let [packed, dense] = parts.each_ref().map(|found| &found.parts[0]);
    assert_eq!((parts[0].layout, &parts[0].what), (Layout::Original, &parts[1].what));
    assert_eq!((packed.parameters, packed.tensors), (dense.parameters, dense.tensors));
    assert!(packed.bytes * 2 < dense.bytes, "{packed:?}");
    assert!(packed.dtypes.contains_key("NVFP4") && packed.dtypes.contains_key("MXFP8"), "{packed:?}");
}

/// The error of a checkpoint with these tensors in addition or instead, which must be one sentence.
fn sentence(dir: &Path, more: Tensors) -> String {
    let words = refusal(open(write(dir, "refused.safetensors", &whole(more)), Some(&golden("beside/model"))));
    assert!(!words.contains('\n') && words.len() < 600, "{words}");
    words
}

#[test]
fn what_is_not_read_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let layer = format!("{TRANSFORMER}joint_blocks.0.x_block.attn.qkv");
    let number = || Tensor::new(1f32, &Place::Cpu).expect("a number");
    let bytes = |columns: usize| Tensor::zeros((96, columns), Stored::U8, &Place::Cpu).expect("bytes");
    let with = |format: Tensor, columns: usize| {
        Tensors::from([
            (format!("{layer}.comfy_quant"), format),
            (format!("{layer}.weight"), bytes(columns)),
            (format!("{layer}.weight_scale"), number()),
        ])
    };
    let rotated = json(r#"{"format": "int8_tensorwise", "convrot": true}"#);
    for (more, words) in [
        (with(format_of("convrot_w4a4"), 16), "in ComfyUI's convrot_w4a4, which latentd does not read"),
        (with(rotated, 32), "in ComfyUI's int8_tensorwise with convrot"),
        (with(json("{}"), 16), "in ComfyUI's unnamed format"),
        (with(json("{"), 16), "is no JSON"),
        (
            with(format_of("float8_e4m3fn"), 32),
            "is said to be in float8_e4m3fn, but its weight is U8 [96, 32]",
        ),
        (with(format_of("nvfp4"), 15), "is said to be in nvfp4, but its weight is U8 [96, 15]"),
        (
            with(json(r#"{"format": "nvfp4"}"#), 16)
                .into_iter()
                .filter(|(name, _)| !name.ends_with("quant"))
                .collect(),
            "no .comfy_quant says what its U8 are",
        ),
        (
            Tensors::from([
                (format!("{layer}.pre_quant_scale"), number()),
                (format!("{layer}.weight_scale"), number()),
            ]),
            "pre_quant_scale",
        ),
    ] {
        let found = sentence(dir.path(), more);
        assert!(found.contains(words), "{words}: {found}");
    }
    let words = refusal(open(
        write(dir.path(), "scales.safetensors", &whole(with(format_of("nvfp4"), 16))),
        Some(&golden("beside/model")),
    ));
    assert!(words.contains(&format!("wrong scales: {layer}.weight_scale_2 is missing")), "{words}");
}
