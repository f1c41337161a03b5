//! Where a tensor of the diffusers layout lies in a file of the original layout.
//!
//! The truth is diffusers' own `single_file_utils.py`, which turns one into the other; here names are looked up in the
//! other direction, for the model asks by diffusers' names. All names are without the part's prefix.

use std::ops::Range;

/// A tensor that a file has, or stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TensorLocation {
    /// Rows of a stored tensor.
    Stored(String, RowOrder),
    /// Not in any file: the identity matrix.
    Identity,
}

/// Which rows of a stored tensor, and in what order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowOrder {
    /// All.
    All,
    /// This third of them: q, k or v.
    Third(usize),
    /// The second half before the first: the original has shift before scale where diffusers has scale before shift.
    Swapped,
}

impl RowOrder {
    /// The shape of the whole stored tensor, of whose rows `shape` are asked for.
    pub(crate) fn whole(self, shape: &[usize]) -> Vec<usize> {
        let mut whole = shape.to_vec();
        if let (Self::Third(_), Some(rows)) = (self, whole.first_mut()) {
            *rows = rows.saturating_mul(3);
        }
        whole
    }

    /// Which of so many stored rows, in their order.
    pub(crate) fn ranges(self, rows: usize) -> impl Iterator<Item = Range<usize>> {
        let (first, second) = match self {
            Self::All => (0..rows, None),
            Self::Third(index) => (index * rows / 3..(index + 1) * rows / 3, None),
            Self::Swapped => (rows / 2..rows, Some(0..rows / 2)),
        };
        std::iter::once(first).chain(second)
    }
}

/// The names of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NamingScheme {
    /// diffusers' or transformers' own.
    Same,
    /// Those of CLIP-L, whose pooled text SD3.5 does not project, whether the file has a projection or not.
    ClipL,
    /// The transformer's, of so many blocks.
    Mmdit(usize),
    /// The VAE's, of so many levels.
    Vae(usize),
    /// Those of Stability's ControlNets, whose blocks are the image's half of a transformer's
    /// (convert_sd3_controlnet_to_diffusers.py:71-138).
    ControlNet,
}

impl NamingScheme {
    /// Blocks of a transformer.
    pub(super) fn blocks(&self) -> usize {
        match self {
            Self::Mmdit(blocks) => *blocks,
            _ => 0,
        }
    }

    /// Where diffusers' tensor `name` is. A name that has no counterpart is looked for as it is.
    pub(crate) fn find(&self, name: &str) -> TensorLocation {
        let found = match self {
            Self::Same => None,
            Self::ClipL => (name == "text_projection.weight").then_some(TensorLocation::Identity),
            Self::Mmdit(blocks) => {
                mmdit(name, *blocks).map(|(name, rows)| TensorLocation::Stored(name, rows))
            }
            Self::Vae(levels) => vae(name, *levels).map(|name| TensorLocation::Stored(name, RowOrder::All)),
            Self::ControlNet => controlnet(name).map(|(name, rows)| TensorLocation::Stored(name, rows)),
        };
        found.unwrap_or_else(|| TensorLocation::Stored(name.to_owned(), RowOrder::All))
    }
}

/// What lies outside of the blocks.
const MMDIT: &[(&str, &str, RowOrder)] = &[
    ("pos_embed.proj", "x_embedder.proj", RowOrder::All),
    ("time_text_embed.timestep_embedder.linear_1", "t_embedder.mlp.0", RowOrder::All),
    ("time_text_embed.timestep_embedder.linear_2", "t_embedder.mlp.2", RowOrder::All),
    ("time_text_embed.text_embedder.linear_1", "y_embedder.mlp.0", RowOrder::All),
    ("time_text_embed.text_embedder.linear_2", "y_embedder.mlp.2", RowOrder::All),
    ("norm_out.linear", "final_layer.adaLN_modulation.1", RowOrder::Swapped),
    ("proj_out", "final_layer.linear", RowOrder::All),
];

/// What a block is made of.
const BLOCK: &[(&str, &str, RowOrder)] = &[
    ("attn.to_q", "x_block.attn.qkv", RowOrder::Third(0)),
    ("attn.to_k", "x_block.attn.qkv", RowOrder::Third(1)),
    ("attn.to_v", "x_block.attn.qkv", RowOrder::Third(2)),
    ("attn.add_q_proj", "context_block.attn.qkv", RowOrder::Third(0)),
    ("attn.add_k_proj", "context_block.attn.qkv", RowOrder::Third(1)),
    ("attn.add_v_proj", "context_block.attn.qkv", RowOrder::Third(2)),
    ("attn.norm_q", "x_block.attn.ln_q", RowOrder::All),
    ("attn.norm_k", "x_block.attn.ln_k", RowOrder::All),
    ("attn.norm_added_q", "context_block.attn.ln_q", RowOrder::All),
    ("attn.norm_added_k", "context_block.attn.ln_k", RowOrder::All),
    ("attn.to_out.0", "x_block.attn.proj", RowOrder::All),
    ("attn.to_add_out", "context_block.attn.proj", RowOrder::All),
    ("attn2.to_q", "x_block.attn2.qkv", RowOrder::Third(0)),
    ("attn2.to_k", "x_block.attn2.qkv", RowOrder::Third(1)),
    ("attn2.to_v", "x_block.attn2.qkv", RowOrder::Third(2)),
    ("attn2.norm_q", "x_block.attn2.ln_q", RowOrder::All),
    ("attn2.norm_k", "x_block.attn2.ln_k", RowOrder::All),
    ("attn2.to_out.0", "x_block.attn2.proj", RowOrder::All),
    ("norm1.linear", "x_block.adaLN_modulation.1", RowOrder::All),
    ("norm1_context.linear", "context_block.adaLN_modulation.1", RowOrder::All),
    ("ff.net.0.proj", "x_block.mlp.fc1", RowOrder::All),
    ("ff.net.2", "x_block.mlp.fc2", RowOrder::All),
    ("ff_context.net.0.proj", "context_block.mlp.fc1", RowOrder::All),
    ("ff_context.net.2", "context_block.mlp.fc2", RowOrder::All),
];

/// diffusers' names of the layers of a transformer of so many blocks, as far as such a transformer may have them.
pub(crate) fn transformer_layers(blocks: usize) -> impl Iterator<Item = String> {
    let outside = MMDIT.iter().map(|(name, ..)| (*name).to_owned()).chain(["context_embedder".to_owned()]);
    let inside =
        move |index| BLOCK.iter().map(move |(name, ..)| format!("transformer_blocks.{index}.{name}"));
    outside.chain((0..blocks).flat_map(inside))
}

fn mmdit(name: &str, blocks: usize) -> Option<(String, RowOrder)> {
    if name == "pos_embed.pos_embed" {
        return Some(("pos_embed".into(), RowOrder::All));
    }
    let (layer, leaf) = name.rsplit_once('.')?;
    let look = |table: &[(&str, &str, RowOrder)], layer: &str| {
        table
            .iter()
            .find(|(theirs, ..)| *theirs == layer)
            .map(|(_, stored, rows)| (format!("{stored}.{leaf}"), *rows))
    };
    let Some((index, layer)) =
        layer.strip_prefix("transformer_blocks.").and_then(|rest| rest.split_once('.'))
    else {
        return look(MMDIT, layer);
    };
    let (stored, rows) = look(BLOCK, layer)?;
    // The last block ends its text: its norm is diffusers' `AdaLayerNormContinuous`, as that of the output.
    let last = index.parse() == Ok(blocks.wrapping_sub(1));
    let rows = if last && layer == "norm1_context.linear" { RowOrder::Swapped } else { rows };
    Some((format!("joint_blocks.{index}.{stored}"), rows))
}

fn controlnet(name: &str) -> Option<(String, RowOrder)> {
    let (index, layer) = name.strip_prefix("transformer_blocks.")?.split_once('.')?;
    let (layer, leaf) = layer.rsplit_once('.')?;
    let (_, stored, rows) = BLOCK.iter().find(|(theirs, ..)| *theirs == layer)?;
    Some((format!("transformer_blocks.{index}.{}.{leaf}", stored.strip_prefix("x_block.")?), *rows))
}

/// Whether a tensor of a ControlNet in the original layout is one that diffusers reads; training left others in the files.
pub(super) fn is_of_controlnet(name: &str) -> bool {
    ["transformer_blocks.", "controlnet_blocks.", "time_text_embed.", "pos_embed_input.proj."]
        .iter()
        .any(|begin| name.starts_with(begin))
}

/// The other direction: the tensors of the diffusers layout that a stored tensor of a transformer with `blocks` blocks holds,
/// in the order of its rows. A name that has no counterpart stands for itself.
pub(crate) fn diffusers_parts(stored: &str, blocks: usize) -> Vec<(String, RowOrder)> {
    if stored == "pos_embed" {
        return vec![("pos_embed.pos_embed".into(), RowOrder::All)];
    }
    let whole = || vec![(stored.to_owned(), RowOrder::All)];
    let Some((layer, leaf)) = stored.rsplit_once('.') else { return whole() };
    let block = layer.strip_prefix("joint_blocks.").and_then(|rest| rest.split_once('.'));
    let (table, prefix, layer) = match block {
        Some((index, layer)) => (BLOCK, format!("transformer_blocks.{index}."), layer),
        None => (MMDIT, String::new(), layer),
    };
    let of_layer = table.iter().filter(|(_, stored, _)| *stored == layer);
    let named = of_layer.map(|(theirs, ..)| format!("{prefix}{theirs}.{leaf}"));
    let parts: Vec<_> =
        named.filter_map(|name| mmdit(&name, blocks).map(|(_, order)| (name, order))).collect();
    if parts.is_empty() { whole() } else { parts }
}

fn vae(name: &str, levels: usize) -> Option<String> {
    let (half, rest) = name.split_once('.').filter(|(half, _)| matches!(*half, "encoder" | "decoder"))?;
    let (layer, leaf) = rest.rsplit_once('.')?;
    let parts: Vec<&str> = layer.split('.').collect();
    let stored = match parts[..] {
        ["conv_norm_out"] => "norm_out".to_owned(),
        ["mid_block", "attentions", "0", ref rest @ ..] => format!("mid.attn_1.{}", attention(rest)?),
        ["mid_block", "resnets", index, layer] => {
            format!("mid.block_{}.{}", index.parse::<usize>().ok()? + 1, resnet(layer))
        }
        ["down_blocks", level, "resnets", index, layer] => {
            format!("down.{level}.block.{index}.{}", resnet(layer))
        }
        ["down_blocks", level, "downsamplers", "0", "conv"] => format!("down.{level}.downsample.conv"),
        ["up_blocks", level, "resnets", index, layer] => {
            format!("up.{}.block.{index}.{}", up(level, levels)?, resnet(layer))
        }
        ["up_blocks", level, "upsamplers", "0", "conv"] => format!("up.{}.upsample.conv", up(level, levels)?),
        _ => return None,
    };
    Some(format!("{half}.{stored}.{leaf}"))
}

/// The original counts the decoder's levels from the finest.
fn up(level: &str, levels: usize) -> Option<usize> {
    levels.checked_sub(1)?.checked_sub(level.parse().ok()?)
}

fn resnet(layer: &str) -> &str {
    if layer == "conv_shortcut" { "nin_shortcut" } else { layer }
}

fn attention(layer: &[&str]) -> Option<&'static str> {
    Some(match layer {
        ["group_norm"] => "norm",
        ["to_q"] => "q",
        ["to_k"] => "k",
        ["to_v"] => "v",
        ["to_out", "0"] => "proj_out",
        _ => return None,
    })
}
