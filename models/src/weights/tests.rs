//! Reading: conversions as torch makes them, rows in their places, files that change meanwhile, and mutated files.

use super::fuzzing::{Outcome, weights};
use super::source::{PartFiles, WeightSource};
use crate::content::Directory;
use crate::files::ModelFiles;
use candle_core::{DType, Device, Tensor};
use half::bf16;
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

/// The files of a directory as one part.
fn open(dir: &Path, names: &[&str]) -> PartFiles {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    PartFiles::open(&ModelFiles::Directory(Directory::new(dir)), &names).expect("files")
}

fn save(dir: &Path, name: &str, tensors: &[(&str, Tensor)]) {
    let tensors: HashMap<_, _> = tensors.iter().cloned().collect();
    candle_core::safetensors::save(&tensors, dir.join(name)).expect("saved");
}

/// `[rows, 3]`, the value of each element its number.
fn counted(rows: usize) -> Tensor {
    let values = (0..3 * rows).map(|value| value as f32).collect();
    Tensor::from_vec(values, (rows, 3), &Device::Cpu).expect("a tensor")
}

fn read(files: &PartFiles, name: &str, dtype: DType) -> Tensor {
    files.read(&[files.get(name).expect("a tensor").all()], dtype, &Device::Cpu).expect("values")
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().and_then(|flat| flat.to_vec1()).expect("values")
}

/// Every bit but those of NaNs, whose payload torch and we may choose.
#[test]
fn numbers_become_what_torch_makes_of_them() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/golden");
    let files = open(&golden, &["dtypes.safetensors"]);
    for stored in ["f8", "f8_e5m2", "f16", "bf16", "f32"] {
        let (ours, torch) =
            (read(&files, stored, DType::F32), read(&files, &format!("{stored}.as.f32"), DType::F32));
        let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
        let (ours, torch) = (floats(&ours), floats(&torch));
        assert!(
            ours.len() == torch.len() && ours.iter().zip(&torch).all(same),
            "{stored}: {ours:?} {torch:?}"
        );
        let halves = |tensor: Tensor| tensor.to_vec1::<bf16>().expect("values");
        let ours = halves(read(&files, stored, DType::BF16));
        let torch = halves(read(&files, &format!("{stored}.as.bf16"), DType::BF16));
        let same = |(a, b): (&bf16, &bf16)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
        assert!(
            ours.len() == torch.len() && ours.iter().zip(&torch).all(same),
            "{stored}: {ours:?} {torch:?}"
        );
    }
}

#[test]
fn rows_of_several_files_become_one_tensor() {
    let dir = tempfile::tempdir().expect("a directory");
    save(dir.path(), "one", &[("a", counted(10)), ("scalar", counted(1).sum_all().expect("a sum"))]);
    save(dir.path(), "two", &[("b", counted(4).to_dtype(DType::F16).expect("halves"))]);
    let files = open(dir.path(), &["one", "two"]);
    let [a, b] = ["a", "b"].map(|name| files.get(name).expect("a tensor"));
    let parts = [a.rows(8..10), b.all(), a.rows(0..1), a.rows(3..3)];
    let expected = [(24..30).collect::<Vec<u8>>(), (0..12).collect(), (0..3).collect()].concat();
    let expected: Vec<f32> = expected.into_iter().map(f32::from).collect();
    let whole = files.read(&parts, DType::F32, &Device::Cpu).expect("rows");
    assert_eq!((whole.dims(), floats(&whole)), (&[7, 3][..], expected.clone()));
    // As a GPU gets what is too much to be in host memory at once.
    for rows in 1..8 {
        let pieces = files.read_in_pieces(&parts, rows, DType::F32, &Device::Cpu).expect("rows");
        assert_eq!((pieces.dims(), floats(&pieces)), (&[7, 3][..], expected.clone()), "{rows} rows at once");
    }
    assert_eq!(floats(&read(&files, "scalar", DType::F32)), [3.0]);
    assert!(files.read(&[a.rows(9..11)], DType::F32, &Device::Cpu).is_err());
    assert!(
        files
            .read(&[a.all(), files.get("scalar").expect("a tensor").all()], DType::F32, &Device::Cpu)
            .is_err()
    );
}

/// Several threads read and convert parts of it.
#[test]
fn a_large_tensor_is_whole() {
    let dir = tempfile::tempdir().expect("a directory");
    let values: Vec<_> =
        (0..7_000_003u32).map(|value| half::f16::from_bits((value % 31_000) as u16)).collect();
    let expected: Vec<f32> = values.iter().map(|value| value.to_f32()).collect();
    save(dir.path(), "file", &[("a", Tensor::from_vec(values, 7_000_003, &Device::Cpu).expect("a tensor"))]);
    let files = open(dir.path(), &["file"]);
    assert!(floats(&read(&files, "a", DType::F32)) == expected);
    let halves = read(&files, "a", DType::BF16).to_vec1::<bf16>().expect("values");
    assert!(halves.iter().zip(&expected).all(|(half, value)| *half == bf16::from_f32(*value)));
}

/// A map of it would have ended the process.
#[test]
fn a_file_that_is_cut_while_it_is_open_is_one_error() {
    let dir = tempfile::tempdir().expect("a directory");
    save(dir.path(), "file", &[("a", counted(100_000))]);
    let files = open(dir.path(), &["file"]);
    File::options()
        .write(true)
        .open(dir.path().join("file"))
        .and_then(|file| file.set_len(5000))
        .expect("cut");
    let stored = files.get("a").expect("a tensor");
    let error =
        crate::Error::from(files.read(&[stored.all()], DType::BF16, &Device::Cpu).expect_err("an error"));
    let words = error.to_string();
    assert!(matches!(error, crate::Error::Model(_)), "{error:?}");
    assert!(words.contains("file became shorter while it was read") && !words.contains('\n'), "{words}");
    // What is still there is read.
    assert_eq!(
        floats(&files.read(&[stored.rows(0..1)], DType::F32, &Device::Cpu).expect("a row")),
        [0.0, 1.0, 2.0]
    );
}

#[test]
fn files_are_found_by_their_part_and_stem() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("part")).expect("a directory");
    save(&dir.path().join("part"), "stem.safetensors", &[("a", counted(1))]);
    let files = ModelFiles::Directory(Directory::new(dir.path()));
    let source = WeightSource::open(&files, "part", "stem").expect("a source");
    assert_eq!(source.names().collect::<Vec<_>>(), ["a"]);
    let error = WeightSource::open(&files, "part", "other").expect_err("nothing").to_string();
    assert!(error.contains("other.safetensors is missing"), "{error}");
}

/// It has no bytes, but strides that overflow.
#[test]
fn no_rows_of_absurd_length_are_refused() {
    let shape = [0u64, 1 << 40, 1 << 40];
    let header = format!(r#"{{"a":{{"dtype":"F16","shape":{shape:?},"data_offsets":[0,0]}}}}"#);
    let file = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    assert_eq!(weights(&file), Outcome::Refused);
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) % end as u64) as usize
    }
}

/// A header's words, to be put where they do not belong.
const WORDS: &[&str] = &[
    "0",
    "1",
    "-1",
    "9",
    "18446744073709551615",
    "1e99",
    "[]",
    "{}",
    "\"",
    ",",
    ":",
    "null",
    "F16",
    "BF16",
    "F8_E4M3",
    "F4",
    "__metadata__",
    "\"a\"",
    "shape",
    "dtype",
    "data_offsets",
    "\\u0000",
    "\u{e9}",
    "[0,0]",
];

fn mutate(file: &mut Vec<u8>, random: &mut Random) {
    let header = 8usize.saturating_add(u64::from_le_bytes(*file.first_chunk().expect("a length")) as usize);
    // Numbers may be anything; the rest is for the header.
    if random.below(3) == 0 && header < file.len() {
        let at = header + random.below(file.len() - header);
        file[at] = random.below(256) as u8;
        return;
    }
    let at = random.below(header.clamp(1, file.len()));
    match random.below(7) {
        0 => file[at] ^= 1 << random.below(8),
        1 => file[at] = random.below(256) as u8,
        2 => file[at] = b"0123456789[]{},:\""[random.below(17)],
        3 => drop(file.drain(at..(at + 1 + random.below(8)).min(file.len()))),
        4 => file.truncate(at),
        5 => {
            let word = WORDS[random.below(WORDS.len())].bytes();
            drop(file.splice(at..at, word));
        }
        _ => {
            let to = (at + 1 + random.below(40)).min(file.len());
            let copy = file[at..to].to_vec();
            let place = random.below(file.len());
            drop(file.splice(place..place, copy));
        }
    }
}

/// Half of the mutated files have their length put right, so that more than the length is looked at.
fn put_length_right(file: &mut [u8]) {
    let json = file.iter().rposition(|byte| *byte == b'}').unwrap_or(8);
    if let (Some(length), Some(place)) = ((json + 1).checked_sub(8), file.first_chunk_mut::<8>()) {
        *place = (length as u64).to_le_bytes();
    }
}

#[test]
fn mutated_files_are_read_or_refused() {
    let tensors: HashMap<_, _> = [
        ("a", counted(3)),
        ("b", counted(2).to_dtype(DType::F16).expect("halves")),
        ("c", counted(2).to_dtype(DType::BF16).expect("halves")),
        ("d", counted(2).to_dtype(DType::F8E4M3).expect("quarters")),
        ("e", counted(0)),
        ("f", Tensor::zeros((), DType::U8, &Device::Cpu).expect("a byte")),
    ]
    .into();
    let valid = safetensors::serialize(&tensors, None).expect("bytes");
    assert_eq!(weights(&valid), Outcome::Read(5));
    let mut random = Random(1);
    let mut read = 0;
    for case in 0..20_000 {
        let mut file = valid.clone();
        for _ in 0..=random.below(3) {
            if file.len() > 8 {
                mutate(&mut file, &mut random);
            }
        }
        if case % 2 == 0 {
            put_length_right(&mut file);
        }
        read += usize::from(matches!(weights(&file), Outcome::Read(_)));
    }
    // Both happen often, or the mutations test nothing.
    assert!((500..19_000).contains(&read), "{read} of 20,000 were read");
}

/// Each type's values are those of ggml's own package, in both precisions.
#[test]
fn every_type_of_gguf_is_read() {
    let folder = crate::golden::path("gguf");
    let values =
        candle_core::safetensors::load(folder.join("types.safetensors"), &Device::Cpu).expect("values");
    let file = PartFiles::file(&folder.join("types.gguf")).expect("a GGUF file");
    let mut read = 0;
    for (name, stored) in file.tensors() {
        let theirs = &values[name.as_str()];
        assert_eq!(stored.dtype.to_string(), *name);
        let ours = file.read(&[stored.all()], DType::F32, &Device::Cpu).expect("values");
        let error =
            (&ours - theirs).and_then(|x| x.abs()?.max_all()?.to_scalar::<f32>()).expect("a difference");
        let largest = theirs.abs().and_then(|x| x.max_all()?.to_scalar::<f32>()).expect("a value");
        // Products of two scales are rounded in another order.
        assert!(error <= 1e-6 * largest, "{name} is off by {error}, at most {largest}");
        let halves = [stored.rows(2..3), stored.rows(0..2)];
        let turned = file.read(&halves, DType::BF16, &Device::Cpu).expect("values");
        let expected =
            Tensor::cat(&[ours.narrow(0, 2, 1).expect("a row"), ours.narrow(0, 0, 2).expect("rows")], 0);
        let expected = expected.and_then(|x| x.to_dtype(DType::BF16)?.to_dtype(DType::F32)).expect("values");
        let turned = turned.to_dtype(DType::F32).expect("values");
        assert_eq!(
            turned.to_vec2::<f32>().expect("rows"),
            expected.to_vec2::<f32>().expect("rows"),
            "{name} in bf16, rows in another order"
        );
        read += 1;
    }
    assert_eq!(read, 13);
}

#[test]
fn mutated_layer_formats_are_read_or_refused() {
    let bytes = |bytes: &[u8]| Tensor::from_slice(bytes, bytes.len(), &Device::Cpu).expect("bytes");
    let tensors: HashMap<_, _> = [
        ("a.comfy_quant", bytes(br#"{"format": "nvfp4"}"#)),
        ("a.weight", Tensor::zeros((2, 8), DType::U8, &Device::Cpu).expect("zeros")),
        ("a.weight_scale", bytes(&[0x38; 8])),
        ("b.comfy_quant", bytes(br#"{"format": "mxfp8", "params": {"convrot": false}}"#)),
        ("b.weight", Tensor::zeros((1, 32), DType::F8E4M3, &Device::Cpu).expect("zeros")),
    ]
    .into();
    let layers = r#"{"layers": {"b": {"format": "float8_e4m3fn"}}}"#.to_owned();
    let metadata = HashMap::from([("_quantization_metadata".to_owned(), layers)]);
    let valid = safetensors::serialize(&tensors, Some(metadata)).expect("bytes");
    assert_eq!(weights(&valid), Outcome::Read(1), "the packed types are none of the header's own");
    let mut random = Random(3);
    for case in 0..10_000 {
        let mut file = valid.clone();
        for _ in 0..=random.below(2) {
            if file.len() > 8 {
                mutate(&mut file, &mut random);
            }
        }
        if case % 2 == 0 {
            put_length_right(&mut file);
        }
        weights(&file);
    }
}

#[test]
fn mutated_gguf_files_are_read_or_refused() {
    let valid = std::fs::read(crate::golden::path("gguf/types.gguf")).expect("a file");
    assert_eq!(weights(&valid), Outcome::Read(13));
    let mut random = Random(2);
    let (mut read, mut refused) = (0, 0);
    for _ in 0..10_000 {
        let mut file = valid.clone();
        for _ in 0..=random.below(3) {
            // The header is the first kilobyte or so.
            let at = random.below(1200);
            match random.below(4) {
                0 => file[at] = random.below(256) as u8,
                1 => file[at] ^= 1 << random.below(8),
                2 => file[at..at + 8]
                    .copy_from_slice(&[u64::MAX, 1 << 62, 0, 1][random.below(4)].to_le_bytes()),
                _ => file.truncate(1200 + random.below(file.len() - 1200)),
            }
        }
        match weights(&file) {
            Outcome::Read(_) => read += 1,
            Outcome::Refused => refused += 1,
        }
    }
    assert!(read > 500 && refused > 500, "{read} read, {refused} refused");
}
