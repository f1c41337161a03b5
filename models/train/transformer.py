"""The MMDiT: from noise and text to latents, by flow matching.

Phase `small` learns from scenes at half size, where an image has a quarter of the tokens; its position embeddings are
those of the full-size image, averaged over the four tokens that a half-size token stands for, so that the layout of
an image is learnt once. Phase `full` continues at full size.
"""

from __future__ import annotations

import pathlib
import random
from dataclasses import dataclass

import text
import torch
import torch.nn.functional as F
from common import CHANNELS, Average, Log, advance, arguments, optimizers, rate
from diffusers import SD3Transformer2DModel
from latents import Pool
from loss_by_attribute import Probe, loss_of
from sizes import SIZES
from state import State, begin_with, replace
from world import captions

HEADS, HEAD_DIM, BLOCKS = 3, 64, 5
PATCH = 2
# Tokens of CLIP and T5: the pipeline's own lengths, or those that a short prompt fills.
LONG, SHORT = (77, 256), (60, 80)
LONG_SHARE = 0.3
UNCONDITIONAL = 0.1
# The share of noise levels that are uniform instead of logit-normal: the first step of sampling is pure noise.
UNIFORM = 0.1


@dataclass(frozen=True)
class Phase:
    """What differs between the phases.

    Images in a batch, new scenes in a step, learning rate, noise shift, and whether T5's padding is cut to the longest
    caption of the batch.
    """

    batch: int
    fresh: int
    peak: float
    shift: float
    trimmed: bool


PHASES = {"small": Phase(24, 1, 1.5e-3, 2.0, True), "full": Phase(8, 1, 7e-4, 3.0, False)}
# A GPU computes twice the batch in the same time, and takes half the steps.
CUDA_BATCH = 2


def build() -> SD3Transformer2DModel:
    width = HEADS * HEAD_DIM
    return SD3Transformer2DModel(
        # Also the unit of the position embeddings: that of the model before this one, whose blocks these began with.
        sample_size=32,
        patch_size=PATCH,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        num_layers=BLOCKS,
        attention_head_dim=HEAD_DIM,
        num_attention_heads=HEADS,
        joint_attention_dim=text.T5_WIDTH,
        caption_projection_dim=width,
        pooled_projection_dim=text.POOLED,
        pos_embed_max_size=48,
        qk_norm="rms_norm",
    )


def halve_positions(model: SD3Transformer2DModel) -> None:
    """Gives each token of a half-size image the mean of the four full-size positions that it covers."""
    full = model.pos_embed.cropped_pos_embed

    def cropped(height: int, width: int) -> torch.Tensor:
        rows, columns = 2 * height // PATCH, 2 * width // PATCH
        table = full(2 * height, 2 * width).reshape(1, rows, columns, -1).permute(0, 3, 1, 2)
        return F.avg_pool2d(table, 2).flatten(2).transpose(1, 2)

    model.pos_embed.cropped_pos_embed = cropped


@torch.no_grad()
def begin(model: SD3Transformer2DModel) -> None:
    """Zero-initialises the blocks' gates and the output, as in DiT."""
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
    """Latents with captions, one size of image and one length of text at a time."""

    def __init__(self, work: pathlib.Path, pool: Pool, phase: Phase, rng: random.Random, device: torch.device):
        self.pool, self.rng, self.device = pool, rng, device
        self.batch = phase.batch * (CUDA_BATCH if device.type == "cuda" else 1)
        self.trimmed = phase.trimmed
        self.tokens, self.encoders = text.load(work)
        self.encoders.to(device)
        self.by_size = pool.by_size()

    def next(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Latents `[B, 16, h, w]`, context `[B, L, 128]`, pooled `[B, 192]`."""
        sizes = [size for size in SIZES if len(self.by_size.get(size, ())) >= self.batch]
        size = self.rng.choices(sizes, [SIZES[size] for size in sizes])[0]
        chosen = self.rng.sample(self.by_size[size], self.batch)
        long = self.rng.random() < LONG_SHARE
        context, pooled = self.encode([self.caption(index, long) for index, _ in chosen], long)
        return torch.stack([latent for _, latent in chosen]).to(self.device).float(), context, pooled

    @torch.no_grad()
    def encode(self, texts: list[str], long: bool) -> tuple[torch.Tensor, torch.Tensor]:
        clip_length, t5_length = LONG if long else SHORT
        clip_l, clip_g, t5 = (one.to(self.device) for one in self.tokens(texts, t5_length))
        if self.trimmed:
            t5 = trim(t5)
        clip, t5, pooled = self.encoders(clip_l, clip_g, t5)
        return torch.cat([clip[:, :clip_length], t5], 1), pooled

    def caption(self, index: int, long: bool) -> str:
        if self.rng.random() < UNCONDITIONAL:
            return ""
        return captions.training_caption(text.scene_of(index), self.rng, long=long)


def trim(ids: torch.Tensor) -> torch.Tensor:
    """The ids without the columns in which every text has padding, in lengths of 32."""
    longest = int((ids != 0).sum(1).max())
    return ids[:, : 32 * -(-longest // 32)]


def sigmas(count: int, shift: float, device: torch.device) -> torch.Tensor:
    """Noise levels `[count]`: logit-normal and a few uniform, shifted towards noise."""
    plain = torch.randn(count, device=device).sigmoid()
    uniform = torch.rand(count, device=device)
    plain = torch.where(torch.rand(count, device=device) < UNIFORM, uniform, plain)
    return shift * plain / (1 + (shift - 1) * plain)


def train(work: pathlib.Path, name: str, steps: int, device: torch.device) -> None:
    torch.manual_seed(3)
    rng, phase = random.Random(3), PHASES[name]
    log = Log(work / "log.jsonl", f"transformer-{name}")
    model = build()
    begin(model)
    begin_with(work / ("transformer-start.pt" if name == "small" else "transformer-small.pt"), model)
    model.to(device)
    average = Average(model, 0.9995)
    if name == "small":
        halve_positions(model), halve_positions(average.module)
    matrices, others = optimizers(*by_kind(model), weight_decay=0.01)
    parts = {"model": model, "average": average, "matrices": matrices, "others": others}
    state = State(work / f"transformer-{name}-state.pt", steps, rng, **parts)
    pool = Pool(work, name, device)
    batches = Batches(work, pool, phase, rng, device)
    probe = Probe(pool, batches, name)
    log.write(step=state.step, scenes=len(pool.kept), parameters=sum(p.numel() for p in model.parameters()))
    running, since = 0.0, 0
    for step in state.run():
        latents, context, pooled = batches.next()
        sigma = sigmas(len(latents), phase.shift, device)
        loss = loss_of(model, latents, context, pooled, sigma, torch.randn_like(latents)).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        advance([matrices, others], rate(step, steps, phase.peak))
        average.update(model)
        pool.grow(phase.fresh)
        running, since = running + loss.item(), since + 1
        if step % 25 == 24:
            log.write(step=step + 1, loss=round(running / since, 5), scenes=len(pool.kept))
            running, since = 0.0, 0
            batches.by_size = pool.by_size()
        if step % 250 == 249:
            log.write(step=step + 1, by_attribute=probe.measure(average.module))
    replace(work / f"transformer-{name}.pt", average.module.cpu().state_dict())


def load(work: pathlib.Path) -> SD3Transformer2DModel:
    """The trained transformer, or the average so far of the newest phase that has a state."""
    model = build()
    files = [work / f"transformer-{name}{kind}.pt" for name in ("full", "small") for kind in ("", "-state")]
    found = torch.load(next(path for path in files if path.exists()), weights_only=False, map_location="cpu")
    model.load_state_dict(found["parts"]["average"]["module"] if "parts" in found else found)
    return model.eval().requires_grad_(False)


if __name__ == "__main__":
    options = arguments(phase=True)
    train(options.work, options.phase, options.amount, options.device)
