//! NamingScheme and tokenizers against diffusers' and transformers' own (`tests/parity/export_checkpoint.py`).

use super::names::{NamingScheme, RowOrder, TensorLocation};
use super::tokenizers;
use crate::files::ModelFiles;
use crate::golden::json;
use crate::text::Tokenizer;
use serde_json::Value;
use std::collections::BTreeMap;

fn found(value: &Value) -> TensorLocation {
    let text = |index: usize| value[index].as_str().expect("a string");
    let order = match text(1) {
        "all" => RowOrder::All,
        "swapped" => RowOrder::Swapped,
        third => RowOrder::Third(third.parse().expect("a third")),
    };
    TensorLocation::Stored(text(0).into(), order)
}

/// Every tensor that diffusers' converters write is found where they read it; so no original one is left over.
#[test]
fn names_are_found_where_diffusers_reads_them() {
    let golden = json("checkpoint/names.json");
    let count = |key: &str| golden[key].as_u64().expect("a count") as usize;
    let parts =
        [("transformer", NamingScheme::Mmdit(count("blocks"))), ("vae", NamingScheme::Vae(count("levels")))];
    for (part, names) in parts {
        let tensors = golden[part].as_object().expect("names");
        assert!(tensors.len() > 100, "{part} has {}", tensors.len());
        for (name, place) in tensors {
            assert_eq!(names.find(name), found(place), "{name}");
        }
    }
}

#[test]
fn what_is_not_translated_keeps_its_name() {
    let same = |name: &str| TensorLocation::Stored(name.into(), RowOrder::All);
    for names in [NamingScheme::Same, NamingScheme::ClipL, NamingScheme::Mmdit(2), NamingScheme::Vae(4)] {
        for name in [
            "",
            "context_embedder.bias",
            "decoder.conv_in.weight",
            "decoder.up_blocks.9.resnets.0.norm1.bias",
        ] {
            assert_eq!(names.find(name), same(name), "{names:?}");
        }
    }
    assert_eq!(NamingScheme::ClipL.find("text_projection.weight"), TensorLocation::Identity);
    assert_eq!(NamingScheme::Same.find("text_projection.weight"), same("text_projection.weight"));
}

/// The tokenizers inside the program, as transformers reads the same ones.
#[test]
fn ids_of_the_real_vocabularies_equal_transformers() {
    let golden = json("checkpoint/tokenizers.json");
    let packed: Vec<(&'static str, &'static [u8])> = tokenizers::PATHS
        .iter()
        .map(|path| (*path, &*tokenizers::read(path).expect("packed").leak()))
        .collect();
    let files = ModelFiles::Embedded(packed.leak());
    let tokenizers = BTreeMap::from([
        ("clip_l", Tokenizer::clip(&files, "tokenizer").and_then(|clip| clip.fit(49408))),
        ("clip_g", Tokenizer::clip(&files, "tokenizer_2").and_then(|clip| clip.fit(49408))),
        ("t5", Tokenizer::json(&files, "tokenizer_3").and_then(|t5| t5.fit(32128))),
    ]);
    let strings = golden["strings"].as_array().expect("strings");
    assert!(strings.len() >= 200, "only {} strings", strings.len());
    for (name, tokenizer) in tokenizers {
        let tokenizer = tokenizer.expect(name);
        let length = golden["max_length"][name].as_u64().expect("a length") as usize;
        let pad = golden["pad"][name].as_u64().expect("a pad") as u32;
        let id = |value: &Value| value.as_u64().expect("an id") as u32;
        let texts: Vec<&str> =
            strings.iter().map(|string| string["text"].as_str().expect("a text")).collect();
        let ours = tokenizer.encode(&texts, length).expect("ids");
        for (string, ours) in strings.iter().zip(ours) {
            let mut theirs: Vec<u32> = string[name].as_array().expect("ids").iter().map(id).collect();
            theirs.resize(length, pad);
            assert_eq!(ours, theirs, "{name} of {}", string["text"]);
        }
    }
}

/// What is left out begins where the ids that are kept end: without it a text has the same ids but for the padding.
#[test]
fn what_a_long_text_loses_is_its_end() {
    let packed: Vec<(&'static str, &'static [u8])> = tokenizers::PATHS
        .iter()
        .map(|path| (*path, &*tokenizers::read(path).expect("packed").leak()))
        .collect();
    let files = ModelFiles::Embedded(packed.leak());
    let all = [
        (Tokenizer::clip(&files, "tokenizer"), 77),
        (Tokenizer::clip(&files, "tokenizer_2"), 77),
        (Tokenizer::json(&files, "tokenizer_3"), 77),
    ];
    let texts = [
        (1..=90).map(|number| format!("dog{number}, ")).collect::<String>(),
        "a red house by the lake, ".repeat(60),
        "Ein Café über dem Fluß — 庭の🦊 and more; ".repeat(12),
        "word ".repeat(80),
    ];
    for (tokenizer, length) in all {
        let tokenizer = tokenizer.expect("a tokenizer");
        for text in &texts {
            let dropped = tokenizer.dropped(text, length).expect("ids").expect("it is cut");
            let kept = text.trim_end().strip_suffix(&dropped).expect("the end").trim_end();
            let ids = |text: &str| tokenizer.encode(&[text], length).expect("ids").remove(0);
            let (whole, short) = (ids(text), ids(kept));
            // The last is the end of the text, of both.
            assert_eq!(whole, short, "{kept:?} without {dropped:?}");
            assert_eq!(tokenizer.dropped(kept, length).expect("ids"), None, "no more is left out");
        }
        assert_eq!(tokenizer.dropped("a red house", length).expect("ids"), None);
        assert_eq!(tokenizer.dropped("", length).expect("ids"), None);
    }
    let clip = Tokenizer::clip(&files, "tokenizer").expect("a tokenizer");
    let words = clip.dropped(&format!("{}the end", "word ".repeat(75)), 77).expect("ids");
    assert_eq!(words.as_deref(), Some("the end"));
}
