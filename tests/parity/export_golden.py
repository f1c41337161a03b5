"""Write the golden cases: tiny random models and diffusers' tensors of every stage.

    python tests/parity/export_golden.py            all of golden/
    python tests/parity/export_golden.py base dual  some cases only

Versions: Python 3.11, torch 2.9.1 (CPU, 2 threads), diffusers 0.42.1, transformers 5.23.0,
tokenizers 0.23.3, sentencepiece 0.2.3, safetensors 0.8.0. A second run on the same machine writes the
same bytes; another CPU may differ in the last bits of the float tensors.

golden/<case>/model/              the model in the diffusers layout
golden/<case>/case.json           the request
golden/<case>/golden.safetensors  the stages. `B` is `uncond` (only at guidance > 1) or `cond`, k the images:
    B.tokens.{clip_l,clip_g} [1, 77] i64, B.tokens.t5 [1, n] i64
    B.prompt_embeds [1, 77 + n, j] f32         rows 77.. are T5's output itself (zeros without a T5)
    B.pooled [1, p_l + p_g] f32
    sigmas [steps + 1] f32, timesteps [steps] f32
    noise [k, c, h, w] f32                     the initial latents
    step.NN.{cond,uncond} [k, c, h, w] f32     the transformer's output, before guidance
    step.NN.latents [k, c, h, w] f32           after the scheduler's step
    image.float [k, 3, H, W] f32               the VAE's output, not clamped
    image.u8 [k, H, W, 3] u8                   the image that diffusers would save
golden/base/golden_bf16.safetensors  the same request run in bf16 from the same f32 noise:
    image.u8 u8, step.NN.latents f32
golden/<case>/{cache.json,golden_cache.safetensors}  the request with other steps and diffusers' first-block cache:
    {"steps", "threshold", "reused": the steps that ran only the first block}; image.u8 u8, step.NN.latents f32
golden/<case>/{picture.json,golden_picture.safetensors}  the request with an initial image of `export_safety.py`
    {"strength", "steps"}; picture [H', W', 3] u8, start [k, c, h, w] f32 (the latents before the first step),
    image.u8 u8, step.NN.latents f32
golden/{tokenizers,noise,sigmas}.json  see the functions below
"""

import json
import math
import pathlib
import sys

import make_model as mm
import torch
from diffusers import StableDiffusion3Img2ImgPipeline
from diffusers.hooks import FirstBlockCacheConfig, apply_first_block_cache
from diffusers.hooks.hooks import CacheContext, _set_cache_context
from export_safety import image_of
from make_model import Clip, Options, T5
from PIL import Image
from safetensors.torch import save_file

import words

GOLDEN = pathlib.Path(__file__).parent / "golden"

# Fields of a request; seeds beyond 32 bits wrap in torch's generator.
REQUEST = dict(negative="", guidance=4.5, num_images=1, max_sequence_length=256)
CASES = {
    # The shape of SD3.5 itself; the full sentencepiece rules.
    "base": (
        Options(seed=101, full_t5_rules=True, clip_merges=200, t5_extra_ids=100),
        dict(prompt="A red fox and a lighthouse at night, oil painting!", width=96, height=64, steps=4, seed=42),
    ),
    # Without T5: zeros of its shape. Files in half precision, as users have them.
    "no_t5": (
        Options(seed=102, t5=None, heads=2, depth=3, dtype="mixed", clip_l=Clip(24, 3, 3, 64, 24), joint_dim=52),
        dict(prompt="Café déjà vu, 猫と山", negative=words.NEGATIVE, width=64, height=80, steps=5, seed=2**31 + 7,
             guidance=7.0, max_sequence_length=77),
    ),  # fmt: skip
    # SD3.5 Medium: a second attention in the first blocks only. One branch, two images of one generator.
    "dual": (
        Options(seed=103, depth=4, dual=(0, 1), dtype="f16", pos_embed_max_size=20),
        dict(prompt="two whales under the sea", negative="unused", width=48, height=64, steps=2, seed=0, guidance=1.0,
             num_images=2, max_sequence_length=128),
    ),  # fmt: skip
    # SD3.0: no query/key norm. A prompt beyond 77 CLIP tokens, T5 beyond 256, another shift.
    "no_qk_norm": (
        Options(seed=104, heads=2, head_dim=12, qk_norm=False, shift=2.2, joint_dim=44, legacy_eos=False, dtype="f16"),
        dict(prompt=words.LONG, negative="!!! bad, UGLY <|endoftext|> ß", width=80, height=48, steps=6, seed=7,
             guidance=3.0, max_sequence_length=280),
    ),  # fmt: skip
    # All sizes different: heads, depth, head size, projections, 3 VAE blocks, 4 latent channels.
    "odd_heads": (
        Options(
            seed=105, heads=5, head_dim=4, depth=3, dtype="mixed", vae_channels=(6, 12, 18), norm_groups=3, vae_layers=2,
            latent_channels=4, scaling_factor=0.83, shift_factor=-0.21, pos_embed_max_size=17, joint_dim=56,
            clip_l=Clip(20, 2, 3, 36, 28), clip_g=Clip(30, 5, 2, 70, 12), t5=T5(5, 8, 3, 50),
        ),
        dict(prompt="an owl and a violin near the fire", width=56, height=40, steps=1, seed=2**32 + 5, num_images=2,
             guidance=1.5, max_sequence_length=40),
    ),  # fmt: skip
    # Head size 64, one head, sharded weights, tokenizers as tokenizer.json, 2 VAE blocks.
    "sharded": (
        Options(
            seed=106, heads=1, head_dim=64, depth=2, dtype="mixed", shard="150KB", shard_t5="40KB", clip_json=True, legacy_eos=False,
            vae_channels=(8, 12), pos_embed_max_size=11,
        ),
        dict(prompt="  Watercolor of a train,   bridge & river... 1280x720  ", width=24, height=20, steps=3, seed=123456789,
             guidance=5.0, max_sequence_length=77),
    ),  # fmt: skip
}  # fmt: skip

# Steps and threshold of first-block caches: some steps reused, the last computed, no distance near the threshold.
CACHES = {"base": (8, 0.56), "dual": (8, 0.65)}

# Image, strength and steps of requests with an initial image: shrunk and enlarged; the second with two images of
# one generator, which also draws the encoder's sample.
INIT_IMAGES = {"base": (("disc", 150, 100), 0.6, 6), "odd_heads": (("smooth", 31, 44), 0.83, 7)}


def text_stages(pipe, text: str, length: int) -> dict[str, torch.Tensor]:
    """The text stages of one prompt, by the pipeline's own methods."""
    out = {}
    for index, name in enumerate(("clip_l", "clip_g")):
        tokenizer = (pipe.tokenizer, pipe.tokenizer_2)[index]
        ids = tokenizer([text], padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
        out[f"tokens.{name}"] = ids
    if pipe.text_encoder_3 is not None:
        out["tokens.t5"] = pipe.tokenizer_3(
            [text], padding="max_length", max_length=length, truncation=True, add_special_tokens=True, return_tensors="pt"
        ).input_ids
    embeds, _, pooled, _ = pipe.encode_prompt(
        text, None, None, do_classifier_free_guidance=False, max_sequence_length=length
    )
    return out | {"prompt_embeds": embeds, "pooled": pooled}


class Recorder:
    """Hooks on a pipeline that record its tensors."""

    def __init__(self, pipe):
        self.outputs, self.latents, self.images = [], [], []
        self.handles = [
            pipe.transformer.register_forward_hook(lambda m, i, out: self.outputs.append(out[0])),
            pipe.vae.decoder.register_forward_hook(lambda m, i, out: self.images.append(out)),
        ]

    def on_step(self, pipe, step, timestep, values):
        self.latents.append(values["latents"])
        return {}


def arguments(request: dict, steps: int, recorder: Recorder) -> dict:
    """A request as the pipelines' arguments, recorded."""
    return {
        "prompt": request["prompt"],
        "negative_prompt": request["negative"],
        "width": request["width"],
        "height": request["height"],
        "num_inference_steps": steps,
        "guidance_scale": request["guidance"],
        "num_images_per_prompt": request["num_images"],
        "max_sequence_length": request["max_sequence_length"],
        "generator": torch.Generator().manual_seed(request["seed"]),
        "callback_on_step_end": recorder.on_step,
    }


def run(pipe, request: dict, noise: torch.Tensor | None = None) -> tuple[Recorder, object]:
    """Runs one request; returns its recorded tensors and its uint8 images."""
    recorder = Recorder(pipe)
    images = pipe(
        **arguments(request, request["steps"], recorder) | ({} if noise is None else {"generator": None}),
        latents=noise,
        output_type="np",
    ).images
    for handle in recorder.handles:
        handle.remove()
    return recorder, torch.from_numpy((images * 255).round().astype("uint8"))


def latent_shape(pipe, request: dict) -> tuple[int, ...]:
    factor = pipe.vae_scale_factor
    return (
        request["num_images"], pipe.transformer.config.in_channels, request["height"] // factor, request["width"] // factor
    )  # fmt: skip


def export(name: str, options: Options, request: dict) -> None:
    """Write one case."""
    directory = GOLDEN / name
    mm.write(directory / "model", options)
    pipe = mm.load(directory / "model")
    request = dict(prompt=request["prompt"]) | REQUEST | request
    out = {}
    with torch.no_grad():
        for branch, text in (("uncond", request["negative"]), ("cond", request["prompt"])):
            if branch == "uncond" and request["guidance"] <= 1:
                continue
            stages = text_stages(pipe, text, request["max_sequence_length"])
            out |= {f"{branch}.{key}": value for key, value in stages.items()}
        recorder, images = run(pipe, request)
        out["sigmas"], out["timesteps"] = pipe.scheduler.sigmas, pipe.scheduler.timesteps
        out["noise"] = torch.randn(latent_shape(pipe, request), generator=torch.Generator().manual_seed(request["seed"]))
        for step, (output, latents) in enumerate(zip(recorder.outputs, recorder.latents, strict=True)):
            branches = output.chunk(2) if request["guidance"] > 1 else (None, output)
            out |= {f"step.{step:02}.{b}": v for b, v in zip(("uncond", "cond"), branches) if v is not None}
            out[f"step.{step:02}.latents"] = latents
        out["image.float"], out["image.u8"] = recorder.images[0], images
    check(name, out, images)
    save(directory / "golden.safetensors", out)
    mm.tok.dump(directory / "case.json", request)
    if name == "base":
        export_bf16(directory, request, out)
    if name in CACHES:
        export_cache(name, *CACHES[name])
    if name in INIT_IMAGES:
        export_init_image(name, *INIT_IMAGES[name])


def check(name: str, out: dict, images: torch.Tensor) -> None:
    """Rejects a case that could hide an error: flat or saturated images, or images that do not depend on the prompt."""
    spread = images.float().std((1, 2)).mean().item()
    clipped = ((images == 0) | (images == 255)).float().mean().item()
    line = f"{name}: image std {spread:.1f}/255, clipped {clipped:.1%}, latents std {out['noise'].std():.2f}"
    for key in sorted(k for k in out if k.endswith("latents")):
        line += f" {out[key].std():.2f}"
    print(line, flush=True)
    assert spread > 25 and clipped < 0.2, line
    assert all(torch.isfinite(v).all() for v in out.values())


def export_bf16(directory: pathlib.Path, request: dict, golden: dict) -> None:
    """The same request in bf16, for the tolerance of bf16."""
    pipe = mm.load(directory / "model", torch.bfloat16)
    with torch.no_grad():
        recorder, images = run(pipe, request, golden["noise"])
    out = {f"step.{i:02}.latents": v for i, v in enumerate(recorder.latents)}
    out["image.u8"] = images
    difference = (images.float() - golden["image.u8"].float()).abs()
    print(f"bf16: mean difference {difference.mean():.2f}/255, max {difference.max():.0f}", flush=True)
    save(directory / "golden_bf16.safetensors", out)


def export_cache(name: str, steps: int, threshold: float) -> None:
    """A case's request with diffusers' first-block cache."""
    directory = GOLDEN / name
    pipe = mm.load(directory / "model")
    request = json.loads((directory / "case.json").read_text()) | {"steps": steps}
    blocks = pipe.transformer.transformer_blocks
    # A model's last block returns no text tensor, from which the cache's hook subtracts: a TypeError. The result is not used.
    last = blocks[-1].forward
    blocks[-1].forward = lambda **inputs: (inputs["encoder_hidden_states"], last(**inputs)[1])
    apply_first_block_cache(pipe.transformer, FirstBlockCacheConfig(threshold=threshold))
    # SD3's pipeline sets no context; one forward has both branches, so there is one state.
    _set_cache_context(pipe.transformer, CacheContext("both"))
    distances, head = [], blocks[0]._diffusers_hook.get_hook("fbc_leader_block_hook")
    decide = head._should_compute_remaining_blocks

    def note(residual):
        before = head.state_manager.get_state().head_block_residual
        if before is not None:
            distances.append(((residual - before).abs().mean() / before.abs().mean()).item())
        return decide(residual)

    head._should_compute_remaining_blocks = note
    with torch.no_grad():
        recorder, images = run(pipe, request)
    reused = [step for step, distance in enumerate(distances, 1) if distance <= threshold]
    print(f"{name} with a cache: distances {[round(d, 3) for d in distances]}, reused {reused}", flush=True)
    assert 0 < len(reused) < steps - 1 and steps - 1 not in reused
    assert all(abs(distance - threshold) > 0.02 for distance in distances)
    out = {f"step.{i:02}.latents": v for i, v in enumerate(recorder.latents)} | {"image.u8": images}
    save(directory / "golden_cache.safetensors", out)
    mm.tok.dump(directory / "cache.json", {"steps": steps, "threshold": threshold, "reused": reused})


def export_init_image(name: str, spec: tuple[str, int, int], strength: float, steps: int) -> None:
    """A case's request with an initial image."""
    directory = GOLDEN / name
    pipe = StableDiffusion3Img2ImgPipeline(**mm.load(directory / "model").components)
    pipe.set_progress_bar_config(disable=True)
    request = json.loads((directory / "case.json").read_text())
    recorder = Recorder(pipe)
    prepare, out = pipe.prepare_latents, {"picture": torch.from_numpy(image_of(*spec))}

    def started(*args, **kwargs):
        out["start"] = prepare(*args, **kwargs)
        return out["start"]

    pipe.prepare_latents = started
    with torch.no_grad():
        images = pipe(
            image=Image.fromarray(out["picture"].numpy()),
            strength=strength,
            **arguments(request, steps, recorder),
            output_type="np",
        ).images
    out |= {f"step.{i:02}.latents": v for i, v in enumerate(recorder.latents)}
    out["image.u8"] = torch.from_numpy((images * 255).round().astype("uint8"))
    print(f"{name} with an initial image: {len(recorder.latents)} of {steps} steps", flush=True)
    save(directory / "golden_picture.safetensors", out)
    mm.tok.dump(directory / "picture.json", {"strength": strength, "steps": steps})


def save(path: pathlib.Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file(
        {k: (v.float() if v.is_floating_point() else v).contiguous().clone() for k, v in sorted(tensors.items())}, path
    )
    path.chmod(0o644)


def tokenizer_golden() -> None:
    """tokenizers.json: ids of every string of words.py, as diffusers passes them.

    {"model": "base/model", "max_length": {...}, "strings": [{"text", "clip_l", "clip_g", "t5"}]};
    each list ends before the padding, which follows up to max_length with the ids in "pad".
    """
    pipe = mm.load(GOLDEN / "base" / "model")
    kinds = {"clip_l": (pipe.tokenizer, 77), "clip_g": (pipe.tokenizer_2, 77), "t5": (pipe.tokenizer_3, 256)}
    rows = []
    for text in words.STRINGS:
        row = {"text": text}
        for kind, (tokenizer, length) in kinds.items():
            encoded = tokenizer([text], padding="max_length", max_length=length, truncation=True)
            ids, used = encoded.input_ids[0], sum(encoded.attention_mask[0])
            assert len(ids) == length and set(ids[used:]) <= {tokenizer.pad_token_id}
            row[kind] = ids[:used]
        rows.append(row)
    head = {
        "model": "base/model",
        "max_length": {kind: length for kind, (_, length) in kinds.items()},
        "pad": {kind: tokenizer.pad_token_id for kind, (tokenizer, _) in kinds.items()},
    }
    lines = ",\n  ".join(json.dumps(row) for row in rows)  # ASCII escapes: some strings do not survive editors.
    text = json.dumps(head)[:-1] + ',\n"strings": [\n  ' + lines + "\n]}\n"
    json.loads(text)
    (GOLDEN / "tokenizers.json").write_text(text, encoding="utf-8")


def noise_golden() -> None:
    """noise.json: torch.randn(shape, generator=manual_seed(seed)), one entry a draw.

    Draws of one entry follow each other from one generator: {"seed", "draws": [{"shape", "first", "last",
    "mean", "std", "sum_abs"}]}; first and last hold up to 20 values in memory order.
    """
    shapes = [[[n]] for n in (1, 2, 8, 15, 16, 17, 24, 31, 32, 33, 100, 1000)]
    shapes += [[[2, 16, 8, 12]], [[1, 16, 8, 12], [1, 16, 8, 12]], [[17], [17]], [[5], [16], [3], [40]], [[4, 4, 5, 9]]]
    shapes += [[[1, 16, 96, 128]]]
    entries = []
    for seed in (0, 7, 42, 2**31, 2**32 - 1, 2**32 + 5, 2**63 - 1, -1):
        for draws in shapes:
            generator = torch.Generator().manual_seed(seed)
            rows = []
            for shape in draws:
                value = torch.randn(shape, generator=generator).flatten()
                rows.append(
                    {
                        "shape": shape,
                        "first": value[:20].tolist(),
                        "last": value[-20:].tolist(),
                        "mean": value.double().mean().item(),
                        "std": value.double().std().item() if value.numel() > 1 else 0.0,
                        "sum_abs": value.double().abs().sum().item(),
                    }
                )
            entries.append({"seed": seed, "draws": rows})
    text = "[\n" + ",\n".join(json.dumps(short(e)) for e in entries) + "\n]\n"
    (GOLDEN / "noise.json").write_text(text, encoding="utf-8")


def short(value):
    """Floats with the nine digits that an f32 needs."""
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else None
    if isinstance(value, list):
        return [short(v) for v in value]
    if isinstance(value, dict):
        return {k: short(v) for k, v in value.items()}
    return value


def sigma_golden() -> None:
    """sigmas.json: the scheduler's sigmas (steps + 1 of them) and timesteps."""
    entries = []
    for shift in (3.0, 1.0, 2.2, 6.0):
        for steps in (1, 2, 3, 4, 8, 20, 28, 40, 50):
            scheduler = mm.FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=shift)
            scheduler.set_timesteps(steps)
            sigmas, timesteps = scheduler.sigmas.tolist(), scheduler.timesteps.tolist()
            entries.append(short({"shift": shift, "steps": steps, "sigmas": sigmas, "timesteps": timesteps}))
    text = "[\n" + ",\n".join(json.dumps(e) for e in entries) + "\n]\n"
    (GOLDEN / "sigmas.json").write_text(text, encoding="utf-8")


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    chosen = sys.argv[1:] or [*CASES, "tokenizers", "noise", "sigmas"]
    for name in chosen:
        if name in CASES:
            export(name, *CASES[name])
    for name, make in (("tokenizers", tokenizer_golden), ("noise", noise_golden), ("sigmas", sigma_golden)):
        if name in chosen:
            make()


if __name__ == "__main__":
    main()
