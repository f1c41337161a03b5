"""The MMDiT: from noise and text to latents, by flow matching."""

from __future__ import annotations

import pathlib
import random
import sys

import text
import torch
from common import CHANNELS, Average, Log, advance, optimizers, rate
from diffusers import SD3Transformer2DModel
from latents import Pool
from sizes import SIZES
from world import captions

HEADS, HEAD_DIM, BLOCKS = 3, 64, 4
BATCH = 48
# Tokens of CLIP and T5: the pipeline's own lengths, or those that a short prompt fills.
LONG, SHORT = (77, 256), (40, 64)
UNCONDITIONAL = 0.1
SHIFT = 2.0
PEAK = 2e-3


def build() -> SD3Transformer2DModel:
    width = HEADS * HEAD_DIM
    return SD3Transformer2DModel(
        sample_size=32,
        patch_size=2,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        num_layers=BLOCKS,
        attention_head_dim=HEAD_DIM,
        num_attention_heads=HEADS,
        joint_attention_dim=text.T5_WIDTH,
        caption_projection_dim=width,
        pooled_projection_dim=text.POOLED,
        pos_embed_max_size=24,
        qk_norm="rms_norm",
    )


@torch.no_grad()
def begin(model: SD3Transformer2DModel) -> None:
    """Blocks that add nothing and an output of zero at first, as in DiT."""
    for module in model.modules():
        if type(module).__name__.startswith(("AdaLayerNorm", "SD35AdaLayerNorm")):
            module.linear.weight.zero_(), module.linear.bias.zero_()
    model.proj_out.weight.zero_(), model.proj_out.bias.zero_()


def by_kind(model: SD3Transformer2DModel) -> tuple[list, list]:
    """The matrices of the blocks, and all other parameters."""
    matrices, others = [], []
    for name, value in model.named_parameters():
        inside = name.startswith("transformer_blocks") and value.ndim == 2 and "norm" not in name
        (matrices if inside else others).append(value)
    return matrices, others


class Batches:
    """Latents with captions, one size of picture and one length of text at a time."""

    def __init__(self, work: pathlib.Path, rng: random.Random):
        self.pool, self.rng = Pool(work), rng
        self.tokens, self.encoders = text.load(work)

    @torch.no_grad()
    def next(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Latents `[B, 16, h, w]`, context `[B, L, 128]`, pooled `[B, 192]`."""
        sizes = [size for size in SIZES if len(self.pool.by_size.get(size, ())) >= BATCH]
        size = self.rng.choices(sizes, [SIZES[size] for size in sizes])[0]
        chosen = self.rng.sample(self.pool.by_size[size], BATCH)
        long = self.rng.random() < 0.2
        texts = [self.caption(index, long) for index, _ in chosen]
        clip_length, t5_length = LONG if long else SHORT
        clip, t5, pooled = self.encoders(*self.tokens(texts, t5_length))
        latents = torch.stack([value for _, value in chosen]).float()
        return latents, torch.cat([clip[:, :clip_length], t5], 1), pooled

    def caption(self, index: int, long: bool) -> str:
        if self.rng.random() < UNCONDITIONAL:
            return ""
        return captions.caption(text.scene_of(index), self.rng, long=long)


def sigmas(count: int) -> torch.Tensor:
    """Noise levels `[count]`: logit-normal, moved towards noise."""
    plain = torch.randn(count).sigmoid()
    return SHIFT * plain / (1 + (SHIFT - 1) * plain)


def train(work: pathlib.Path, steps: int) -> None:
    """Trains from the start, or goes on from where an earlier run of the same length was cut off."""
    torch.manual_seed(3)
    log = Log(work / "log.jsonl", "transformer")
    model = build()
    begin(model)
    average = Average(model, 0.9995)
    optims = optimizers(*by_kind(model), weight_decay=0.01)
    start = 0
    if (saved := work / "transformer-state.pt").exists():
        state = torch.load(saved, weights_only=False)
        start = average.steps = state["step"]
        model.load_state_dict(state["model"])
        average.module.load_state_dict(state["average"])
        for optim, value in zip(optims, state["optims"]):
            optim.load_state_dict(value)
        torch.manual_seed(3 + start)
    batches = Batches(work, random.Random(3 + start))
    log.write(step=start, scenes=batches.pool.grow(), parameters=sum(p.numel() for p in model.parameters()))
    for block in model.transformer_blocks:
        block.compile(dynamic=True)
    running = 0.0
    for step in range(start, steps):
        latents, context, pooled = batches.next()
        sigma = sigmas(len(latents))
        noise = torch.randn_like(latents)
        level = sigma[:, None, None, None]
        noisy = (1 - level) * latents + level * noise
        with torch.autocast("cpu", torch.bfloat16):
            velocity = model(
                noisy,
                timestep=sigma * 1000,
                encoder_hidden_states=context,
                pooled_projections=pooled,
                return_dict=False,
            )[0]
        loss = (velocity.float() - (noise - latents)).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        advance(optims, rate(step, steps, PEAK))
        average.update(model)
        running += loss.item() / 50
        if step % 50 == 49:
            log.write(step=step + 1, loss=round(running, 5))
            running = 0.0
        if step % 250 == 249 or step == steps - 1:
            batches.pool.grow()
            save(saved, step + 1, model, average, optims)
    log.write(step=steps, scenes=batches.pool.grow())
    (work / "transformer.done").touch()


def save(path: pathlib.Path, step: int, model, average: Average, optims) -> None:
    state = {"step": step, "model": model.state_dict(), "average": average.module.state_dict()}
    scratch = path.with_suffix(".new")
    torch.save(state | {"optims": [optim.state_dict() for optim in optims]}, scratch)
    scratch.rename(path)


def load(work: pathlib.Path) -> SD3Transformer2DModel:
    model = build()
    model.load_state_dict(torch.load(work / "transformer-state.pt", weights_only=False)["average"])
    return model.eval().requires_grad_(False)


if __name__ == "__main__":
    train(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
