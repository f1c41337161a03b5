"""Write golden/ip_adapter/: small random IP-Adapters with their image encoders, and requests of export_golden.py with them.

    python tests/parity/export_ip_adapter.py

Versions as in export_golden.py, and Pillow 13.0.0: images are resized by Pillow (`SiglipImageProcessorPil`).

golden/ip_adapter/ADAPTER/
    ip-adapter.safetensors  image_proj.* and ip_adapter.N.* as StableDiffusion3Pipeline.load_ip_adapter reads them
    image_encoder/          config.json, preprocessor_config.json, model.safetensors of a SigLIP vision model
golden/ip_adapter/CASE/
    case.json               {"model", "adapter", "scale", "steps"} and, of some, "controlnet" or "strength"
    golden.safetensors
        picture [H', W', 3] u8            the image prompt
        start [H", W", 3] u8              the initial image, if there is one
        image_features [1, t, e] f32      hidden_states[-2] of the image encoder
        image_tokens [m, q, d] f32        the projection's output in the first step; m = 2 as [uncond, cond] with guidance
        step.NN.latents [k, c, h, w] f32, image.u8 [k, H, W, 3] u8
"""

import json

import torch
from diffusers import (
    SD3ControlNetModel,
    StableDiffusion3ControlNetPipeline,
    StableDiffusion3Img2ImgPipeline,
    StableDiffusion3Pipeline,
)
from diffusers.models.attention_processor import SD3IPAdapterJointAttnProcessor2_0
from diffusers.models.embeddings import IPAdapterTimeImageProjection
from export_golden import GOLDEN, Recorder, arguments, mm, save
from export_safety import image_of
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import SiglipVisionConfig, SiglipVisionModel
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

HERE = GOLDEN / "ip_adapter"

# Golden model, sizes of the projection, sizes of the encoder, whether keys and files are as published: those of the
# adapter by InstantX, those of the encoder by Google, with a text half that nothing reads.
ADAPTERS = {
    "published": (
        "base", dict(hidden_dim=32, heads=1, num_queries=4, timestep_in_dim=320),
        dict(hidden_size=24, num_hidden_layers=3, num_attention_heads=3, intermediate_size=36, image_size=30, patch_size=7), True,
    ),
    # Of a model with second attentions, which have layers of their own.
    "diffusers": (
        "dual", dict(hidden_dim=20, heads=2, num_queries=3, timestep_in_dim=30),
        dict(hidden_size=18, num_hidden_layers=2, num_attention_heads=2, intermediate_size=28, image_size=24, patch_size=8,
             hidden_act="gelu", layer_norm_eps=1e-5), False,
    ),
}  # fmt: skip

# Adapter, image prompt, scale, steps, and what else the request has.
CASES = {
    "guided": ("published", ("clouds", 61, 50), 0.7, 4, {}),
    "twice": ("diffusers", ("disc", 48, 64), 1.3, 2, {}),
    "controlnet": ("published", ("disc", 40, 90), 0.6, 3, {"controlnet": "joint"}),
    "init_image": ("published", ("smooth", 33, 47), 1.0, 5, {"strength": 0.6}),
}

# The names of the projection's layers by InstantX, which diffusers' loader translates (loaders/transformer_sd3.py:115-126).
INSTANTX = {
    ".ln0.": ".0.norm1.",
    ".ln1.": ".0.norm2.",
    ".attn.to_q.": ".0.to_q.",
    ".attn.to_kv.": ".0.to_kv.",
    ".attn.to_out.0.": ".0.to_out.",
    ".adaln_norm.": ".1.0.",
    ".ff.net.0.proj.": ".1.1.",
    ".ff.net.2.": ".1.3.",
    ".adaln_proj.": ".2.1.",
}


def build_adapter(name: str, transformer, sizes: dict, encoder: dict, published: bool) -> None:
    """Save a random adapter for a transformer, in f16."""
    width = transformer.config.attention_head_dim * transformer.config.num_attention_heads
    projection = IPAdapterTimeImageProjection(embed_dim=encoder["hidden_size"], output_dim=width, **sizes)
    mm.randomise(projection, f"ip_adapter.{name}.image_proj", 9)
    tensors = {}
    for key, value in projection.state_dict().items():
        if published and key.startswith("layers."):
            for ours, theirs in INSTANTX.items():
                key = key.replace(ours, theirs)
        tensors[f"image_proj.{key}"] = value
    for index in range(len(transformer.attn_processors)):
        attention = SD3IPAdapterJointAttnProcessor2_0(
            hidden_size=width, ip_hidden_states_dim=width, head_dim=transformer.config.attention_head_dim,
            timesteps_emb_dim=sizes["hidden_dim"],
        )  # fmt: skip
        mm.randomise(attention, f"ip_adapter.{name}.{index}", 9)
        tensors |= {f"ip_adapter.{index}.{key}": value for key, value in attention.state_dict().items()}
    path = HERE / name / "ip-adapter.safetensors"
    save_file({key: value.half().contiguous() for key, value in tensors.items()}, path)
    path.chmod(0o644)


def build_encoder(name: str, sizes: dict, published: bool) -> None:
    """Save a random image encoder, in f16."""
    folder = HERE / name / "image_encoder"
    model = SiglipVisionModel(SiglipVisionConfig(**sizes)).eval()
    mm.randomise(model, f"ip_adapter.{name}.image_encoder", 9)
    model.half().save_pretrained(folder)
    side = sizes["image_size"]
    SiglipImageProcessorPil(size={"height": side, "width": side}).save_pretrained(folder)
    weights = folder / "model.safetensors"
    if published:
        with safe_open(weights, "pt") as file:
            tensors = {f"vision_model.{key}": file.get_tensor(key) for key in file.keys()}
        tensors |= {"text_model.final_layer_norm.weight": torch.ones(3), "logit_scale": torch.ones(1)}
        save_file(tensors, weights)
        config = {"architectures": ["SiglipModel"], "model_type": "siglip", "text_config": {"model_type": "siglip_text_model"}}
        mm.tok.dump(folder / "config.json", config | {"vision_config": {"model_type": "siglip_vision_model"} | sizes})
    weights.chmod(0o644)


def load_encoder(name: str, sizes: dict) -> tuple[SiglipVisionModel, SiglipImageProcessorPil]:
    folder = HERE / name / "image_encoder"
    with safe_open(folder / "model.safetensors", "pt") as file:
        tensors = {key.removeprefix("vision_model."): file.get_tensor(key).float() for key in file.keys()}
    model = SiglipVisionModel(SiglipVisionConfig(**sizes)).eval()
    wanted = model.state_dict().keys()
    model.load_state_dict({key: value for key, value in tensors.items() if key in wanted}, strict=True)
    return model, SiglipImageProcessorPil.from_pretrained(folder)


def pipeline(case: dict, sizes: dict):
    """The pipeline of a case with its adapter, and the arguments that are its own."""
    encoder, processor = load_encoder(case["adapter"], sizes)
    parts = mm.load(GOLDEN / case["model"] / "model").components | {"image_encoder": encoder, "feature_extractor": processor}
    if net := case.get("controlnet"):
        model = SD3ControlNetModel.from_pretrained(GOLDEN / "controlnet" / net / "model").float().eval()
        pipe = StableDiffusion3ControlNetPipeline(**parts, controlnet=model)
    elif "strength" in case:
        pipe = StableDiffusion3Img2ImgPipeline(**parts)
    else:
        pipe = StableDiffusion3Pipeline(**parts)
    pipe.set_progress_bar_config(disable=True)
    pipe.load_ip_adapter(HERE / case["adapter"], weight_name="ip-adapter.safetensors", subfolder=".")
    pipe.transformer.image_proj.eval()
    pipe.set_ip_adapter_scale(case["scale"])
    return pipe


def run(pipe, request: dict, case: dict, picture: torch.Tensor, start: torch.Tensor) -> tuple[dict, torch.Tensor]:
    """The tensors of a request, with its images; and the images without the image prompt."""
    out, images = {}, []
    for prompt in (Image.fromarray(picture.numpy()), None):
        recorder, calls = Recorder(pipe), []
        handle = pipe.transformer.image_proj.register_forward_hook(lambda m, i, tokens: calls.append((i[0], tokens[0])))
        inputs = arguments(request, case["steps"], recorder)
        if "controlnet" in case:
            inputs |= {"control_image": Image.fromarray(start.numpy()), "controlnet_conditioning_scale": 0.8}
        if "strength" in case:
            inputs |= {"image": Image.fromarray(start.numpy()), "strength": case["strength"]}
        torch.manual_seed(request["seed"])
        with torch.no_grad():
            made = pipe(ip_adapter_image=prompt, **inputs, output_type="np").images
        images.append(torch.from_numpy((made * 255).round().astype("uint8")))
        for used in [handle, *recorder.handles]:
            used.remove()
        if prompt is None:
            break
        features, tokens = calls[0]
        out = {"image_features": features[-1:], "image_tokens": tokens[:: request["num_images"]], "image.u8": images[0]}
        out |= {f"step.{i:02}.latents": value for i, value in enumerate(recorder.latents)}
    return out, images[1]


def export(name: str, adapter: str, spec: tuple, scale: float, steps: int, other: dict) -> None:
    directory = HERE / name
    directory.mkdir(parents=True, exist_ok=True)
    model, _, sizes, _ = ADAPTERS[adapter]
    case = dict(model=model, adapter=adapter, scale=scale, steps=steps) | other
    request = json.loads((GOLDEN / model / "case.json").read_text())
    picture, start = torch.from_numpy(image_of(*spec)), torch.from_numpy(image_of("disc", 75, 50))
    out, without = run(pipeline(case, sizes), request, case, picture, start)
    off = (out["image.u8"].float() - without.float()).abs().mean().item()
    spread = out["image.u8"].float().std((1, 2)).mean().item()
    deviations = [f"{out[key].std():.2f}" for key in ("image_features", "image_tokens")]
    print(f"{name}: {off:.1f}/255 from the model alone, std {spread:.1f}, features and tokens {deviations}", flush=True)
    assert off > 3 and spread > 20 and all(torch.isfinite(value).all() for value in out.values())
    save(directory / "golden.safetensors", out | {"picture": picture} | ({"start": start} if other else {}))
    mm.tok.dump(directory / "case.json", case)


if __name__ == "__main__":
    for name, (model, sizes, encoder, published) in ADAPTERS.items():
        (HERE / name).mkdir(parents=True, exist_ok=True)
        transformer = mm.load(GOLDEN / model / "model").transformer
        build_adapter(name, transformer, sizes, encoder, published)
        build_encoder(name, encoder, published)
    for name, case in CASES.items():
        export(name, *case)
