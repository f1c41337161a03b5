"""Write golden/<case>/{skip.json,golden_skip.safetensors}: requests of export_golden.py with skip-layer guidance.

    python tests/parity/export_skip_layers.py

Versions as in export_golden.py.

skip.json               {"layers", "scale", "start", "stop", "steps"}
golden_skip.safetensors   step.NN.latents [k, c, h, w] f32; image.u8 [k, H, W, 3] u8
"""

import json

import torch
from export_golden import GOLDEN, Recorder, arguments, mm, save

# Layers, scale, start, stop, steps. The bounds are strict: with 5 steps and a start of 0.2 step 1 is without it.
CASES = {"base": ([1], 2.8, 0.2, 0.7, 5), "odd_heads": ([0, 2], 1.5, 0.01, 1.0, 4)}


def export(name: str, layers: list[int], scale: float, start: float, stop: float, steps: int) -> None:
    directory = GOLDEN / name
    pipe = mm.load(directory / "model")
    pipe.set_progress_bar_config(disable=True)
    request = json.loads((directory / "case.json").read_text())
    recorder = Recorder(pipe)
    with torch.no_grad():
        images = pipe(
            **arguments(request, steps, recorder),
            skip_guidance_layers=layers,
            skip_layer_guidance_scale=scale,
            skip_layer_guidance_start=start,
            skip_layer_guidance_stop=stop,
            output_type="np",
        ).images
    forwards = len(recorder.outputs)
    print(f"{name}: {forwards - steps} of {steps} steps with skip-layer guidance", flush=True)
    assert steps < forwards < 2 * steps
    out = {f"step.{i:02}.latents": v for i, v in enumerate(recorder.latents)}
    out["image.u8"] = torch.from_numpy((images * 255).round().astype("uint8"))
    save(directory / "golden_skip.safetensors", out)
    mm.tok.dump(directory / "skip.json", dict(layers=layers, scale=scale, start=start, stop=stop, steps=steps))


if __name__ == "__main__":
    for name, case in CASES.items():
        export(name, *case)
