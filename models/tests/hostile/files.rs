//! Damaged and hostile files of weights.

use crate::copy::copy;
use crate::support::edit;
use crate::{assert_mentions, refusal, transformer};
use candle_core::{DType, Device, Tensor};
use std::fs::File;
use std::io::Write;
use std::path::Path;

const NAME: &str = "diffusion_pytorch_model.safetensors";

/// A file with this header and this number of bytes of data.
fn file(json: &str, data: usize) -> Vec<u8> {
    [&(json.len() as u64).to_le_bytes(), json.as_bytes(), &vec![0; data]].concat()
}

/// The error of this file as the transformer's weights.
fn refused(bytes: &[u8]) -> String {
    let dir = copy();
    std::fs::write(transformer(dir.path()), bytes).expect("written");
    refusal(dir.path())
}

fn tensor(dtype: &str, shape: &str, from: u64, to: u64) -> String {
    format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}"#)
}

#[test]
fn wrong_headers_are_refused() {
    let four = tensor("F32", "[1]", 0, 4);
    let cases: &[(&str, String, usize, &str)] = &[
        (
            "overlap",
            format!(r#"{{"a":{four},"b":{}}}"#, tensor("F32", "[1]", 2, 6)),
            6,
            "overlap: b begins at byte 2",
        ),
        ("the same bytes", format!(r#"{{"a":{four},"b":{four}}}"#), 4, "overlap"),
        (
            "hole",
            format!(r#"{{"a":{four},"b":{}}}"#, tensor("F32", "[1]", 8, 12)),
            12,
            "hole: no tensor has the bytes 4 to 8",
        ),
        ("hole at the start", format!(r#"{{"a":{}}}"#, tensor("F32", "[1]", 4, 8)), 8, "hole"),
        (
            "cut",
            format!(r#"{{"a":{}}}"#, tensor("F32", "[1000]", 0, 4000)),
            3999,
            "have 4000 bytes, but only 3999",
        ),
        ("longer", format!(r#"{{"a":{four}}}"#), 5, "something follows the last"),
        (
            "beyond the file",
            format!(r#"{{"a":{}}}"#, tensor("U8", "[9000000000]", 0, 9_000_000_000)),
            4,
            "but only 4",
        ),
        ("backwards", format!(r#"{{"a":{}}}"#, tensor("F32", "[1]", 4, 0)), 4, "a"),
        (
            "too few bytes",
            format!(r#"{{"a":{}}}"#, tensor("F32", "[2]", 0, 4)),
            4,
            "a is F32 [2] in the bytes 0 to 4",
        ),
        ("half a byte", format!(r#"{{"a":{}}}"#, tensor("F4", "[1]", 0, 1)), 1, "a is F4 [1]"),
        (
            "product",
            format!(r#"{{"a":{}}}"#, tensor("F32", "[4294967296,4294967296]", 0, 0)),
            0,
            "4294967296",
        ),
        (
            "times size",
            format!(r#"{{"a":{}}}"#, tensor("F64", "[4611686018427387904]", 0, 0)),
            0,
            "46116860184273879",
        ),
        (
            "above u64",
            format!(r#"{{"a":{}}}"#, tensor("F32", "[36893488147419103232]", 0, 4)),
            4,
            "cannot be read",
        ),
        ("negative", format!(r#"{{"a":{}}}"#, tensor("F32", "[-1]", 0, 4)), 4, "cannot be read"),
        (
            "dimensions",
            format!(r#"{{"a":{}}}"#, tensor("F32", "[1,1,1,1,1,1,1,1,1]", 0, 4)),
            4,
            "9 dimensions",
        ),
        ("dtype", format!(r#"{{"a":{}}}"#, tensor("F33", "[1]", 0, 4)), 4, "F33"),
        ("twice", format!(r#"{{"a":{four},"a":{four}}}"#), 4, "a is there twice"),
        ("no object", "[]".into(), 0, "an object of tensors"),
        ("no JSON", "{\"a\":".into(), 0, "cannot be read"),
        ("more than JSON", format!(r#"{{"a":{four}}} {{}}"#), 4, "cannot be read"),
        ("no tensor", r#"{"a":7}"#.into(), 0, "cannot be read"),
        ("deep", format!("{{\"__metadata__\":{}", "[".repeat(100_000)), 0, "cannot be read"),
    ];
    for (case, json, data, words) in cases {
        assert_mentions(
            &format!("{case}: {}", refused(&file(json, *data))),
            &[NAME, words, "download it again"],
        );
    }
    let mut bytes = file(r#"{"a":{}}"#, 0);
    bytes[10] = 0xff;
    assert_mentions(&refused(&bytes), &[NAME, "cannot be read"]);
}

#[test]
fn wrong_header_lengths_are_refused() {
    for (length, words) in [
        (17_000_000u64, "claims 17000000 bytes, and no model's has more than"),
        (u64::MAX, "claims 18446744073709551615 bytes"),
        (1000, "claims 1000 bytes, but the whole file has 10"),
        (0, "cannot be read"),
    ] {
        let bytes = [&length.to_le_bytes()[..], b"{}"].concat();
        assert_mentions(&refused(&bytes), &[NAME, words, "download it again"]);
    }
    assert_mentions(&refused(b""), &[NAME, "too short to have a header"]);
    assert_mentions(&refused(&[1, 0, 0]), &[NAME, "too short to have a header"]);
}

/// The header really is that long: it is rejected by its length.
#[test]
fn a_huge_header_is_not_read() {
    let dir = copy();
    let mut weights = File::create(transformer(dir.path())).expect("a file");
    weights.write_all(&10_000_000_000u64.to_le_bytes()).expect("written");
    weights.write_all(b"{").expect("written");
    weights.set_len(12_000_000_000).expect("a sparse file");
    assert_mentions(&refusal(dir.path()), &[NAME, "claims 10000000000 bytes"]);
}

/// Names and shapes of a file in an error are shortened, and cannot add lines.
#[test]
fn a_long_name_is_cut_in_the_error() {
    let name = "é\\n".repeat(1_000_000);
    let one = tensor("F32", "[1]", 0, 4);
    let error = refused(&file(&format!(r#"{{"{name}":{one},"b":{one}}}"#), 4));
    assert_mentions(&error, &[NAME, "overlap", "é\\né\\n"]);
    assert!(error.len() < 1000);
    // So are quotations of the parser.
    let dtype = tensor(&"F\\n".repeat(1_000_000), "[1]", 0, 4);
    let error = refused(&file(&format!(r#"{{"a":{dtype}}}"#), 4));
    assert_mentions(&error, &[NAME, "cannot be read", "F\\nF\\n", "download it again"]);
    assert!(error.len() < 1000);
}

#[test]
fn a_truncated_file_is_reported() {
    let dir = copy();
    let path = transformer(dir.path());
    let bytes = std::fs::read(&path).expect("bytes");
    for (left, words) in [(bytes.len() - 1, "but only"), (200, "the whole file has 200"), (7, "too short")] {
        std::fs::write(&path, &bytes[..left]).expect("written");
        assert_mentions(&refusal(dir.path()), &[NAME, words, "download it again"]);
    }
}

#[test]
fn tensors_that_do_not_fit_are_listed() {
    let dir = copy();
    edit(&transformer(dir.path()), |tensors| {
        let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &Device::Cpu).expect("zeros");
        tensors.insert("proj_out.bias".into(), zeros(&[64], DType::I64));
        tensors.insert("norm_out.linear.bias".into(), zeros(&[0], DType::F32));
        tensors.insert("norm_out.linear.weight".into(), zeros(&[], DType::F32));
    });
    let error = refusal(dir.path());
    for words in [
        "wrong dtype: proj_out.bias is I64",
        "wrong shape: norm_out.linear.bias is [0]",
        "wrong shape: norm_out.linear.weight is []",
    ] {
        assert!(error.contains(words), "no \"{words}\" in: {error}");
    }
}

#[test]
fn pickles_are_named_in_the_error() {
    let zip = |name: &str| {
        [b"PK\x03\x04\x00\x00\x08\x08", &[0; 18][..], &[16, 0, 0, 0], name.as_bytes(), &[0; 64]].concat()
    };
    for pickle in [
        zip("archive/data.pkl"),
        b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01K\x01u.".to_vec(),
        b"\x80\x04\x95\x0a\x00\x00\x00\x00\x00\x00\x00}\x94.".to_vec(),
        b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.".to_vec(),
    ] {
        assert_mentions(
            &refused(&pickle),
            &[NAME, "is a pickle", "run the program inside it", ".safetensors file"],
        );
    }
    assert_mentions(&refused(&zip("notes.txt")), &[NAME, "zip archive"]);
}

#[test]
fn other_kinds_of_files_are_named_in_the_error() {
    for (bytes, words) in [
        (
            &b"GGUF\x03\x00\x00\x00\x00\x00\x00\x00"[..],
            "is no whole GGUF file, its header ends in the middle",
        ),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "is a web page"),
        (b"not weights at all, but a text", "download it again"),
    ] {
        assert_mentions(&refused(bytes), &[NAME, words]);
    }
}

/// The directory has only a pickle.
#[test]
fn a_pickle_instead_of_weights_is_named() {
    let dir = copy();
    std::fs::remove_file(transformer(dir.path())).expect("removed");
    assert_mentions(&refusal(dir.path()), &[NAME, "is missing"]);
    std::fs::write(dir.path().join("transformer/diffusion_pytorch_model.bin"), b"\x80\x02.")
        .expect("written");
    assert_mentions(
        &refusal(dir.path()),
        &[NAME, "diffusion_pytorch_model.bin", "pickle", "download the .safetensors"],
    );
}

#[test]
fn a_directory_device_pipe_or_broken_link_is_an_error() {
    let dir = copy();
    let path = transformer(dir.path());
    let put = |make: &dyn Fn(&Path)| {
        drop(std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir(&path)));
        make(&path);
        refusal(dir.path())
    };
    let link = |to: &'static str| move |path: &Path| std::os::unix::fs::symlink(to, path).expect("a link");
    assert_mentions(&put(&|path| std::fs::create_dir(path).expect("a directory")), &[NAME, "is a directory"]);
    assert_mentions(&put(&link("/dev/zero")), &[NAME, "is a device"]);
    assert_mentions(&put(&link(NAME)), &[NAME, "symbolic links"]);
    assert_mentions(&put(&link("nowhere")), &[NAME, "there is no such file"]);
    // Opening a pipe would block until a writer opens it.
    let made = std::process::Command::new("mkfifo").arg(dir.path().join("pipe")).status();
    if made.is_ok_and(|status| status.success()) {
        assert_mentions(&put(&link("../pipe")), &[NAME, "a pipe"]);
    }
}
