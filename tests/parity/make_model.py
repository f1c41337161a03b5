"""Write a tiny random Stable Diffusion 3.5 pipeline in the diffusers directory layout.

    python make_model.py DIR [--heads 3 --head-dim 16 --depth 2 ...]
    python make_model.py DIR --bench          a model of realistic shape for timing on CPUs

Every parameter is random, norms and biases too, so that an implementation that skips, swaps or
mis-orders one of them generates another image. Weights keep activations near unit size, and the last
VAE layer is scaled until the decoded image has a standard deviation of 0.45 in [-1, 1].

Versions: torch 2.9.1, diffusers 0.42.1, transformers 5.23.0, tokenizers 0.23.3, sentencepiece 0.2.3.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import shutil
import zlib

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

import make_tokenizers as tok

torch.set_num_threads(2)


@dataclasses.dataclass(frozen=True)
class Clip:
    """Sizes of one CLIP text encoder."""

    hidden: int
    heads: int
    layers: int
    mlp: int
    projection: int


@dataclasses.dataclass(frozen=True)
class T5:
    """Sizes of the T5 encoder; its width is the transformer's joint_attention_dim."""

    heads: int
    head_dim: int
    layers: int
    mlp: int


@dataclasses.dataclass(frozen=True)
class Options:
    """The architecture of a random model."""

    seed: int = 0
    # Transformer.
    heads: int = 3
    head_dim: int = 8
    depth: int = 2
    qk_norm: bool = True
    dual: tuple[int, ...] = ()
    pos_embed_max_size: int = 24
    sample_size: int = 32
    noisy_pos_embed: bool = True
    joint_dim: int = 48
    # Text encoders.
    clip_l: Clip = Clip(hidden=16, heads=2, layers=2, mlp=32, projection=16)
    clip_g: Clip = Clip(hidden=24, heads=4, layers=3, mlp=48, projection=24)
    t5: T5 | None = T5(heads=3, head_dim=8, layers=2, mlp=64)
    clip_merges: int = 120
    t5_vocab: int = 400
    t5_extra_ids: int = 20
    full_t5_rules: bool = False
    clip_json: bool = False
    # The real CLIP configs still have eos_token_id 2, which means "the highest id"; newer ones name the token.
    legacy_eos: bool = True
    # VAE and scheduler.
    vae_channels: tuple[int, ...] = (8, 8, 12, 12)
    vae_layers: int = 1
    norm_groups: int = 4
    latent_channels: int = 16
    scaling_factor: float = 1.5305
    shift_factor: float = 0.0609
    shift: float = 3.0
    # Storage.
    dtype: str = "f32"  # f32, f16, or mixed: encoders f16, transformer and VAE bf16
    shard: str | None = None  # of the transformer, as "500KB"
    shard_t5: str | None = None


BENCH = Options(
    seed=1,
    heads=4,
    head_dim=64,
    depth=6,
    joint_dim=512,
    clip_l=Clip(192, 3, 6, 768, 192),
    clip_g=Clip(256, 4, 8, 1024, 256),
    t5=T5(8, 64, 6, 1024),
    pos_embed_max_size=96,
    sample_size=128,
    vae_channels=(32, 64, 128, 128),
    vae_layers=2,
    norm_groups=16,
)


def randomise(module: torch.nn.Module, prefix: str, seed: int) -> None:
    """Give every parameter a value of its own, drawn from a generator seeded by its name."""
    t5 = isinstance(module, T5EncoderModel)
    with torch.no_grad():
        for name, value in module.named_parameters():
            generator = torch.Generator().manual_seed(zlib.crc32(f"{prefix}.{name}".encode()) ^ (seed * 2654435761 % 2**32))
            if value.ndim == 1:
                # A norm's weights are around 1, all other vectors around 0.
                uniform = torch.rand(value.shape, generator=generator) * 2 - 1
                value.copy_(1 + 0.3 * uniform if name.endswith("weight") else 0.2 * uniform)
                continue
            normal = torch.randn(value.shape, generator=generator)
            table = any(word in name for word in ("_embedding", "shared", "relative_attention_bias"))
            scale = 1.0 if table else value[0].numel() ** -0.5
            if t5 and name.endswith(".q.weight"):
                scale *= module.config.d_kv**-0.5  # T5 has no 1/sqrt(d) in its attention.
            if "net.2" in name or "fc2" in name or "wo.weight" in name or "to_out" in name:
                scale *= 1.4  # Compensates for the activation before it.
            value.copy_(normal * scale)


def tokenizers(directory: pathlib.Path, o: Options) -> dict:
    """Write the tokenizers; return their data for the configs."""
    vocab = tok.write_clip(directory / "tokenizer", tok.EOS, o.clip_merges, o.clip_json)
    tok.write_clip(directory / "tokenizer_2", "!", o.clip_merges, o.clip_json)
    info = {"clip_vocab": len(vocab), "bos": vocab[tok.BOS], "eos": vocab[tok.EOS]}
    if o.t5:
        length = tok.write_t5(directory / "tokenizer_3", o.t5_vocab, o.t5_extra_ids, o.full_t5_rules)
        info["t5_vocab"] = length + 4  # The real table is longer than its tokenizer too: 32128 rows, 32100 tokens.
    return info


def clip(c: Clip, info: dict, act: str, legacy_eos: bool) -> CLIPTextModelWithProjection:
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=info["clip_vocab"],
            hidden_size=c.hidden,
            intermediate_size=c.mlp,
            projection_dim=c.projection,
            num_hidden_layers=c.layers,
            num_attention_heads=c.heads,
            hidden_act=act,
            max_position_embeddings=77,
            pad_token_id=1,
            bos_token_id=0 if legacy_eos else info["bos"],
            eos_token_id=2 if legacy_eos else info["eos"],
        )
    )


def t5_encoder(o: Options, info: dict) -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(
            vocab_size=info["t5_vocab"],
            d_model=o.joint_dim,
            d_kv=o.t5.head_dim,
            d_ff=o.t5.mlp,
            num_layers=o.t5.layers,
            num_heads=o.t5.heads,
            relative_attention_num_buckets=32,
            relative_attention_max_distance=128,
            feed_forward_proj="gated-gelu",
            tie_word_embeddings=False,
        )
    )


def networks(o: Options, info: dict) -> dict[str, torch.nn.Module | None]:
    """The networks, with the weights that torch initialises them with; `info` is what `tokenizers` returns."""
    return {
        "text_encoder": clip(o.clip_l, info, "quick_gelu", o.legacy_eos),
        "text_encoder_2": clip(o.clip_g, info, "gelu", o.legacy_eos),
        "text_encoder_3": t5_encoder(o, info) if o.t5 else None,
        "transformer": SD3Transformer2DModel(
            sample_size=o.sample_size,
            patch_size=2,
            in_channels=o.latent_channels,
            out_channels=o.latent_channels,
            num_layers=o.depth,
            attention_head_dim=o.head_dim,
            num_attention_heads=o.heads,
            joint_attention_dim=o.joint_dim,
            caption_projection_dim=o.heads * o.head_dim,
            pooled_projection_dim=o.clip_l.projection + o.clip_g.projection,
            pos_embed_max_size=o.pos_embed_max_size,
            dual_attention_layers=o.dual,
            qk_norm="rms_norm" if o.qk_norm else None,
        ),
        "vae": AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * len(o.vae_channels),
            up_block_types=("UpDecoderBlock2D",) * len(o.vae_channels),
            block_out_channels=o.vae_channels,
            layers_per_block=o.vae_layers,
            latent_channels=o.latent_channels,
            norm_num_groups=o.norm_groups,
            sample_size=256,
            scaling_factor=o.scaling_factor,
            shift_factor=o.shift_factor,
            use_quant_conv=False,
            use_post_quant_conv=False,
            force_upcast=True,
        ),
    }


def build(directory: pathlib.Path, o: Options) -> StableDiffusion3Pipeline:
    """The pipeline in memory, with random weights; its tokenizers are already in `directory`."""
    parts = networks(o, tokenizers(directory, o))
    for name, part in parts.items():
        if part is not None:
            randomise(part.eval(), name, o.seed)
    if o.noisy_pos_embed:
        table = parts["transformer"].pos_embed.pos_embed
        table += 0.2 * torch.randn(table.shape, generator=torch.Generator().manual_seed(o.seed))
    pipe = StableDiffusion3Pipeline(
        **parts,
        tokenizer=CLIPTokenizer.from_pretrained(directory / "tokenizer"),
        tokenizer_2=CLIPTokenizer.from_pretrained(directory / "tokenizer_2"),
        tokenizer_3=T5TokenizerFast.from_pretrained(directory / "tokenizer_3") if o.t5 else None,
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=o.shift),
    )
    pipe.set_progress_bar_config(disable=True)
    add_contrast(pipe)
    return pipe


def add_contrast(pipe: StableDiffusion3Pipeline) -> None:
    """Scale the VAE's last layer until a sample image has a standard deviation of 0.45."""
    side = 8 * 2 ** (len(pipe.vae.config.block_out_channels) - 1)
    generator = torch.Generator().manual_seed(1)
    latents = pipe(
        "a cat", height=side, width=side, num_inference_steps=3, guidance_scale=4.0, generator=generator,
        output_type="latent",
    ).images  # fmt: skip
    with torch.no_grad():
        config = pipe.vae.config
        image = pipe.vae.decode(latents / config.scaling_factor + config.shift_factor).sample
        # Rounded, so that the files do not depend on the last bits of a sum.
        scale = float(f"{0.45 / (image - image.mean((0, 2, 3), keepdim=True)).std():.2g}")
        pipe.vae.decoder.conv_out.weight *= scale


def write(directory: pathlib.Path, o: Options) -> None:
    """Write the model directory, replacing an existing one."""
    directory = pathlib.Path(directory)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    pipe = build(directory, o)
    encoders = [e for e in (pipe.text_encoder, pipe.text_encoder_2, pipe.text_encoder_3) if e is not None]
    if o.dtype != "f32":
        for part in encoders:
            part.to(torch.float16)
        for part in (pipe.transformer, pipe.vae):
            part.to(torch.bfloat16 if o.dtype == "mixed" else torch.float16)
    for name in ("text_encoder", "text_encoder_2", "text_encoder_3", "transformer", "vae", "scheduler"):
        part = getattr(pipe, name)
        if part is None:
            continue
        shard = {"transformer": o.shard, "text_encoder_3": o.shard_t5}.get(name)
        part.save_pretrained(directory / name, **({"max_shard_size": shard} if shard else {}))
    library = {"transformer": "diffusers", "vae": "diffusers", "scheduler": "diffusers"}
    index = {"_class_name": "StableDiffusion3Pipeline", "_diffusers_version": "0.29.0.dev0"}
    for name, part in sorted(pipe.components.items()):
        kind = type(part).__name__
        kind = "T5TokenizerFast" if name == "tokenizer_3" else kind  # The real file's name for it.
        index[name] = [None, None] if part is None else [library.get(name, "transformers"), kind]
    tok.dump(directory / "model_index.json", index)
    for path in directory.rglob("*.safetensors"):
        path.chmod(0o644)
    for path in directory.glob("*/*config.json"):
        text = path.read_text(encoding="utf-8")
        assert "/tmp" not in text and str(directory.parent) not in text, f"{path} names a path of this machine"


def load(directory: pathlib.Path, dtype: torch.dtype = torch.float32) -> StableDiffusion3Pipeline:
    """The pipeline of a directory, quiet and on the CPU."""
    index = json.loads(pathlib.Path(directory, "model_index.json").read_text(encoding="utf-8"))
    # diffusers needs None for the T5 that a saved pipeline lacks.
    missing = {name: None for name in ("text_encoder_3", "tokenizer_3") if index.get(name, [None])[0] is None}
    pipe = StableDiffusion3Pipeline.from_pretrained(directory, dtype=dtype, local_files_only=True, **missing)
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.to(dtype).eval()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--bench", action="store_true", help="realistic CPU benchmark shape; other options still apply")
    for field in dataclasses.fields(Options):
        flag = "--" + field.name.replace("_", "-")
        if field.name in ("clip_l", "clip_g", "t5"):
            continue
        if isinstance(field.default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=None)
        elif isinstance(field.default, tuple):
            parser.add_argument(flag, type=int, nargs="*", default=None)
        else:
            parser.add_argument(flag, type=type(field.default) if field.default is not None else str, default=None)
    parser.add_argument("--no-t5", action="store_true", help="no third encoder")
    args = vars(parser.parse_args())
    directory, bench, no_t5 = args.pop("directory"), args.pop("bench"), args.pop("no_t5")
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in args.items() if v is not None}
    if no_t5:
        given["t5"] = None
    write(directory, dataclasses.replace(BENCH if bench else Options(), **given))
    size = sum(p.stat().st_size for p in directory.rglob("*") if p.is_file())
    print(json.dumps({"directory": str(directory), "bytes": size}))


if __name__ == "__main__":
    main()
