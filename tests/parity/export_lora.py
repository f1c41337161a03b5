"""Write golden/lora/: small LoRA adapters in each format of keys, and the results of the model golden/base with them.

    python tests/parity/export_lora.py

Versions as in export_golden.py, with peft 0.21.2 and accelerate 1.15.0. PEFT files of the transformer and CLIP are loaded by
diffusers' own `load_lora_weights`. diffusers loads no fused, kohya or Comfy keys for SD3, nor a T5: there the truth is the base
weight plus scale * alpha / rank * B A, brought from the original layout to diffusers' by its own converter.

golden/lora/
    NAME.safetensors         an adapter
    cases.json               {case: {"files": [[NAME, scale], ...]}}
    golden_CASE.safetensors  step.NN.latents f32, image.u8; of cases that change text encoders also prompt_embeds and
                             pooled of the prompt
"""

import json
import sys
import zlib

import export_checkpoint as ec
import export_golden as eg
import make_model as mm
import torch
from diffusers.loaders import single_file_utils as sfu
from safetensors.torch import save_file

HERE = eg.GOLDEN / "lora"
OPTIONS = eg.CASES["base"][0]
STEPS = 2
WIDTH = OPTIONS.heads * OPTIONS.head_dim


def normal(name: str, *shape: int) -> torch.Tensor:
    """Different values for every tensor, exact in f16."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    return torch.randn(shape, generator=generator).half().float()


def pair(name: str, rank: int, outputs: int, inputs: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A (down) and B (up), whose product is about half as large as a weight."""
    down = normal(f"{name}.down", rank, inputs) * 2.0**-3
    return down, normal(f"{name}.up", outputs, rank) * 2.0**-2


def save(name: str, tensors: dict, metadata: dict | None = None) -> dict:
    tensors = {key: tensor.half().contiguous() for key, tensor in tensors.items()}
    save_file(tensors, HERE / f"{name}.safetensors", metadata)
    (HERE / f"{name}.safetensors").chmod(0o644)
    return {key: tensor.float() for key, tensor in tensors.items()}


def peft(pipe) -> dict:
    """diffusers' keys; ranks differ, and alphas are in the metadata alone."""
    out = {}
    ranks = {"attn.to_q": 2, "attn.to_k": 3, "attn.to_v": 2, "attn.to_out.0": 2, "attn.add_q_proj": 2, "attn.add_v_proj": 2,
             "ff.net.0.proj": 4, "ff.net.2": 2, "ff_context.net.0.proj": 2, "norm1.linear": 2}  # fmt: skip
    for block in range(OPTIONS.depth):
        for layer, rank in ranks.items():
            name = f"transformer_blocks.{block}.{layer}"
            try:
                linear = pipe.transformer.get_submodule(name)
            except AttributeError:
                continue
            down, up = pair(name, rank, linear.out_features, linear.in_features)
            out |= {f"transformer.{name}.lora_A.weight": down, f"transformer.{name}.lora_B.weight": up}
    names = sorted({key.split(".lora_")[0].removeprefix("transformer.") for key in out})
    rank = {name: out[f"transformer.{name}.lora_A.weight"].shape[0] for name in names}
    config = {
        "r": 2, "lora_alpha": 3, "rank_pattern": {name: r for name, r in rank.items() if r != 2},
        "alpha_pattern": {"transformer_blocks.0.ff.net.0.proj": 6, "attn.to_out.0": 1}, "target_modules": names,
    }  # fmt: skip
    metadata = {"format": "pt", "lora_adapter_metadata": json.dumps({f"transformer.{k}": v for k, v in config.items()})}
    return save("peft", out, metadata)


def original(shape: tuple, name: str, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A pair for a tensor of the original layout; a convolution's A has its kernel."""
    down, up = pair(name, rank, shape[0], torch.Size(shape[1:]).numel())
    return down.reshape(rank, *shape[1:]), up.reshape(shape[0], rank, *[1] * (len(shape) - 2))


def fused(prefix: str, separator: str, down: str, up: str, layers: list[str], alpha: float | None, seed: str) -> dict:
    """Keys of the original layout: `prefix` and the layer, `separator` for its points."""
    shapes, out = ec.transformer_shapes(OPTIONS), {}
    for number, layer in enumerate(layers):
        a, b = original(shapes[f"{layer}.weight"], f"{seed}.{layer}", 2 + number % 3)
        name = prefix + layer.replace(".", separator)
        out |= {f"{name}.{down}.weight": a, f"{name}.{up}.weight": b}
        if alpha is not None:
            out[f"{name}.alpha"] = torch.tensor(alpha * (1 + number % 2))
    return out


def split_qkv(layer: str) -> dict:
    """What sd-scripts' split_qkv stores: q, k and v of rank 2 each, zeros in between, and the alpha of one of them."""
    name = "lora_unet_" + layer.replace(".", "_")
    up = torch.zeros(3 * WIDTH, 6)
    for third in range(3):
        up[third * WIDTH : (third + 1) * WIDTH, 2 * third : 2 * third + 2] = normal(f"{layer}.split{third}", WIDTH, 2) * 2.0**-2
    down = normal(f"{layer}.split", 6, WIDTH) * 2.0**-3
    return {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.alpha": torch.tensor(1.0)}


KOHYA = ["joint_blocks.0.x_block.attn.qkv", "joint_blocks.0.context_block.attn.qkv", "joint_blocks.0.x_block.attn.proj",
         "joint_blocks.0.context_block.mlp.fc1", "joint_blocks.1.x_block.mlp.fc2", "joint_blocks.1.x_block.mlp.fc1",
         "joint_blocks.1.context_block.adaLN_modulation.1", "joint_blocks.0.x_block.adaLN_modulation.1",
         "final_layer.adaLN_modulation.1", "final_layer.linear", "context_embedder", "t_embedder.mlp.2"]  # fmt: skip
SPLIT = "joint_blocks.1.x_block.attn.qkv"
COMFY = ["joint_blocks.0.x_block.attn.qkv", "joint_blocks.1.x_block.attn.qkv", "joint_blocks.0.x_block.mlp.fc1",
         "joint_blocks.1.context_block.attn.qkv", "x_embedder.proj", "y_embedder.mlp.0"]  # fmt: skip
SAI = ["joint_blocks.0.context_block.attn.proj", "joint_blocks.1.x_block.attn.proj", "joint_blocks.1.x_block.mlp.fc2"]


def merge_transformer(pipe, tensors: dict, scale: float) -> None:
    """Adds an adapter with keys of the original layout to the base weights."""
    shapes = ec.transformer_shapes(OPTIONS)
    names = {layer.replace(".", "_"): layer for layer in (name.removesuffix(".weight") for name in shapes)}
    deltas, used = {name: torch.zeros(shape) for name, shape in shapes.items()}, set()
    for key in tensors:
        module = key.split(".lora_")[0]
        if key.endswith(".alpha") or module in used:
            continue
        used.add(module)
        down, up = (next(v for k, v in tensors.items() if k.startswith(f"{module}.lora_{kind}"))
                    for kind in (("down", "up") if f"{module}.lora_down.weight" in tensors else ("A", "B")))  # fmt: skip
        plain = module.removeprefix("lora_unet_").removeprefix("diffusion_model.").removeprefix("transformer.")
        layer = names[plain.replace(".", "_")]
        rank = down.shape[0] // 3 if layer == SPLIT and f"{module}.alpha" in tensors else down.shape[0]
        alpha = tensors.get(f"{module}.alpha", torch.tensor(float(rank))).item()
        delta = scale * alpha / rank * up.flatten(1) @ down.flatten(1)
        deltas[f"{layer}.weight"] += delta.reshape(shapes[f"{layer}.weight"])
    state = pipe.transformer.state_dict()
    for name, delta in sfu.convert_sd3_transformer_checkpoint_to_diffusers(deltas).items():
        if name != "pos_embed.pos_embed":
            state[name] += delta
    pipe.transformer.load_state_dict(state)


TEXT = {
    "text_encoder": ["text_model.encoder.layers.0.self_attn.q_proj", "text_model.encoder.layers.1.mlp.fc1",
                     "text_model.encoder.layers.0.self_attn.out_proj"],
    "text_encoder_2": ["text_model.encoder.layers.0.self_attn.k_proj", "text_model.encoder.layers.0.self_attn.v_proj",
                       "text_model.encoder.layers.2.mlp.fc2", "text_model.encoder.layers.1.mlp.fc1"],
    "text_encoder_3": ["encoder.block.0.layer.0.SelfAttention.q", "encoder.block.1.layer.0.SelfAttention.o",
                       "encoder.block.1.layer.1.DenseReluDense.wi_0", "encoder.block.0.layer.1.DenseReluDense.wo"],
}  # fmt: skip


def submodule(pipe, encoder: str, name: str):
    """By the name that files have; transformers 5 leaves `text_model.` out of some models."""
    root = getattr(pipe, encoder)
    for candidate in (name, name.removeprefix("text_model.")):
        try:
            return root.get_submodule(candidate)
        except AttributeError:
            continue
    sys.exit(f"{encoder} has no {name}")


def text_peft(pipe) -> dict:
    out = {}
    for encoder in ("text_encoder", "text_encoder_2"):
        for number, name in enumerate(TEXT[encoder]):
            linear = submodule(pipe, encoder, name)
            down, up = pair(f"{encoder}.{name}", 2 + number % 2, linear.out_features, linear.in_features)
            out |= {f"{encoder}.{name}.lora_A.weight": down, f"{encoder}.{name}.lora_B.weight": up}
    return save("text_peft", out)


def text_kohya(pipe) -> dict:
    out = {}
    for number, (encoder, names) in enumerate(TEXT.items(), 1):
        for name in names:
            linear, key = submodule(pipe, encoder, name), f"lora_te{number}_" + name.replace(".", "_")
            down, up = pair(f"kohya.{encoder}.{name}", 3, linear.out_features, linear.in_features)
            out |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.alpha": torch.tensor(2.0)}
    return save("text_kohya", out)


def merge_text(pipe, tensors: dict, scale: float) -> None:
    for number, (encoder, names) in enumerate(TEXT.items(), 1):
        for name in names:
            key = f"lora_te{number}_" + name.replace(".", "_")
            down, up = tensors[f"{key}.lora_down.weight"], tensors[f"{key}.lora_up.weight"]
            with torch.no_grad():
                submodule(pipe, encoder, name).weight += scale * 2.0 / 3 * up @ down


def golden(case: str, pipe, base: torch.Tensor | None) -> torch.Tensor:
    request = json.loads((eg.GOLDEN / "base" / "case.json").read_text()) | {"steps": STEPS}
    with torch.no_grad():
        embeds, _, pooled, _ = pipe.encode_prompt(
            request["prompt"], None, None, do_classifier_free_guidance=False,
            max_sequence_length=request["max_sequence_length"],
        )  # fmt: skip
        recorder, images = eg.run(pipe, request)
    out = {f"step.{i:02}.latents": v for i, v in enumerate(recorder.latents)}
    if base is None:
        return images
    off = (images.float() - base.float()).abs().mean().item()
    spread = images.float().std((1, 2)).mean().item()
    print(f"{case}: {off:.1f}/255 from the base model, std {spread:.1f}", flush=True)
    assert off > 3 and spread > 20, case
    if case.startswith("text") or case == "all":
        out |= {"prompt_embeds": embeds, "pooled": pooled}
    eg.save(HERE / f"golden_{case}.safetensors", out | {"image.u8": images})
    return images


def main() -> None:
    HERE.mkdir(exist_ok=True)
    load = lambda: mm.load(eg.GOLDEN / "base" / "model")  # noqa: E731
    pipe = load()
    base = golden("none", pipe, None)
    peft(pipe)
    kohya = fused("lora_unet_", "_", "lora_down", "lora_up", KOHYA, 1.5, "kohya")
    kohya = save("kohya", kohya | split_qkv(SPLIT))
    comfy = save("comfy", fused("diffusion_model.", ".", "lora_A", "lora_B", COMFY, None, "comfy"))
    sai = save("sai", fused("transformer.", ".", "lora_down", "lora_up", SAI, 4.0, "sai"))
    text_peft(pipe)
    text = text_kohya(pipe)

    cases = {
        "peft": [["peft", 0.75]], "kohya": [["kohya", 1.0]], "comfy": [["comfy", 0.5]], "sai": [["sai", 1.0]],
        "two": [["peft", 1.5], ["comfy", 0.25]], "text_peft": [["text_peft", 0.8]], "text_kohya": [["text_kohya", 1.0]],
        "all": [["text_peft", 0.5], ["kohya", 0.5], ["peft", 1.0], ["text_kohya", 0.25]],
    }  # fmt: skip
    merges = {"kohya": (merge_transformer, kohya), "comfy": (merge_transformer, comfy), "sai": (merge_transformer, sai),
              "text_kohya": (merge_text, text)}  # fmt: skip
    seen = [base]
    for case, files in cases.items():
        pipe = load()
        for name, scale in files:
            if name in merges:
                merge, tensors = merges[name]
                merge(pipe, tensors, scale)
        loaded = [(name, scale) for name, scale in files if name not in merges]
        for name, _ in loaded:
            pipe.load_lora_weights(str(HERE), weight_name=f"{name}.safetensors", adapter_name=name)
        if loaded:
            pipe.set_adapters([name for name, _ in loaded], [scale for _, scale in loaded])
        seen.append(golden(case, pipe, base))
    for index, image in enumerate(seen):
        assert all((image.float() - other.float()).abs().mean() > 1 for other in seen[:index]), "two cases are alike"
    lines = ",\n  ".join(f"{json.dumps(case)}: {json.dumps({'files': files})}" for case, files in cases.items())
    (HERE / "cases.json").write_text("{\n  " + lines + "\n}\n")


if __name__ == "__main__":
    main()
