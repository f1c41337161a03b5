//! Converted files against the model that they are made of.

use super::*;
use crate::content::Content;
use crate::golden::path;
use crate::weight_file::WeightFile;
use candle_core::Tensor;
use std::fs;

/// What a file with a converted part has, by the model's names.
fn converted(model: &Path, part: Component, to: ConvertTo) -> (Weights, Converted) {
    let conversion = Conversion::new(model, part, to).expect("a model");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join(format!("converted.{}", to.extension()));
    let (mut bytes, mut done) = (Vec::new(), 0);
    let written = conversion.write(&mut bytes, &mut |values| {
        done += values;
        Ok(())
    });
    assert_eq!(done, conversion.values());
    fs::write(&file, &bytes).expect("a file");
    let written = written.expect("a file");
    assert_eq!(written.bytes, bytes.len() as u64);
    (open(&file, part).expect("the converted part"), written)
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().and_then(|flat| flat.to_vec1()).expect("values")
}

/// The largest error of a tensor in the converted file, as a share of its largest value.
fn error(ours: &Weights, theirs: &Weights, name: &str, shape: &[usize]) -> f32 {
    let [ours, theirs] =
        [ours, theirs].map(|weights| floats(&weights.root().tensor(name, shape).expect(name)));
    let largest = theirs.iter().fold(0f32, |most, value| most.max(value.abs()));
    let difference = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    difference / largest.max(f32::MIN_POSITIVE)
}

/// Every tensor of the transformer and of T5 is there under the model's own names, and off by no more than half a step of its
/// type: a block of n bits has 2^n steps over its values.
#[test]
fn every_type_keeps_the_values() {
    let model = path("base/model");
    for part in [Component::Transformer, Component::T5] {
        let theirs = open(&model, part).expect("a model");
        for (name, to) in ConvertTo::ALL {
            let (ours, written) = converted(&model, part, to);
            for TensorHeader { name: tensor, shape, .. } in theirs.stored() {
                if tensor == "encoder.embed_tokens.weight" {
                    continue;
                }
                let bound = match name {
                    "f16" => 1.0 / 2048.0,
                    "bf16" => 1.0 / 256.0,
                    "fp8" => 1.0 / 16.0,
                    "q8_0" => 1.0 / 127.0,
                    _ if name.starts_with("q6") => 1.0 / 32.0,
                    _ if name.starts_with("q5") => 1.0 / 16.0,
                    _ => 1.0 / 8.0,
                };
                let off = error(&ours, &theirs, &tensor, &shape);
                assert!(off <= bound, "{tensor} {shape:?} is off by {off} in {name}");
                assert!(shape.len() > 1 || off == 0.0, "{tensor} is a vector and off by {off} in {name}");
            }
            assert_eq!(ours.problems(), Vec::<String>::new(), "{name}");
            assert!(written.tensors.len() >= 2, "{name}: {:?}", written.tensors);
        }
    }
}

/// ggml's own package quantized the values of tensor F32 to the other tensors of the file (`tests/parity/export_gguf.py`).
#[test]
fn blocks_are_those_of_ggml() {
    let types = path("gguf/types.gguf");
    let (file, entries) =
        WeightFile::new("types.gguf".into(), Content::open(&types).expect("a file")).expect("a GGUF file");
    let weights = Weights::open_file(&types, "types", &Target::host()).expect("a GGUF file");
    let values = weights.root().tensor("F32", &[3, 256]).expect("values");
    let plain = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"];
    let mut compared = 0;
    for entry in entries.iter().filter(|entry| plain.contains(&entry.name.as_str())) {
        let mut theirs = vec![0; entry.dtype.bytes(3 * 256).expect("whole blocks")];
        file.read(entry.begin, &mut theirs).expect("bytes");
        assert!(encode(&values, entry.dtype).expect("bytes") == theirs, "{}", entry.name);
        compared += 1;
    }
    assert_eq!(compared, plain.len());
}
