//! Keys of each format, what is refused and in which words, and what stays in memory.

use super::*;
use crate::low_rank::{Network, Site, Slot};
use crate::target::Target;
use crate::{Error, Lora, Result};
use candle_core::{DType, Device, Tensor};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

const WIDTH: usize = 4;

/// A transformer of one block with a fused layer, one of three inputs and five outputs, and a CLIP-L.
fn networks() -> Vec<(Network, Vec<Site>)> {
    let site = |names: &[&str], input, output| Site {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        input,
        output,
        slot: Slot::default(),
    };
    let qkv = ["to_q", "to_k", "to_v"].map(|name| format!("transformer_blocks.0.attn.{name}"));
    let qkv = qkv.each_ref().map(String::as_str);
    let transformer =
        vec![site(&qkv, WIDTH, WIDTH), site(&["proj_out"], 3, 5), site(&["norm_out.linear"], 2, 4)];
    let clip = vec![site(&["text_model.encoder.layers.0.mlp.fc1"], 2, 2)];
    vec![(Network::Transformer, transformer), (Network::ClipL, clip)]
}

fn layers() -> AdaptedLayers {
    AdaptedLayers::new(networks(), &Target::host(), LEAST)
}

fn store(layers: &AdaptedLayers, limit: u64) -> AdapterStore {
    AdapterStore::new(LayerMap::new(layers.networks(), 1), DType::F32, limit)
}

fn counted(rows: usize, columns: usize) -> Tensor {
    let values = (1..=rows * columns).map(|value| value as f32).collect();
    Tensor::from_vec(values, (rows, columns), &Device::Cpu).expect("a tensor")
}

fn write(path: &Path, tensors: &[(&str, Tensor)]) {
    let tensors: HashMap<&str, Tensor> = tensors.iter().cloned().collect();
    candle_core::safetensors::save(&tensors, path).expect("a file");
}

/// What a file of these tensors is refused with.
fn refusal(tensors: &[(&str, Tensor)]) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("a.safetensors");
    write(&path, tensors);
    refused(&path)
}

fn refused(path: &Path) -> String {
    let error = store(&layers(), LEAST).set(&[lora(path, 1.0)]).expect_err("it is refused");
    assert!(matches!(error, Error::Adapter(_)), "{error:?}");
    error.to_string()
}

fn lora(path: &Path, scale: f64) -> Lora {
    Lora { path: path.to_owned(), scale }
}

fn matrix(tensor: &Tensor) -> Vec<Vec<f32>> {
    tensor.to_vec2().expect("a matrix")
}

/// `up down` of a layer.
fn delta(layers: &AdaptedLayers, number: usize) -> Option<Vec<Vec<f32>>> {
    let (_, sites) = layers.networks().next().expect("the transformer");
    let low_rank = sites[number].slot.get()?;
    Some(matrix(&low_rank.up.matmul(&low_rank.down).expect("a product")))
}

#[test]
fn every_problem_is_in_one_error() {
    let words = refusal(&[
        ("transformer.proj_out.lora_A.weight", counted(2, 4)),
        ("transformer.proj_out.lora_B.weight", counted(5, 2)),
        ("transformer.norm_out.linear.lora_A.weight", counted(2, 2)),
        ("transformer.elsewhere.lora_A.weight", counted(2, 3)),
        ("transformer.elsewhere.lora_B.weight", counted(2, 3)),
        ("lora_te3_encoder_block_0_layer_0_SelfAttention_q.alpha", counted(1, 1)),
        ("noise", counted(1, 1)),
    ]);
    for expected in [
        "a.safetensors: it does not fit this model\n",
        "unknown: noise\n",
        "unknown: transformer.elsewhere.lora_A.weight",
        "wrong shape: transformer.proj_out.lora_A.weight is [2, 4], this model has [rank, 3]",
        "incomplete: transformer.norm_out.linear.lora_A.weight has no up (B) matrix",
        "it changes T5, without which this model runs: lora_te3_encoder_block_0_layer_0_SelfAttention_q.alpha",
    ] {
        assert!(words.contains(expected), "{expected}: {words}");
    }
    assert_eq!(words.lines().count(), 6, "{words}");
}

#[test]
fn a_rank_that_differs_between_both_matrices_is_refused() {
    let words =
        refusal(&[("proj_out.lora_A.weight", counted(2, 3)), ("proj_out.lora_B.weight", counted(5, 3))]);
    assert!(
        words.contains("wrong shape: proj_out.lora_B.weight is [5, 3], this model has [5, 2]"),
        "{words}"
    );
}

#[test]
fn other_kinds_are_named() {
    let pair = |module: &str, more: &str| {
        let (down, up) = (format!("{module}.lora_A.weight"), format!("{module}.lora_B.weight"));
        let more = format!("{module}.{more}");
        refusal(&[(&down, counted(2, 3)), (&up, counted(5, 2)), (&more, counted(1, 1))])
    };
    assert!(pair("proj_out", "lora_magnitude_vector").contains("it is DoRA"));
    assert!(pair("proj_out", "dora_scale").contains("it is DoRA"));
    assert!(pair("proj_out", "hada_w1_a").contains("it is LoHa"));
    assert!(
        pair("lora_unet_down_blocks_0_attentions_0", "alpha")
            .contains("made for Stable Diffusion 1, 2 or XL")
    );
    assert!(pair("transformer.single_transformer_blocks.0.attn.to_q", "alpha").contains("made for FLUX"));
}

#[test]
fn what_is_no_weight_file_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        refused(&path)
    };
    assert!(file("pickle", &[0x80, 2, 0x7d, b'q']).contains("pickle: it is a pickle"));
    let huge = [&(50u64 << 30).to_le_bytes()[..], b"{\"a\":"].concat();
    let words = file("huge", &huge);
    assert!(words.contains("its header claims 53687091200 bytes"), "{words}");
    let whole = dir.path().join("whole");
    write(&whole, &[("proj_out.lora_A.weight", counted(2, 3)), ("proj_out.lora_B.weight", counted(5, 2))]);
    let bytes = std::fs::read(&whole).expect("bytes");
    let words = file("cut", &bytes[..bytes.len() - 8]);
    assert!(words.contains("it is no whole safetensors file"), "{words}");
    assert!(refused(&dir.path().join("nothing")).contains("there is no such file"));
    assert!(refused(dir.path()).contains("it is a directory"));
    write(&whole, &[("proj_out.lora_A.weight", (counted(2, 3) / 0.0).expect("infinity"))]);
    assert!(refused(&whole).contains("incomplete"));
    write(
        &whole,
        &[
            ("proj_out.lora_A.weight", (counted(2, 3) / 0.0).expect("infinity")),
            ("proj_out.lora_B.weight", counted(5, 2)),
        ],
    );
    assert!(refused(&whole).contains("numbers that are not finite"));
}

#[test]
fn fused_and_single_projections_are_summed_in_their_rows() -> Result<()> {
    let dir = tempfile::tempdir().expect("a directory");
    let [fused, single] = ["fused", "single"].map(|name| dir.path().join(name));
    write(
        &fused,
        &[
            ("lora_unet_joint_blocks_0_x_block_attn_qkv.lora_down.weight", counted(1, WIDTH)),
            ("lora_unet_joint_blocks_0_x_block_attn_qkv.lora_up.weight", counted(3 * WIDTH, 1)),
            ("lora_unet_joint_blocks_0_x_block_attn_qkv.alpha", counted(1, 1)),
            ("lora_unet_final_layer_adaLN_modulation_1.lora_down.weight", counted(1, 2)),
            ("lora_unet_final_layer_adaLN_modulation_1.lora_up.weight", counted(4, 1)),
        ],
    );
    let ones = |rows, columns| Tensor::ones((rows, columns), DType::F32, &Device::Cpu).expect("ones");
    write(
        &single,
        &[
            ("transformer.transformer_blocks.0.attn.to_v.lora_A.weight", ones(2, WIDTH)),
            ("transformer.transformer_blocks.0.attn.to_v.lora_B.weight", ones(WIDTH, 2)),
        ],
    );
    let mut layers = layers();
    let mut store = store(&layers, LEAST);
    layers.apply(&store.set(&[lora(&fused, 2.0), lora(&single, 0.5)])?)?;
    let qkv = delta(&layers, 0).expect("q, k and v");
    for (row, values) in qkv.iter().enumerate() {
        let (product, of_v) = (2.0 * (row + 1) as f32, if row >= 2 * WIDTH { 1.0 } else { 0.0 });
        let expected: Vec<f32> = (1..=WIDTH).map(|column| product * column as f32 + of_v).collect();
        assert_eq!(values, &expected, "row {row}");
    }
    assert_eq!(delta(&layers, 1), None);
    let swapped = delta(&layers, 2).expect("the last norm");
    assert_eq!(swapped, [[6.0, 12.0], [8.0, 16.0], [2.0, 4.0], [4.0, 8.0]], "scale before shift");
    layers.apply(&AdapterSet::default())?;
    assert_eq!((delta(&layers, 0), delta(&layers, 2)), (None, None));
    Ok(())
}

/// A captured step reads tensors where they are: their values change, and they stay.
#[test]
fn sets_of_the_same_ranks_use_the_same_tensors() -> Result<()> {
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str, rank: usize| {
        let path = dir.path().join(name);
        let (down, up) = (counted(rank, 3), counted(5, rank));
        write(&path, &[("proj_out.lora_A.weight", down), ("proj_out.lora_B.weight", up)]);
        path
    };
    let (two, other, three) = (file("two", 2), file("other", 2), file("three", 3));
    let mut layers = layers();
    let mut store = store(&layers, LEAST);
    let mut apply = |path: &PathBuf, scale: f64| -> Result<(u64, Tensor)> {
        let layout = layers.apply(&store.set(&[lora(path, scale)])?)?;
        let (_, sites) = layers.networks().next().expect("the transformer");
        Ok((layout, sites[1].slot.get().expect("a product").up))
    };
    let (first, first_up) = apply(&two, 1.0)?;
    assert_eq!(matrix(&first_up), matrix(&counted(5, 2)));
    let (second, _) = apply(&other, 2.0)?;
    assert_eq!(second, first);
    assert_eq!(matrix(&first_up), matrix(&(counted(5, 2) * 2.0)?), "written where it was");
    let (third, _) = apply(&three, 1.0)?;
    assert_ne!(third, first);
    let (again, up) = apply(&two, 0.5)?;
    assert_eq!((again, matrix(&up)), (first, matrix(&first_up)));
    layers.forget();
    assert_eq!(delta(&layers, 1), None);
    let layout = layers.apply(&store.set(&[lora(&two, 1.0)])?)?;
    assert!(layout > third, "a number is never used for other tensors");
    Ok(())
}

#[test]
fn memory_is_bounded() -> Result<()> {
    let dir = tempfile::tempdir().expect("a directory");
    let paths: Vec<_> = (0..3).map(|index| dir.path().join(index.to_string())).collect();
    for path in &paths {
        write(path, &[("proj_out.lora_A.weight", counted(2, 3)), ("proj_out.lora_B.weight", counted(5, 2))]);
    }
    let bytes = 4 * 2 * (3 + 5);
    let layers = layers();
    let mut store = store(&layers, 2 * bytes);
    let all: Vec<_> = paths.iter().map(|path| lora(path, 1.0)).collect();
    assert!(store.set(&all[..2]).is_ok());
    let error = store.set(&all).expect_err("three are too much").to_string();
    assert!(error.contains("use a lower rank"), "{error}");
    assert!(store.kept_bytes() <= 2 * bytes);
    assert!(super::limit(0, 4) == LEAST && super::limit(1 << 40, 2) == 1 << 37);
    let many = vec![lora(&paths[0], 1.0); 33];
    assert!(store.set(&many).expect_err("too many").to_string().contains("33 LoRAs"));
    Ok(())
}

/// A file that was written anew is read anew.
#[test]
fn a_file_that_changed_is_another() -> Result<()> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("a");
    let mut layers = layers();
    let mut store = store(&layers, LEAST);
    for rank in [1, 2] {
        write(
            &path,
            &[("proj_out.lora_A.weight", counted(rank, 3)), ("proj_out.lora_B.weight", counted(5, rank))],
        );
        layers.apply(&store.set(&[lora(&path, 1.0)])?)?;
        let expected = matrix(&counted(5, rank).matmul(&counted(rank, 3))?);
        assert_eq!(delta(&layers, 1).expect("a product"), expected);
    }
    Ok(())
}
