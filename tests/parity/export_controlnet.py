"""Write golden/controlnet/: small random ControlNets of each kind, and requests of export_golden.py with them.

    python tests/parity/export_controlnet.py

Versions as in export_golden.py.

golden/controlnet/CASE/
    model/                  a ControlNet as diffusers saves it: config.json, diffusion_pytorch_model.safetensors
    case.json               {"model", "scale", "start", "end", "steps", "active"}: the golden model, and the steps with the ControlNet
    golden.safetensors
        picture [H', W', 3] u8            the control image
        condition [m, c, h, w] f32        the control image's latents; m = k images, or 2k as [uncond..., cond...] with guidance
        residual.NN [m, s, d] f32         the ControlNet's output for each of its blocks in its first step, scaled
        step.NN.latents [k, c, h, w] f32, image.u8 [k, H, W, 3] u8

golden/controlnet/canny/golden.safetensors: condition and image.u8 of "single" with the control image's pixels in 0.5..128, as
Stability's card of its ControlNet for canny edges tells diffusers to make them.

diffusers samples the control image's latents with torch's global generator (pipeline_stable_diffusion_3_controlnet.py:1077):
it is seeded like the request's own generator.
"""

import json

import torch
from diffusers import SD3ControlNetModel, StableDiffusion3ControlNetPipeline
from diffusers.image_processor import VaeImageProcessor
from export_golden import GOLDEN, Recorder, arguments, mm, save
from export_safety import image_of
from PIL import Image

HERE = GOLDEN / "controlnet"

# Golden model, differences of the config from the model's transformer, control image, scale, start, end, steps.
CASES = {
    # As InstantX's: text and image, positions of its own, zeros for the pooled text, no shift of the control image. Guided.
    "joint": (
        "base", dict(num_layers=1, dual_attention_layers=(0,), pos_embed_max_size=14),
        ("clouds", 61, 50), 0.8, 0.2, 0.9, 5,
    ),
    # As Stability's: image alone, patches and positions of the transformer. Two images, not guided.
    "single": (
        "dual", dict(num_layers=2, joint_attention_dim=None, use_pos_embed=False, pos_embed_type=None, qk_norm=None,
                     force_zeros_for_pooled_projection=False),
        ("disc", 48, 64), 1.25, 0.0, 1.0, 2,
    ),
    # No positions, two blocks for three of the transformer, no q and k norms, in f16.
    "no_positions": (
        "no_t5", dict(num_layers=2, pos_embed_type=None, qk_norm=None, force_zeros_for_pooled_projection=False),
        ("smooth", 31, 44), 0.6, 0.0, 0.75, 4,
    ),
}  # fmt: skip
FROM_TRANSFORMER = ("sample_size", "patch_size", "in_channels", "attention_head_dim", "num_attention_heads",
                    "joint_attention_dim", "caption_projection_dim", "pooled_projection_dim", "out_channels",
                    "pos_embed_max_size", "qk_norm")  # fmt: skip


def build(name: str, transformer, differences: dict) -> None:
    """Save a random ControlNet for a transformer."""
    config = {key: transformer.config[key] for key in FROM_TRANSFORMER} | differences
    net = SD3ControlNetModel(**config).eval()
    mm.randomise(net, f"controlnet.{name}", 8)
    if net.pos_embed is not None and net.pos_embed.pos_embed is not None:
        table = net.pos_embed.pos_embed
        table += 0.2 * torch.randn(table.shape, generator=torch.Generator().manual_seed(8))
    net.half().save_pretrained(HERE / name / "model")
    (HERE / name / "model" / "diffusion_pytorch_model.safetensors").chmod(0o644)


def run(pipe, request: dict, steps: int, picture: torch.Tensor, scale: float, start: float, end: float):
    """Latents of each step, images, control latents, and for each step the scale and outputs of the ControlNet."""
    recorder, calls = Recorder(pipe), []

    def called(module, args, kwargs, outputs):
        calls.append((kwargs["conditioning_scale"], kwargs["controlnet_cond"], outputs[0]))

    handle = pipe.controlnet.register_forward_hook(called, with_kwargs=True)
    torch.manual_seed(request["seed"])
    with torch.no_grad():
        images = pipe(
            control_image=Image.fromarray(picture.numpy()), controlnet_conditioning_scale=scale,
            control_guidance_start=start, control_guidance_end=end,
            **arguments(request, steps, recorder), output_type="np",
        ).images  # fmt: skip
    handle.remove()
    for handle in recorder.handles:
        handle.remove()
    return recorder.latents, torch.from_numpy((images * 255).round().astype("uint8")), calls


def export(name, model, differences, spec, scale, start, end, steps) -> None:
    directory = HERE / name
    directory.mkdir(parents=True, exist_ok=True)
    base = mm.load(GOLDEN / model / "model")
    build(name, base.transformer, differences)
    net = SD3ControlNetModel.from_pretrained(directory / "model").float().eval()
    pipe = StableDiffusion3ControlNetPipeline(**base.components, controlnet=net)
    pipe.set_progress_bar_config(disable=True)
    request = json.loads((GOLDEN / model / "case.json").read_text())
    picture = torch.from_numpy(image_of(*spec))
    latents, images, calls = run(pipe, request, steps, picture, scale, start, end)
    _, without, _ = run(pipe, request, steps, picture, 0.0, start, end)
    active = [index for index, (used, _, _) in enumerate(calls) if used != 0]
    _, condition, residuals = calls[active[0]]
    off = (images.float() - without.float()).abs().mean().item()
    spread = images.float().std((1, 2)).mean().item()
    sizes = [f"{residual.std():.2f}" for residual in residuals]
    print(f"{name}: {off:.1f}/255 from the model alone, std {spread:.1f}, steps {active}, residuals {sizes}", flush=True)
    assert off > 3 and spread > 20 and all(torch.isfinite(value).all() for value in latents)
    out = {"picture": picture, "condition": condition, "image.u8": images}
    out |= {f"residual.{i:02}": value for i, value in enumerate(residuals)}
    out |= {f"step.{i:02}.latents": value for i, value in enumerate(latents)}
    save(directory / "golden.safetensors", out)
    mm.tok.dump(
        directory / "case.json", dict(model=model, scale=scale, start=start, end=end, steps=steps, active=active)
    )


class CannyPixels(VaeImageProcessor):
    """Control images of 0.5 to 128, and generated ones of -1 to 1."""

    def __init__(self):
        super().__init__(do_normalize=False)

    def preprocess(self, image, **kwargs):
        return super().preprocess(image, **kwargs) * 255 * 0.5 + 0.5

    def postprocess(self, image, output_type="pil", do_denormalize=None):
        return super().postprocess(image, output_type, [True] * image.shape[0])


def export_canny() -> None:
    model, _, spec, scale, start, end, steps = CASES["single"]
    net = SD3ControlNetModel.from_pretrained(HERE / "single" / "model").float().eval()
    pipe = StableDiffusion3ControlNetPipeline(**mm.load(GOLDEN / model / "model").components, controlnet=net)
    pipe.set_progress_bar_config(disable=True)
    pipe.image_processor = CannyPixels()
    request = json.loads((GOLDEN / model / "case.json").read_text())
    _, images, calls = run(pipe, request, steps, torch.from_numpy(image_of(*spec)), scale, start, end)
    (HERE / "canny").mkdir(exist_ok=True)
    save(HERE / "canny" / "golden.safetensors", {"condition": calls[0][1], "image.u8": images})


if __name__ == "__main__":
    for name, case in CASES.items():
        export(name, *case)
    export_canny()
