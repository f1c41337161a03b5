//! The config files that a directory in the diffusers layout would have, from the shapes of a part's tensors.
//!
//! What no tensor shows is that of SD3.5: constants below.

use super::components::{Component, ComponentInFile, count};
use super::header::Header;
use super::names::NamingScheme;
use crate::Manifest;
use serde_json::{Value, json};

/// Width of an attention head where no norm of queries shows it (SD3), and of every CLIP's.
const HEAD: usize = 64;

/// `vae/config.json`.
const SCALING_FACTOR: f64 = 1.5305;
const SHIFT_FACTOR: f64 = 0.0609;
const NORM_GROUPS: usize = 32;

/// Shift of the noise schedule where the transformer is that of no published model.
const SHIFT: f64 = 3.0;

/// `scheduler/scheduler_config.json` of the published model with so many blocks.
pub(super) fn scheduler(blocks: usize) -> Value {
    let shift = Manifest::of_blocks(blocks).map_or(SHIFT, |manifest| manifest.shift);
    json!({ "num_train_timesteps": 1000, "shift": shift })
}

/// The `config.json` of a part.
///
/// # Errors
/// NamingScheme the tensor that is missing or has another number of dimensions.
pub(super) fn of(header: &Header, piece: &ComponentInFile) -> Result<Value, String> {
    let shapes = Shapes { header, prefix: &piece.prefix };
    match piece.part {
        Component::Transformer => transformer(&shapes, &piece.names),
        Component::Vae => vae(&shapes, &piece.names),
        Component::ClipL => clip(&shapes, "quick_gelu"),
        Component::ClipG => clip(&shapes, "gelu"),
        Component::T5 => t5(&shapes),
        Component::ControlNet => Err("a ControlNet is no part of a model".into()),
    }
}

struct Shapes<'a> {
    header: &'a Header,
    prefix: &'a str,
}

impl Shapes<'_> {
    fn has(&self, name: &str) -> bool {
        self.header.get(&format!("{}{name}", self.prefix)).is_some()
    }

    /// The shape of a tensor of `N` dimensions.
    fn of<const N: usize>(&self, name: &str) -> Result<[usize; N], String> {
        let name = format!("{}{name}", self.prefix);
        let shape = self.header.shape(&name).ok_or_else(|| format!("missing: {name}"))?;
        shape
            .try_into()
            .map_err(|_| format!("wrong shape: {name} is {shape:?}, it has {N} dimensions in SD3.5"))
    }
}

fn transformer(shapes: &Shapes, names: &NamingScheme) -> Result<Value, String> {
    let NamingScheme::Mmdit(blocks) = *names else { return Err("not in the original layout".into()) };
    let [width, joint] = shapes.of("context_embedder.weight")?;
    let [_, channels, patch, _] = shapes.of("x_embedder.proj.weight")?;
    let [outputs, _] = shapes.of("final_layer.linear.weight")?;
    let [_, pooled] = shapes.of("y_embedder.mlp.0.weight")?;
    let norms = shapes.has("joint_blocks.0.x_block.attn.ln_q.weight");
    let head = if norms { shapes.of::<1>("joint_blocks.0.x_block.attn.ln_q.weight")?[0] } else { HEAD };
    let positions = match shapes.of::<3>("pos_embed") {
        Ok([_, positions, _]) => positions,
        Err(_) => shapes.of::<2>("pos_embed")?[0],
    };
    let dual: Vec<usize> =
        (0..blocks).filter(|n| shapes.has(&format!("joint_blocks.{n}.x_block.attn2.qkv.weight"))).collect();
    Ok(json!({
        "num_layers": blocks,
        "attention_head_dim": head,
        "num_attention_heads": width / head.max(1),
        "caption_projection_dim": width,
        "joint_attention_dim": joint,
        "pooled_projection_dim": pooled,
        "patch_size": patch,
        "in_channels": channels,
        "out_channels": outputs / (patch * patch).max(1),
        "pos_embed_max_size": positions.isqrt(),
        "dual_attention_layers": dual,
        "qk_norm": norms.then_some("rms_norm"),
    }))
}

fn vae(shapes: &Shapes, names: &NamingScheme) -> Result<Value, String> {
    // Name of the resnet `index` at level `level`, counted from the finest.
    let (levels, resnet): (usize, Box<dyn Fn(usize, usize) -> String>) = match *names {
        NamingScheme::Vae(levels) => {
            (levels, Box::new(|level, index| format!("decoder.up.{level}.block.{index}")))
        }
        _ => {
            let name = |level, index| format!("decoder.up_blocks.{level}.resnets.{index}");
            let levels = count(|level| shapes.has(&format!("{}.norm1.weight", name(level, 0))));
            (levels, Box::new(move |level, index| name(levels.saturating_sub(1 + level), index)))
        }
    };
    let [_, latents, _, _] = shapes.of("decoder.conv_in.weight")?;
    let [outputs, _, _, _] = shapes.of("decoder.conv_out.weight")?;
    let inputs =
        if shapes.has("encoder.conv_in.weight") { shapes.of::<4>("encoder.conv_in.weight")?[1] } else { 3 };
    let width = |level| shapes.of::<1>(&format!("{}.norm2.weight", resnet(level, 0))).map(|[width]| width);
    let widths: Vec<usize> = (0..levels).map(width).collect::<Result<_, _>>()?;
    let resnets = count(|index| shapes.has(&format!("{}.norm1.weight", resnet(0, index))));
    let attention = ["decoder.mid.attn_1.norm.weight", "decoder.mid_block.attentions.0.group_norm.weight"];
    Ok(json!({
        "in_channels": inputs,
        "out_channels": outputs,
        "latent_channels": latents,
        "block_out_channels": widths,
        "layers_per_block": resnets.saturating_sub(1),
        "norm_num_groups": NORM_GROUPS,
        "scaling_factor": SCALING_FACTOR,
        "shift_factor": SHIFT_FACTOR,
        "use_quant_conv": shapes.has("quant_conv.weight"),
        "use_post_quant_conv": shapes.has("post_quant_conv.weight"),
        "mid_block_add_attention": attention.iter().any(|name| shapes.has(name)),
    }))
}

fn clip(shapes: &Shapes, act: &str) -> Result<Value, String> {
    let [vocabulary, width] = shapes.of("text_model.embeddings.token_embedding.weight")?;
    let [positions, _] = shapes.of("text_model.embeddings.position_embedding.weight")?;
    let [inner, _] = shapes.of("text_model.encoder.layers.0.mlp.fc1.weight")?;
    let layers = count(|n| shapes.has(&format!("text_model.encoder.layers.{n}.layer_norm1.weight")));
    let projected = act == "gelu";
    let projection = if projected { shapes.of::<2>("text_projection.weight")?[0] } else { width };
    Ok(json!({
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": width / HEAD,
        "max_position_embeddings": positions,
        "projection_dim": projection,
        "hidden_act": act,
    }))
}

fn t5(shapes: &Shapes) -> Result<Value, String> {
    let table = if shapes.has("shared.weight") { "shared.weight" } else { "encoder.embed_tokens.weight" };
    let [vocabulary, width] = shapes.of(table)?;
    let first = "encoder.block.0.layer.0.SelfAttention";
    let [buckets, heads] = shapes.of(&format!("{first}.relative_attention_bias.weight"))?;
    let [inner, _] = shapes.of(&format!("{first}.q.weight"))?;
    let gated = "encoder.block.0.layer.1.DenseReluDense.wi_0.weight";
    let is_gated = shapes.has(gated);
    let [mlp, _] =
        shapes.of(if is_gated { gated } else { "encoder.block.0.layer.1.DenseReluDense.wi.weight" })?;
    Ok(json!({
        "vocab_size": vocabulary,
        "d_model": width,
        "d_kv": inner / heads.max(1),
        "d_ff": mlp,
        "num_layers": count(|n| shapes.has(&format!("encoder.block.{n}.layer.0.SelfAttention.q.weight"))),
        "num_heads": heads,
        "relative_attention_num_buckets": buckets,
        "feed_forward_proj": if is_gated { "gated-gelu" } else { "relu" },
    }))
}
