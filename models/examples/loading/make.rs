//! Writes a directory in the diffusers layout whose transformer has the names, shapes, dtype and shards of a published
//! one and random values, to measure loading: as fast as the disk allows and with little memory.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Differences between the published transformers, which have as many heads of 64 as blocks.
pub(crate) struct Sizes {
    pub(crate) blocks: usize,
    /// In units of heads.
    pub(crate) width: usize,
    /// Side of the position table.
    pub(crate) positions: usize,
    /// The first blocks, which have a second attention.
    pub(crate) dual: usize,
}

const HEAD: usize = 64;
/// Channels of T5, and of both CLIPs' pooled outputs.
const JOINT: usize = 4096;
const POOLED: usize = 2048;
const LATENT: usize = 16;
const PATCH: usize = 2;

/// Most bytes of a shard (diffusers' `max_shard_size`).
const SHARD: u64 = 10_000_000_000;

/// Number of repeated values: not a power of two, so that no two tensors begin with the same values.
const BLOCK: usize = 4_000_037;

/// Name and shape of a tensor.
type Named = (String, Vec<usize>);

/// Writes the directory; returns the bytes of the transformer's tensors.
///
/// # Errors
/// The disk is full, or cannot be written.
pub(crate) fn make(dir: &Path, sizes: &Sizes) -> io::Result<u64> {
    for part in ["transformer", "vae", "scheduler"] {
        std::fs::create_dir_all(dir.join(part))?;
    }
    let text = |path: &str, json: serde_json::Value| std::fs::write(dir.join(path), format!("{json:#}\n"));
    text("model_index.json", serde_json::json!({ "_class_name": "StableDiffusion3Pipeline" }))?;
    text("scheduler/scheduler_config.json", scheduler())?;
    text("vae/config.json", vae())?;
    text("transformer/config.json", transformer(sizes))?;
    let (shards, bytes) = split(tensors(sizes));
    let random = random();
    let mut map = serde_json::Map::new();
    for (number, shard) in shards.iter().enumerate() {
        let name = format!("diffusion_pytorch_model-{:05}-of-{:05}.safetensors", number + 1, shards.len());
        map.extend(shard.iter().map(|(tensor, _)| (tensor.clone(), name.clone().into())));
        write(&dir.join("transformer").join(name), shard, &random)?;
    }
    let index = serde_json::json!({ "metadata": { "total_size": bytes }, "weight_map": map });
    text("transformer/diffusion_pytorch_model.safetensors.index.json", index)?;
    Ok(bytes)
}

fn transformer(sizes: &Sizes) -> serde_json::Value {
    serde_json::json!({
        "_class_name": "SD3Transformer2DModel",
        "attention_head_dim": HEAD,
        "caption_projection_dim": sizes.width * HEAD,
        "dual_attention_layers": (0..sizes.dual).collect::<Vec<_>>(),
        "in_channels": LATENT,
        "joint_attention_dim": JOINT,
        "num_attention_heads": sizes.width,
        "num_layers": sizes.blocks,
        "out_channels": LATENT,
        "patch_size": PATCH,
        "pooled_projection_dim": POOLED,
        "pos_embed_max_size": sizes.positions,
        "qk_norm": "rms_norm",
        "sample_size": 128,
    })
}

fn vae() -> serde_json::Value {
    serde_json::json!({
        "_class_name": "AutoencoderKL",
        "block_out_channels": [128, 256, 512, 512],
        "in_channels": 3,
        "latent_channels": LATENT,
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "out_channels": 3,
        "scaling_factor": 1.5305,
        "shift_factor": 0.0609,
        "use_post_quant_conv": false,
        "use_quant_conv": false,
    })
}

fn scheduler() -> serde_json::Value {
    serde_json::json!({ "_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0 })
}

/// Every tensor of diffusers' `SD3Transformer2DModel`, in its order.
fn tensors(sizes: &Sizes) -> Vec<Named> {
    let mut all = Vec::new();
    let width = sizes.width * HEAD;
    all.push(("pos_embed.pos_embed".into(), vec![1, sizes.positions * sizes.positions, width]));
    all.push(("pos_embed.proj.weight".into(), vec![width, LATENT, PATCH, PATCH]));
    all.push(("pos_embed.proj.bias".into(), vec![width]));
    for (name, input) in [("timestep_embedder", 256), ("text_embedder", POOLED)] {
        linear(&mut all, &format!("time_text_embed.{name}.linear_1"), input, width);
        linear(&mut all, &format!("time_text_embed.{name}.linear_2"), width, width);
    }
    linear(&mut all, "context_embedder", JOINT, width);
    for index in 0..sizes.blocks {
        let last = index + 1 == sizes.blocks;
        block(&mut all, &format!("transformer_blocks.{index}"), width, index < sizes.dual, last);
    }
    linear(&mut all, "norm_out.linear", width, 2 * width);
    linear(&mut all, "proj_out", width, PATCH * PATCH * LATENT);
    all
}

fn block(all: &mut Vec<Named>, at: &str, width: usize, dual: bool, last: bool) {
    linear(all, &format!("{at}.norm1.linear"), width, if dual { 9 } else { 6 } * width);
    linear(all, &format!("{at}.norm1_context.linear"), width, if last { 2 } else { 6 } * width);
    let mut projections = vec!["to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj", "to_out.0"];
    projections.extend((!last).then_some("to_add_out"));
    for name in projections {
        linear(all, &format!("{at}.attn.{name}"), width, width);
    }
    for name in ["norm_q", "norm_k", "norm_added_q", "norm_added_k"] {
        all.push((format!("{at}.attn.{name}.weight"), vec![HEAD]));
    }
    if dual {
        for name in ["to_q", "to_k", "to_v", "to_out.0"] {
            linear(all, &format!("{at}.attn2.{name}"), width, width);
        }
        for name in ["norm_q", "norm_k"] {
            all.push((format!("{at}.attn2.{name}.weight"), vec![HEAD]));
        }
    }
    let context = (!last).then_some("ff_context");
    for name in ["ff"].into_iter().chain(context) {
        linear(all, &format!("{at}.{name}.net.0.proj"), width, 4 * width);
        linear(all, &format!("{at}.{name}.net.2"), 4 * width, width);
    }
}

fn linear(all: &mut Vec<Named>, at: &str, input: usize, output: usize) {
    all.push((format!("{at}.weight"), vec![output, input]));
    all.push((format!("{at}.bias"), vec![output]));
}

fn bytes((_, shape): &Named) -> u64 {
    2 * shape.iter().product::<usize>() as u64
}

/// Shards in the order of the tensors, each sorted by name as the `safetensors` package writes them; and all bytes.
fn split(tensors: Vec<Named>) -> (Vec<Vec<Named>>, u64) {
    let (mut shards, mut filled, mut all) = (vec![Vec::new()], 0, 0);
    for tensor in tensors {
        let size = bytes(&tensor);
        if filled + size > SHARD {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += size;
        all += size;
        shards.last_mut().expect("there is a first").push(tensor);
    }
    shards.iter_mut().for_each(|shard| shard.sort());
    (shards, all)
}

/// One safetensors file.
fn write(path: &Path, tensors: &[Named], random: &[u8]) -> io::Result<()> {
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    header.insert("__metadata__".into(), serde_json::json!({ "format": "pt" }));
    for tensor in tensors {
        let begin = end;
        end += bytes(tensor);
        let info = serde_json::json!({ "dtype": "BF16", "shape": tensor.1, "data_offsets": [begin, end] });
        header.insert(tensor.0.clone(), info);
    }
    let mut header = serde_json::Value::Object(header).to_string();
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    let mut left = end;
    while left > 0 {
        let piece = &random[..random.len().min(left as usize)];
        file.write_all(piece)?;
        left -= piece.len() as u64;
    }
    // Pages that are not written back would stay in the page cache when it is dropped.
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

/// Little-endian bf16 values of both signs, of the size of weights: 2^-9 to 2^-5.
fn random() -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)) as u16
    };
    (0..BLOCK).flat_map(|_| (0x3b00 | next() & 0x81ff).to_le_bytes()).collect()
}
