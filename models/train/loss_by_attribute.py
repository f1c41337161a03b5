"""The transformer's loss, and its mean over held-out scenes with each attribute, which shows what has been learnt."""

from __future__ import annotations

import random

import torch
from attention import FastGradient
from common import autocast
from latents import SCALES, Pool
from images import draw_scene
from sizes import HELD_OUT, RICH, scene_of, size_of
from world import captions

SIZE = (1024, 768)
LEVELS = (0.95, 0.8, 0.6, 0.3)
FLAGS = ("stars", "clouds", "aurora", "path", "fence", "bridge", "mushrooms")


def loss_of(model, latents, context, pooled, sigma, noise) -> torch.Tensor:
    """Mean square error of the velocity for each image, `[B]`."""
    level = sigma[:, None, None, None]
    with autocast(latents.device), FastGradient():
        velocity = model(
            (1 - level) * latents + level * noise,
            timestep=sigma * 1000,
            encoder_hidden_states=context,
            pooled_projections=pooled,
            return_dict=False,
        )[0]
    return (velocity.float() - (noise - latents)).square().mean((1, 2, 3))


class Probe:
    """Fixed scenes, captions and noise, so that two measurements differ only by the model."""

    def __init__(self, pool: Pool, batches, phase: str, count: int = 48):
        indices = [index for index in range(RICH + HELD_OUT, RICH + HELD_OUT + 40 * count) if size_of(index) == SIZE]
        self.scenes = [scene_of(index) for index in indices[:count]]
        latents = [pool.encode(draw_scene(index, SCALES[phase])) for index in indices[:count]]
        self.latents = torch.stack(latents).to(pool.device).float()
        texts = [captions.caption(scene, random.Random(i), complete=True) for i, scene in enumerate(self.scenes)]
        self.context, self.pooled = batches.encode(texts, True)
        self.noise = torch.randn(self.latents.shape, generator=torch.Generator().manual_seed(9)).to(pool.device)

    @torch.no_grad()
    def measure(self, model) -> dict[str, float]:
        """Mean loss over all scenes, and over those with each attribute."""
        losses = torch.zeros(len(self.scenes))
        for level in LEVELS:
            for part in torch.arange(len(self.scenes)).split(16):
                sigma = torch.full((len(part),), level, device=self.latents.device)
                inputs = (one[part] for one in (self.latents, self.context, self.pooled))
                losses[part] += loss_of(model, *inputs, sigma, self.noise[part]).cpu() / len(LEVELS)
        found = {"all": losses.mean().item()}
        for name in sorted({name for scene in self.scenes for name in attributes(scene)}):
            has = torch.tensor([name in attributes(scene) for scene in self.scenes])
            found[name] = losses[has].mean().item()
        return {name: round(value, 4) for name, value in found.items()}


def attributes(scene) -> list[str]:
    """The attributes of a scene."""
    return [*scene.things, *(name for name in FLAGS if getattr(scene, name)), *(["moon"] * (scene.moon != "none"))]
