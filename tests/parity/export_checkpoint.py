"""Write golden/checkpoint/: tiny random checkpoints in the original layout, and diffusers' results with them.

    python tests/parity/export_checkpoint.py TOKENIZERS

TOKENIZERS has tokenizer_1/, tokenizer_2/ and tokenizer_3/ of Stable Diffusion 3 (for their source see
models/tokenizers/README.md). Every tensor gets random values under its original name, and diffusers' own `single_file_utils` turns it into the diffusers
layout. Values are on a coarse grid, so that the files compress well. Versions as in export_golden.py.

golden/checkpoint/
    names.json             {"blocks", "levels", "transformer": {diffusers' name: [original name, rows]}, "vae": {…}};
                           rows: "all", "0" "1" "2" (thirds), or "swapped" (halves)
    tokenizers.json        ids of real tokenizers, as golden/tokenizers.json
    checkpoint.safetensors transformer without prefix, dual attention in its first block; VAE below first_stage_model.
    scaled.safetensors     its transformer below model.diffusion_model. in Comfy's scaled fp8
    encoders.safetensors   encoders with the real vocabularies below text_encoders.; NAME of a table has the rows that are
                           not zero, and NAME.rows [n] i64 has their indices
    beside/model/          checkpoint.safetensors in the diffusers layout, with small encoders and tokenizers
    beside, inside, no_t5, scaled   case.json and golden.safetensors, as in export_golden.py: image.u8, of inside also
                           cond.{prompt_embeds,pooled}. inside and no_t5 use encoders.safetensors, the others beside/model
"""

import json
import math
import pathlib
import sys
import zlib

import export_golden as eg
import make_model as mm
import torch
import words
from diffusers.loaders import single_file_utils as sfu
from make_model import Clip, Options, T5
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

HERE = eg.GOLDEN / "checkpoint"
PREFIX = "model.diffusion_model."
OPTIONS = Options(
    seed=201, heads=2, head_dim=16, depth=3, dual=(0,), pos_embed_max_size=16, joint_dim=160, dtype="f16",
    clip_l=Clip(16, 2, 2, 32, 64), clip_g=Clip(24, 4, 3, 48, 64), t5=T5(3, 8, 2, 64),
    vae_channels=(32, 32), norm_groups=32, vae_layers=1,
)  # fmt: skip
REQUEST = dict(
    prompt="A red fox beside the lighthouse!", negative="blurry", width=48, height=40, steps=3, seed=11, guidance=3.5,
    num_images=1, max_sequence_length=64,
)  # fmt: skip


def linear(name: str, rows: int, *columns: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (rows, *columns), f"{name}.bias": (rows,)}


def transformer_shapes(o: Options) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the original MMDiT, in units of its width."""
    w, pooled, channels = o.heads * o.head_dim, o.clip_l.projection + o.clip_g.projection, o.latent_channels
    out = {"pos_embed": (1, o.pos_embed_max_size**2, w)}
    out |= linear("x_embedder.proj", w, channels, 2, 2) | linear("context_embedder", w, o.joint_dim)
    out |= linear("t_embedder.mlp.0", w, 256) | linear("t_embedder.mlp.2", w, w)
    out |= linear("y_embedder.mlp.0", w, pooled) | linear("y_embedder.mlp.2", w, w)
    for index in range(o.depth):
        for stream in ("x_block", "context_block"):
            block, ends = f"joint_blocks.{index}.{stream}", stream == "context_block" and index == o.depth - 1
            dual = stream == "x_block" and index in o.dual
            out |= linear(f"{block}.adaLN_modulation.1", (2 if ends else 9 if dual else 6) * w, w)
            for attn in ("attn", "attn2") if dual else ("attn",):
                out |= linear(f"{block}.{attn}.qkv", 3 * w, w)
                out |= {f"{block}.{attn}.{norm}.weight": (o.head_dim,) for norm in ("ln_q", "ln_k")}
                out |= {} if ends else linear(f"{block}.{attn}.proj", w, w)
            out |= {} if ends else linear(f"{block}.mlp.fc1", 4 * w, w) | linear(f"{block}.mlp.fc2", w, 4 * w)
    return out | linear("final_layer.linear", 4 * channels, w) | linear("final_layer.adaLN_modulation.1", 2 * w, w)


def vae_shapes(widths: tuple[int, ...], layers: int, latents: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the original VAE."""
    out = {}

    def resnet(name: str, before: int, after: int) -> None:
        out.update(linear(f"{name}.norm1", before) | linear(f"{name}.conv1", after, before, 3, 3))
        out.update(linear(f"{name}.norm2", after) | linear(f"{name}.conv2", after, after, 3, 3))
        if before != after:
            out.update(linear(f"{name}.nin_shortcut", after, before, 1, 1))

    for half in ("encoder", "decoder"):
        deep, encodes = widths[-1], half == "encoder"
        for index in (1, 2):
            resnet(f"{half}.mid.block_{index}", deep, deep)
        out.update(linear(f"{half}.mid.attn_1.norm", deep))
        for name in ("q", "k", "v", "proj_out"):
            out.update(linear(f"{half}.mid.attn_1.{name}", deep, deep, 1, 1))
        for level, width in enumerate(widths):
            before = widths[max(level - 1, 0)] if encodes else widths[min(level + 1, len(widths) - 1)]
            for index in range(layers if encodes else layers + 1):
                path = f"{half}.{'down' if encodes else 'up'}.{level}"
                resnet(f"{path}.block.{index}", before if index == 0 else width, width)
            if encodes and level < len(widths) - 1:
                out.update(linear(f"{path}.downsample.conv", width, width, 3, 3))
            if not encodes and level > 0:
                out.update(linear(f"{path}.upsample.conv", width, width, 3, 3))
        fine = widths[0]
        out.update(linear(f"{half}.conv_in", fine if encodes else deep, 3 if encodes else latents, 3, 3))
        out.update(linear(f"{half}.norm_out", deep if encodes else fine))
        out.update(linear(f"{half}.conv_out", 2 * latents if encodes else 3, deep if encodes else fine, 3, 3))
    return out


def draw(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Different values for every tensor, exact in f16 and on a coarse grid."""
    out = {}
    for name, shape in shapes.items():
        normal = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
        if len(shape) == 1:
            out[name] = (1.0 if name.endswith("weight") else 0.0) + (normal * 2).round().clamp(-4, 4) / 16
        else:
            fan_in = 1 if "embedding" in name or "pos_embed" in name or "shared" in name else math.prod(shape[1:])
            out[name] = (normal * 2).round() / 2 * 2.0 ** round(math.log2(fan_in**-0.5))
    return out


def convert_vae(state: dict, levels: int) -> dict:
    blocks = {"down_block_types": [None] * levels, "up_block_types": [None] * levels}
    return sfu.convert_ldm_vae_checkpoint(dict(state), blocks)


def names_golden() -> None:
    """The original tensor and rows of each diffusers tensor, by diffusers' converters, for the real VAE's structure."""
    def tagged(shapes: dict) -> dict:
        rows = torch.arange(6.0)
        return {n: (i * 8 + rows).reshape(6, *[1] * (len(s) - 1)) for i, (n, s) in enumerate(shapes.items())}

    def mapping(converted: dict, shapes: dict) -> dict:
        names, out = list(shapes), {}
        for name, tensor in sorted(converted.items()):
            values = [int(value) for value in tensor.flatten()]
            rows = [value % 8 for value in values]
            kinds = {"all": [0, 1, 2, 3, 4, 5], "swapped": [3, 4, 5, 0, 1, 2], "0": [0, 1], "1": [2, 3], "2": [4, 5]}
            out[name] = [names[values[0] // 8], next(kind for kind, expected in kinds.items() if rows == expected)]
        return out

    shapes = transformer_shapes(Options(depth=3, dual=(0, 1)))
    transformer = mapping(sfu.convert_sd3_transformer_checkpoint_to_diffusers(tagged(shapes)), shapes)
    shapes = vae_shapes((1, 2, 4, 4), 2, 16)
    vae = mapping(convert_vae(tagged(shapes), 4), shapes)
    lines = [f'"{part}": {{\n  ' + ",\n  ".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in names.items()) + "\n}"
             for part, names in (("transformer", transformer), ("vae", vae))]  # fmt: skip
    (HERE / "names.json").write_text('{"blocks": 3, "levels": 4,\n' + ",\n".join(lines) + "\n}\n")


def save(path: pathlib.Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file({name: tensor.contiguous() for name, tensor in sorted(tensors.items())}, path)
    path.chmod(0o644)


def half(tensors: dict[str, torch.Tensor], prefix: str = "") -> dict[str, torch.Tensor]:
    return {prefix + name: tensor.half() for name, tensor in tensors.items()}


def scaled_fp8(tensors: dict[str, torch.Tensor]) -> tuple[dict, dict]:
    """A transformer in Comfy's scaled fp8, and the values that it represents."""
    stored, meant = {"scaled_fp8": torch.zeros(0, dtype=torch.float8_e4m3fn)}, {}
    for name, tensor in tensors.items():
        if tensor.ndim != 2 or "embedder" in name:
            stored[name] = meant[name] = tensor.half()
            continue
        scale = tensor.abs().max() / 448
        stored[name] = (tensor / scale).to(torch.float8_e4m3fn)
        stored[name.removesuffix("weight") + "scale_weight"] = scale
        stored[name.removesuffix("weight") + "scale_input"] = torch.tensor(1.0)
        meant[name] = stored[name].float() * scale
    return stored, meant


def encoders(tokenizers: tuple) -> tuple[dict, list]:
    """Encoders with the real vocabularies, under their original names; and diffusers' models of them."""
    ids = [tokenizer([REQUEST["prompt"], REQUEST["negative"]], padding="max_length", max_length=77).input_ids for tokenizer in tokenizers]  # fmt: skip
    clip = dict(
        vocab_size=49408, hidden_size=64, intermediate_size=48, projection_dim=64, num_hidden_layers=2,
        num_attention_heads=1, max_position_embeddings=77, bos_token_id=49406, eos_token_id=49407,
    )  # fmt: skip
    t5 = T5Config(
        vocab_size=32128, d_model=OPTIONS.joint_dim, d_kv=8, d_ff=40, num_layers=2, num_heads=3,
        feed_forward_proj="gated-gelu", tie_word_embeddings=False,
    )  # fmt: skip
    models = [
        CLIPTextModelWithProjection(CLIPTextConfig(**clip, hidden_act="quick_gelu")),
        CLIPTextModelWithProjection(CLIPTextConfig(**clip, hidden_act="gelu")),
        T5EncoderModel(t5),
    ]
    stored, whole = {}, {}
    for model, name, used in zip(models, ("clip_l", "clip_g", "t5xxl"), ids, strict=True):
        prefix = f"text_encoders.{name}.transformer."
        shapes = {prefix + n: tuple(p.shape) for n, p in model.named_parameters()}
        if name == "clip_l":
            del shapes[prefix + "text_projection.weight"]
        rows = torch.tensor(sorted({i for text in used for i in text}))
        for key, tensor in draw(shapes).items():
            if key.endswith(("token_embedding.weight", "shared.weight")):
                table = torch.zeros_like(tensor)
                table[rows] = tensor[rows]
                stored |= {key: tensor[rows].half(), f"{key}.rows": rows}
                whole[key] = table
            else:
                stored[key], whole[key] = tensor.half(), tensor
    converted = [
        sfu.convert_ldm_clip_checkpoint(whole, "text_encoders.clip_l.transformer.") | {"text_projection.weight": torch.eye(64)},
        sfu.convert_ldm_clip_checkpoint(whole, "text_encoders.clip_g.transformer."),
        sfu.convert_sd3_t5_checkpoint_to_diffusers(whole),
    ]  # fmt: skip
    for model, state in zip(models, converted, strict=True):
        missing, unexpected = model.load_state_dict(state, strict=False)
        assert not unexpected and set(missing) <= {"encoder.embed_tokens.weight"}, (missing, unexpected)
        model.eval()
    assert models[2].encoder.embed_tokens.weight[int(rows[0])].equal(whole[prefix + "shared.weight"][int(rows[0])])
    return stored, models


def run_case(name: str, pipe) -> None:
    """Run the request; write case.json and golden.safetensors."""
    (HERE / name).mkdir(exist_ok=True)
    pipe.set_progress_bar_config(disable=True)
    with torch.no_grad():
        stages = eg.text_stages(pipe, REQUEST["prompt"], REQUEST["max_sequence_length"])
        recorder, images = eg.run(pipe, REQUEST)
    stages = {f"cond.{key}": stages[key] for key in ("prompt_embeds", "pooled")}
    eg.check(name, {"image.u8": images, "noise": recorder.latents[0], "last.latents": recorder.latents[-1]}, images)
    eg.save(HERE / name / "golden.safetensors", {"image.u8": images} | (stages if name == "inside" else {}))
    mm.tok.dump(HERE / name / "case.json", REQUEST)


def tokenizer_golden(tokenizers: tuple) -> None:
    """As export_golden.tokenizer_golden, of the real vocabularies."""
    texts = list(dict.fromkeys([*words.STRINGS, *words.corpus()]))[:260]
    kinds = dict(zip(("clip_l", "clip_g", "t5"), zip(tokenizers, (77, 77, 256), strict=True), strict=True))
    rows = []
    for text in texts:
        row = {"text": text}
        for kind, (tokenizer, length) in kinds.items():
            encoded = tokenizer([text], padding="max_length", max_length=length, truncation=True)
            ids, used = encoded.input_ids[0], sum(encoded.attention_mask[0])
            assert len(ids) == length and set(ids[used:]) <= {tokenizer.pad_token_id}
            row[kind] = ids[:used]
        rows.append(row)
    head = {
        "max_length": {kind: length for kind, (_, length) in kinds.items()},
        "pad": {kind: tokenizer.pad_token_id for kind, (tokenizer, _) in kinds.items()},
    }
    lines = ",\n  ".join(json.dumps(row) for row in rows)
    (HERE / "tokenizers.json").write_text(json.dumps(head)[:-1] + ',\n"strings": [\n  ' + lines + "\n]}\n")


def main() -> None:
    source = pathlib.Path(sys.argv[1])
    HERE.mkdir(exist_ok=True)
    tokenizers = (
        CLIPTokenizer.from_pretrained(source / "tokenizer_1"),
        CLIPTokenizer.from_pretrained(source / "tokenizer_2"),
        T5TokenizerFast.from_pretrained(source / "tokenizer_3"),
    )
    names_golden()
    tokenizer_golden(tokenizers)

    model = HERE / "beside" / "model"
    mm.write(model, OPTIONS)
    pipe = mm.load(model)
    transformer = draw(transformer_shapes(OPTIONS))
    vae = draw(vae_shapes(OPTIONS.vae_channels, OPTIONS.vae_layers, OPTIONS.latent_channels))
    pipe.transformer.load_state_dict(sfu.convert_sd3_transformer_checkpoint_to_diffusers(dict(transformer)))
    pipe.vae.load_state_dict(convert_vae(vae, 2))
    before = pipe.vae.decoder.conv_out.weight.detach().clone()
    mm.add_contrast(pipe)
    ratio = (pipe.vae.decoder.conv_out.weight.detach() / before).nanmean().item()
    vae["decoder.conv_out.weight"] *= 2.0 ** round(math.log2(ratio))
    pipe.vae.load_state_dict(convert_vae(vae, 2))
    for name in ("transformer", "vae"):
        getattr(pipe, name).half().save_pretrained(model / name)
    for path in model.rglob("*.safetensors"):
        path.chmod(0o644)
    save(HERE / "checkpoint.safetensors", half(transformer) | half(vae, "first_stage_model."))
    pipe = mm.load(model)
    run_case("beside", pipe)

    stored, meant = scaled_fp8(transformer)
    save(HERE / "scaled.safetensors", {PREFIX + name: tensor for name, tensor in stored.items()})
    pipe.transformer.load_state_dict(
        sfu.convert_sd3_transformer_checkpoint_to_diffusers({name: tensor.float() for name, tensor in meant.items()})
    )
    run_case("scaled", pipe)
    pipe = mm.load(model)

    tensors, models = encoders(tokenizers)
    save(HERE / "encoders.safetensors", tensors)
    real = pipe.components | dict(zip(("text_encoder", "text_encoder_2", "text_encoder_3"), models, strict=True))
    real |= dict(zip(("tokenizer", "tokenizer_2", "tokenizer_3"), tokenizers, strict=True))
    run_case("inside", mm.StableDiffusion3Pipeline(**real))
    run_case("no_t5", mm.StableDiffusion3Pipeline(**real | {"text_encoder_3": None, "tokenizer_3": None}))


if __name__ == "__main__":
    main()
