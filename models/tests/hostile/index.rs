//! Damaged and hostile shard indexes.

use crate::copy::copy;
use crate::{assert_mentions, refusal, transformer};
use std::path::{Path, PathBuf};

const NAME: &str = "diffusion_pytorch_model.safetensors.index.json";

/// A model whose transformer has this index, and `part.safetensors` as its only file of weights.
fn indexed(text: &str) -> tempfile::TempDir {
    let dir = copy();
    let folder = folder(dir.path());
    std::fs::rename(transformer(dir.path()), folder.join("part.safetensors")).expect("renamed");
    std::fs::write(folder.join(NAME), text).expect("written");
    dir
}

fn folder(dir: &Path) -> PathBuf {
    dir.join("transformer")
}

fn map(files: impl Iterator<Item = String>) -> String {
    let entries: Vec<_> = files.enumerate().map(|(n, file)| format!(r#""tensor{n}": "{file}""#)).collect();
    format!(r#"{{"weight_map": {{{}}}}}"#, entries.join(","))
}

#[test]
fn an_index_with_invalid_names_is_refused() {
    for (text, words) in [
        (
            map(["part.safetensors", "other.safetensors"].map(str::to_owned).into_iter()),
            "names other.safetensors, which is missing",
        ),
        (
            map(["../part.safetensors".to_owned()].into_iter()),
            "\"../part.safetensors\" is not a plain file name",
        ),
        (map(["/etc/passwd".to_owned()].into_iter()), "is not a plain file name"),
        (map(["..".to_owned()].into_iter()), "is not a plain file name"),
        (map(["\\u0000".to_owned()].into_iter()), "is not a plain file name"),
        (map([String::new()].into_iter()), "is not a plain file name"),
        (map(["x".repeat(1_000_000)].into_iter()), "which is missing"),
        (map(std::iter::empty()), "names no file"),
        (map((0..1000).map(|n| format!("{n}.safetensors"))), "names more than 128 files"),
        (r#"{"weight_map": {"a": 7}}"#.to_owned(), "expected a string"),
        (r#"{"weight_map": []}"#.to_owned(), "an object of tensors and their files"),
        ("{}".to_owned(), "weight_map"),
    ] {
        assert_mentions(&refusal(indexed(&text).path()), &[NAME, words]);
    }
}

/// Two shards with a tensor of the same name are ambiguous.
#[test]
fn a_tensor_in_two_shards_is_refused() {
    let dir = indexed(&map(["part.safetensors", "again.safetensors"].map(str::to_owned).into_iter()));
    let folder = folder(dir.path());
    std::fs::copy(folder.join("part.safetensors"), folder.join("again.safetensors")).expect("a copy");
    assert_mentions(&refusal(dir.path()), &["part.safetensors", "again.safetensors", "both have the tensor"]);
}

/// Only the index's file names are used, not its map of tensors.
#[test]
fn an_index_of_one_whole_shard_loads() {
    let dir = indexed(&map(["part.safetensors".to_owned()].into_iter()));
    let loaded = latentd_models::bench::DenoiseBench::load(&crate::source(dir.path()), &crate::OPTIONS);
    assert!(loaded.is_ok());
}

#[test]
fn a_shard_that_is_a_pickle_is_refused() {
    let dir = indexed(&map(["model.bin".to_owned()].into_iter()));
    std::fs::write(folder(dir.path()).join("model.bin"), b"\x80\x02}.").expect("written");
    assert_mentions(&refusal(dir.path()), &["model.bin is a pickle"]);
}
