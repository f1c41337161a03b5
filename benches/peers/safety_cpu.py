"""Measures the published safety checkers on a CPU: random weights of their sizes, and the seconds of the reference code.

    python benches/peers/safety_cpu.py DIR       writes DIR/vit and DIR/clip (1.6 GB), then measures
    latentd bench pipeline --safety-checker DIR/vit --width 1024 --height 1024 --steps 1 --runs 9 --device cpu --dtype f32

transformers' ViTForImageClassification (as Falconsai's) and diffusers' StableDiffusionSafetyChecker (as CompVis'), f32,
two threads, an image of 1024x1024, resizing included. CPU seconds are the sum of all threads, comparable on a busy machine.
Versions as in tests/parity/export_golden.py.
"""

import logging
import pathlib
import statistics
import sys
import time

import numpy as np
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image
from transformers import CLIPConfig, ViTConfig, ViTForImageClassification
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

RUNS, WARMUP = 9, 2
CLIP_L_14 = dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, patch_size=14)


def measure(name: str, look) -> None:
    for _ in range(WARMUP):
        look()
    seconds, cpu = [], time.process_time()
    for _ in range(RUNS):
        started = time.perf_counter()
        look()
        seconds.append(time.perf_counter() - started)
    cpu = (time.process_time() - cpu) / RUNS
    print(f"{name}: {statistics.median(seconds):.3f} s median, {min(seconds):.3f} to {max(seconds):.3f}, CPU {cpu:.2f} s")


def main() -> None:
    directory = pathlib.Path(sys.argv[1])
    torch.set_num_threads(2)
    torch.manual_seed(0)
    logging.disable(logging.WARNING)
    vit = ViTForImageClassification(ViTConfig(id2label={0: "normal", 1: "nsfw"})).eval()
    clip = StableDiffusionSafetyChecker(CLIPConfig(projection_dim=768, vision_config=CLIP_L_14)).eval()
    processors = ViTImageProcessorPil(size={"height": 224, "width": 224}), CLIPImageProcessorPil()
    for name, model, processor in zip(("vit", "clip"), (vit, clip), processors):
        if not (directory / name).exists():
            model.save_pretrained(directory / name)
            processor.save_pretrained(directory / name)
    pixels = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3)).astype(np.uint8)
    image, blank = Image.fromarray(pixels), np.ones((1024, 1024, 3), np.float32)
    prepared = [lambda p=p: p(image, return_tensors="pt").pixel_values for p in processors]
    with torch.no_grad():
        measure("vit", lambda: vit(prepared[0]()).logits)
        measure("clip", lambda: clip(prepared[1](), [blank]))


if __name__ == "__main__":
    main()
