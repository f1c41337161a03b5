"""Write golden/<case>/{inpaint.json,golden_inpaint.safetensors}: requests of export_golden.py with an initial image and a mask.

    python tests/parity/export_inpaint.py

Versions as in export_golden.py.

inpaint.json              {"strength", "steps"}
golden_inpaint.safetensors
    picture [H', W', 3] u8, mask [H", W", 3] u8
    start [k, c, h, w] f32          the latents before the first step
    step.NN.latents [k, c, h, w] f32  after the scheduler's step and after what the mask keeps was put back
    image.u8 [k, H, W, 3] u8

diffusers 0.42.1 decodes without adding the VAE's shift_factor (pipeline_stable_diffusion_3_inpaint.py:1368), unlike its other
pipelines of this model: image.u8 is its latents, decoded as those do.
"""

import json

import torch
from diffusers import StableDiffusion3InpaintPipeline
from export_golden import GOLDEN, Recorder, arguments, mm, save
from export_safety import image_of
from PIL import Image

# Image, mask, strength, steps: shrunk and enlarged; guided and not; the second generates two images from pure noise.
CASES = {
    "base": (("disc", 150, 100), ("smooth", 130, 90), 0.6, 6),
    "dual": (("smooth", 31, 44), ("disc", 48, 64), 1.0, 4),
}


def export(name: str, picture: tuple, mask: tuple, strength: float, steps: int) -> None:
    directory = GOLDEN / name
    pipe = StableDiffusion3InpaintPipeline(**mm.load(directory / "model").components)
    pipe.set_progress_bar_config(disable=True)
    request = json.loads((directory / "case.json").read_text())
    recorder = Recorder(pipe)
    out = {"picture": torch.from_numpy(image_of(*picture)), "mask": torch.from_numpy(image_of(*mask))}
    prepare = pipe.prepare_latents

    def started(*args, **kwargs):
        outputs = prepare(*args, **kwargs)
        out["start"] = outputs[0]
        return outputs

    pipe.prepare_latents = started
    with torch.no_grad():
        latents = pipe(
            image=Image.fromarray(out["picture"].numpy()),
            mask_image=Image.fromarray(out["mask"].numpy()),
            strength=strength,
            **arguments(request, steps, recorder),
            output_type="latent",
        ).images
        images = pipe.vae.decode(latents / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor).sample
    out |= {f"step.{i:02}.latents": v for i, v in enumerate(recorder.latents)}
    images = pipe.image_processor.postprocess(images, output_type="np")
    out["image.u8"] = torch.from_numpy((images * 255).round().astype("uint8"))
    grey = pipe.mask_processor.preprocess(
        Image.fromarray(out["mask"].numpy()), height=request["height"], width=request["width"]
    )
    share = grey.mean().item()
    print(f"{name}: {len(recorder.latents)} of {steps} steps, {share:.0%} generated", flush=True)
    assert 0.2 < share < 0.8
    save(directory / "golden_inpaint.safetensors", out)
    mm.tok.dump(directory / "inpaint.json", {"strength": strength, "steps": steps})


if __name__ == "__main__":
    for name, case in CASES.items():
        export(name, *case)
