"""Trains a small LoRA for a model in the diffusers layout: scenes in black and white.

    python models/train/lora.py models/mini models/mini-lora/black-and-white.safetensors

The model is read as it is, whatever its shape. Scenes of the world are drawn with their captions, made grey and encoded by
the model's own autoencoder; the low-rank products beside the transformer's layers learn the velocity from noise to them.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import random
import time

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import StableDiffusion3Pipeline
from safetensors.torch import save_file
from sizes import mixed, scene_of
from world import captions, render

# Layers of a block that change, and the last one, which mixes the channels of a token.
CHANGED = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "ff.net.0.proj", "ff.net.2")
LAST = "proj_out"
# Half of fal's default size, where an image has a quarter of the tokens; and T5's tokens, as the model's own training has them.
SIZE, T5_TOKENS = (512, 384), 64


class Adapted(torch.nn.Module):
    """A linear layer with a product beside it."""

    def __init__(self, layer: torch.nn.Linear, rank: int):
        super().__init__()
        self.layer = layer
        self.down = torch.nn.Parameter(torch.randn(rank, layer.in_features) / layer.in_features**0.5)
        self.up = torch.nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) + F.linear(F.linear(x, self.down), self.up)


def adapt(transformer: torch.nn.Module, rank: int) -> dict[str, Adapted]:
    """Puts products beside the layers; returns them by the layers' names."""
    found = [
        name
        for name, module in transformer.named_modules()
        if isinstance(module, torch.nn.Linear) and (name == LAST or name.endswith(CHANGED))
    ]
    adapted = {}
    for name in found:
        parent, _, leaf = name.rpartition(".")
        owner = transformer.get_submodule(parent)
        adapted[name] = Adapted(getattr(owner, leaf), rank)
        setattr(owner, leaf, adapted[name])
    return adapted


def grey(image: np.ndarray) -> np.ndarray:
    """The luminance, with more contrast, in all three channels."""
    light = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    light = np.clip((light - 128) * 1.25 + 128, 0, 255)
    return np.repeat(light[..., None], 3, 2).astype(np.uint8)


@torch.no_grad()
def examples(pipe: StableDiffusion3Pipeline, count: int) -> list[torch.Tensor]:
    """Latents `[count, C, h, w]`, context and pooled text of grey scenes, an eighth of them without a caption."""
    rng, latents = random.Random(5), []
    scale, shift = pipe.vae.config.scaling_factor, pipe.vae.config.shift_factor
    for number in range(count):
        pixels = torch.from_numpy(grey(render.render(scene_of(mixed(number)), *SIZE)))
        pixels = pixels.permute(2, 0, 1)[None].float() / 127.5 - 1
        latents.append((pipe.vae.encode(pixels).latent_dist.mode() - shift) * scale)
    prompts = [captions.training_caption(scene_of(mixed(number)), rng, long=False) for number in range(count)]
    prompts = ["" if number % 8 == 0 else prompt for number, prompt in enumerate(prompts)]
    encoded = pipe.encode_prompt(prompts, None, None, do_classifier_free_guidance=False, max_sequence_length=T5_TOKENS)
    return [torch.cat(latents), encoded[0], encoded[2]]


def train(pipe: StableDiffusion3Pipeline, options: argparse.Namespace) -> dict[str, Adapted]:
    started = time.process_time()
    scenes = examples(pipe, options.scenes)
    print(f"{options.scenes} scenes after {time.process_time() - started:.0f} s of processor time", flush=True)
    pipe.transformer.requires_grad_(False)
    adapted = adapt(pipe.transformer, options.rank)
    parameters = [value for layer in adapted.values() for value in (layer.down, layer.up)]
    optimizer = torch.optim.AdamW(parameters, options.rate, betas=(0.9, 0.99), weight_decay=0.0)
    shift, running = pipe.scheduler.config.shift, 0.0
    for step in range(options.steps):
        chosen = torch.randint(options.scenes, (options.batch,))
        latents, context, pooled = (part[chosen] for part in scenes)
        plain = torch.rand(options.batch)
        sigma = shift * plain / (1 + (shift - 1) * plain)
        noise, level = torch.randn_like(latents), sigma[:, None, None, None]
        noisy = (1 - level) * latents + level * noise
        velocity = pipe.transformer(noisy, context, pooled, 1000 * sigma, return_dict=False)[0]
        loss = F.mse_loss(velocity, noise - latents)
        loss.backward()
        optimizer.param_groups[0]["lr"] = options.rate * min(1, (step + 1) / 20) * (1 - step / options.steps)
        optimizer.step()
        optimizer.zero_grad()
        running += loss.item()
        if step % 20 == 19:
            print(f"step {step + 1}: loss {running / 20:.4f}, {time.process_time() - started:.0f} s", flush=True)
            running = 0.0
    return adapted


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--scenes", type=int, default=64)
    parser.add_argument("--steps", type=int, default=180)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(11)
    pipe = StableDiffusion3Pipeline.from_pretrained(options.model, safety_checker=None, torch_dtype=torch.float32)
    adapted = train(pipe, options)
    tensors = {}
    for name, layer in adapted.items():
        tensors[f"transformer.{name}.lora_A.weight"] = layer.down.detach().half().contiguous()
        tensors[f"transformer.{name}.lora_B.weight"] = layer.up.detach().half().contiguous()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    about = {"rank": options.rank, "steps": options.steps, "scenes": options.scenes, "batch": options.batch}
    save_file(tensors, options.out, {"format": "pt", "trained": json.dumps(about)})
    print(f"{options.out}: {options.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
