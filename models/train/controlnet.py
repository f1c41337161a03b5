"""Trains a small ControlNet for a model in the diffusers layout: images that have the edges of a control image.

    python models/train/controlnet.py models/mini models/mini-controlnet

The model is read as it is, whatever its shape, and is not changed. Scenes of the world are drawn with their captions; their
edges (`control_image.py`) and they themselves are encoded by the model's own autoencoder. One block of the image alone, the
kind that Stability's ControlNets for SD3.5 Large have, learns what to add to the image's tokens.
"""

from __future__ import annotations

import argparse
import pathlib
import random
import time
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from common import Average, advance, autocast, optimizers, rate
from control_image import control_image
from diffusers import SD3ControlNetModel, StableDiffusion3Pipeline
from images import draw_scene
from PIL import Image
from sizes import mixed, scene_of, size_of
from transformer import SHORT, sigmas
from world import captions

CPU = torch.device("cpu")
BLOCKS = 1
# What the config of a ControlNet has in common with its transformer's.
SHARED = (
    "sample_size",
    "patch_size",
    "in_channels",
    "out_channels",
    "attention_head_dim",
    "num_attention_heads",
    "caption_projection_dim",
    "pooled_projection_dim",
    "pos_embed_max_size",
)
# The share of scenes without captions, of which the control image alone says what the image shows.
UNCONDITIONAL = 0.4


@dataclass(frozen=True)
class Example:
    """A scene: latents of the image and of its edges, each `[C, h, w]`; context `[L, D]`; pooled text `[P]`."""

    image: torch.Tensor
    edges: torch.Tensor
    context: torch.Tensor
    pooled: torch.Tensor


def build(pipe: StableDiffusion3Pipeline) -> SD3ControlNetModel:
    """A ControlNet that adds nothing yet; what the transformer has too begins with the transformer's weights."""
    sizes = pipe.transformer.config
    net = SD3ControlNetModel(
        num_layers=BLOCKS,
        joint_attention_dim=None,
        use_pos_embed=False,
        force_zeros_for_pooled_projection=False,
        **{name: value for name, value in sizes.items() if name in SHARED},
    )
    net.time_text_embed.load_state_dict(pipe.transformer.time_text_embed.state_dict())
    for block, given in zip(net.transformer_blocks, pipe.transformer.transformer_blocks):
        block.load_state_dict(given.state_dict(), strict=False)
    return net


@torch.no_grad()
def encode(pipe: StableDiffusion3Pipeline, pictures: list[np.ndarray]) -> torch.Tensor:
    """The latents of pictures `[height, width, 3]`: `[B, C, h, w]`."""
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
    with autocast(CPU):
        latents = pipe.vae.encode(pixels.contiguous(memory_format=torch.channels_last)).latent_dist.mode()
    return (latents.float() - pipe.vae.config.shift_factor) * pipe.vae.config.scaling_factor


def examples(pipe: StableDiffusion3Pipeline, count: int) -> dict[tuple[int, int], list[Example]]:
    """The first scenes of the training, by size."""
    rng, found = random.Random(7), defaultdict(list)
    pipe.vae.to(memory_format=torch.channels_last)
    for number in range(count):
        index = mixed(number)
        drawn = draw_scene(index)
        image, edges = encode(pipe, [drawn, np.asarray(control_image(Image.fromarray(drawn)))])
        caption = captions.training_caption(scene_of(index), rng, long=False)
        found[size_of(index)].append(Example(image, edges, *prompt(pipe, caption)))
    return found


@torch.no_grad()
def prompt(pipe: StableDiffusion3Pipeline, text: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Context and pooled text of one prompt."""
    length = SHORT[1]
    encoded = pipe.encode_prompt(text, None, None, do_classifier_free_guidance=False, max_sequence_length=length)
    return encoded[0][0], encoded[2][0]


def controlled(pipe, net, noisy, edges, context, pooled, sigma) -> torch.Tensor:
    """The velocity `[B, C, h, w]` with what the ControlNet adds, as the pipeline computes it."""
    tokens = pipe.transformer.pos_embed(noisy)
    added = net(tokens, edges, pooled_projections=pooled, timestep=1000 * sigma, return_dict=False)[0]
    return pipe.transformer(
        noisy, context, pooled, 1000 * sigma, block_controlnet_hidden_states=added, return_dict=False
    )[0]


def by_kind(net: SD3ControlNetModel) -> tuple[list, list]:
    """The matrices of the blocks, and all other parameters."""
    matrices, others = [], []
    for name, value in net.named_parameters():
        inside = name.startswith("transformer_blocks") and value.ndim == 2 and "norm" not in name
        (matrices if inside else others).append(value)
    return matrices, others


def train(pipe: StableDiffusion3Pipeline, options: argparse.Namespace) -> SD3ControlNetModel:
    """The average of the weights at the end."""
    started, rng = time.process_time(), random.Random(7)
    scenes = examples(pipe, options.scenes)
    scenes = {size: found for size, found in scenes.items() if len(found) >= options.batch}
    empty = prompt(pipe, "")
    print(f"{options.scenes} scenes after {time.process_time() - started:.0f} s of processor time", flush=True)
    pipe.transformer.requires_grad_(False)
    net = build(pipe)
    average, optims = Average(net, 0.998), optimizers(*by_kind(net), weight_decay=0.01)
    running = 0.0
    for step in range(options.steps):
        size = rng.choices(list(scenes), [len(found) for found in scenes.values()])[0]
        loss = loss_of(pipe, net, rng.sample(scenes[size], options.batch), empty, rng)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        advance(optims, rate(step, options.steps, options.rate))
        average.update(net)
        running += loss.item()
        if step % 50 == 49:
            print(f"step {step + 1}: loss {running / 50:.4f}, {time.process_time() - started:.0f} s", flush=True)
            running = 0.0
    return average.module


def loss_of(pipe, net, scenes: list[Example], empty: tuple, rng: random.Random) -> torch.Tensor:
    """The flow-matching loss of scenes of one size, some of them without their captions."""
    image, edges = (torch.stack([getattr(one, name) for one in scenes]) for name in ("image", "edges"))
    texts = [empty if rng.random() < UNCONDITIONAL else (one.context, one.pooled) for one in scenes]
    context, pooled = (torch.stack(part) for part in zip(*texts))
    sigma, noise = sigmas(len(scenes), pipe.scheduler.config.shift, CPU), torch.randn_like(image)
    level = sigma[:, None, None, None]
    with autocast(CPU):
        velocity = controlled(pipe, net, (1 - level) * image + level * noise, edges, context, pooled, sigma)
    return F.mse_loss(velocity.float(), noise - image)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--scenes", type=int, default=384)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(13)
    pipe = StableDiffusion3Pipeline.from_pretrained(options.model, safety_checker=None, torch_dtype=torch.float32)
    net = train(pipe, options)
    net.half().save_pretrained(options.out)
    print(f"{options.out}: {sum(file.stat().st_size for file in options.out.glob('*.safetensors'))} bytes")


if __name__ == "__main__":
    main()
