//! What fuzzers and the test of mutations do with a file; in no other build.

use super::rows::StoredTensor;
use super::source::PartFiles;
use crate::content::Content;
use crate::weight_file::{StoredEntry, StoredType, WeightFile, shown};
use candle_core::{DType, Device, Tensor};
use safetensors::SafeTensors;
use std::borrow::Cow;

/// What was made of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was opened, and so many of its tensors were read.
    Read(usize),
    /// It was refused.
    Refused,
}

/// Opens the bytes as a file of weights and reads all its tensors.
///
/// # Panics
/// The `safetensors` crate, which reads the whole file, sees other tensors, or refuses what was opened.
pub fn weights(bytes: &[u8]) -> Outcome {
    if bytes.starts_with(b"GGUF") {
        return gguf(bytes);
    }
    let theirs = SafeTensors::deserialize(bytes);
    let opened = WeightFile::new("fuzzed".into(), Content::Bytes(Cow::Owned(bytes.to_vec())));
    let (file, tensors) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let words = error.to_string();
            // These are rules of ours alone.
            let stricter =
                ["there twice", "dimensions", "no model's has more than", "more than can be counted"];
            assert!(theirs.is_err() || stricter.iter().any(|rule| words.contains(rule)), "{words}");
            assert!(words.chars().count() < 600 && !words.contains('\n'), "{words}");
            return Outcome::Refused;
        }
    };
    let theirs = theirs.expect("what is opened is a safetensors file");
    check_layer_formats(bytes);
    assert_eq!(tensors.len(), theirs.len());
    let names: Vec<String> = tensors.iter().map(|entry| entry.name.clone()).collect();
    let files = PartFiles::of(vec![(file, tensors)]).expect("one file has each name once");
    let mut read = 0;
    for name in names {
        let view = theirs.tensor(&name).expect("both have the same names");
        let stored = files.get(&name).expect("the name is from there");
        assert_eq!(
            (stored.dtype, &stored.shape[..]),
            (StoredType::Plain(view.dtype()), view.shape()),
            "{}",
            shown(&name)
        );
        if stored.dtype.is_readable() {
            read += 1;
            check_values(&files, stored, view.data());
        }
    }
    Outcome::Read(read)
}

/// With the types that the file says its layers have no tensor has other bytes than before, and all are read.
fn check_layer_formats(bytes: &[u8]) {
    let content = Content::Bytes(Cow::Owned(bytes.to_vec()));
    let (file, plain) = WeightFile::new("fuzzed".into(), content).expect("opened before");
    let formatted = match file.with_layer_formats(plain.clone()) {
        Ok(formatted) => formatted,
        Err(error) => {
            let words = error.to_string();
            assert!(words.chars().count() < 600 && !words.contains('\n'), "{words}");
            return;
        }
    };
    let bytes = |entry: &StoredEntry| entry.dtype.bytes(entry.shape.iter().product());
    assert!(plain.iter().map(bytes).eq(formatted.iter().map(bytes)));
    let files = PartFiles::of(vec![(file, formatted)]).expect("one file has each name once");
    for (_, stored) in files.tensors().filter(|(_, stored)| stored.dtype.is_readable()) {
        files.read(&[stored.all()], DType::F32, &Device::Cpu).expect("a tensor");
    }
}

/// The same with a GGUF file, for which there is no other reader that bears every file.
fn gguf(bytes: &[u8]) -> Outcome {
    let opened = WeightFile::new("fuzzed".into(), Content::Bytes(Cow::Owned(bytes.to_vec())));
    let opened = opened.and_then(|opened| PartFiles::of(vec![opened]));
    let files = match opened {
        Ok(files) => files,
        Err(error) => {
            let words = error.to_string();
            assert!(words.chars().count() < 900 && !words.contains('\n'), "{words}");
            return Outcome::Refused;
        }
    };
    let tensors: Vec<_> = files.tensors().map(|(_, stored)| stored).collect();
    for stored in &tensors {
        for dtype in [DType::F32, DType::BF16] {
            files.read(&[stored.all()], dtype, &Device::Cpu).expect("a tensor");
        }
    }
    Outcome::Read(tensors.len())
}

/// Reads a tensor in both precisions, and row by row; bits that need no conversion are the file's.
fn check_values(files: &PartFiles, stored: &StoredTensor, bytes: &[u8]) {
    let read = |dtype| files.read(&[stored.all()], dtype, &Device::Cpu).expect("a tensor");
    let values = |tensor: &Tensor| -> Vec<u32> {
        let flat = tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>()).expect("values");
        flat.into_iter().map(f32::to_bits).collect()
    };
    let (all, _) = (values(&read(DType::F32)), read(DType::BF16));
    if stored.dtype == StoredType::Plain(safetensors::Dtype::F32) {
        let bits: Vec<u32> = bytes
            .chunks_exact(4)
            .map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
            .collect();
        assert_eq!(all, bits);
    }
    let rows = stored.row_count();
    let halves = [stored.rows(rows / 2..rows), stored.rows(0..rows / 2)];
    let swapped = values(&files.read(&halves, DType::F32, &Device::Cpu).expect("rows"));
    let split = all.len().checked_div(rows).unwrap_or_default() * (rows / 2);
    assert_eq!(swapped, [&all[split..], &all[..split]].concat());
}
