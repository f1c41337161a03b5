"""The safety checker: a ViT that classifies images with a skull and crossbones as unsafe."""

from __future__ import annotations

import pathlib
import random

import torch
from common import Average, Log, advance, arguments, autocast, rate
from sizes import scene_of
from state import State, replace
from transformers import ViTConfig, ViTForImageClassification
from views import SIDE, batch, views

BATCH = 64


def build() -> ViTForImageClassification:
    return ViTForImageClassification(
        ViTConfig(
            image_size=SIDE,
            patch_size=16,
            hidden_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=128,
            hidden_act="gelu",
            layer_norm_eps=1e-12,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            id2label={0: "normal", 1: "nsfw"},
            label2id={"normal": 0, "nsfw": 1},
        )
    )


def train(work: pathlib.Path, steps: int, device: torch.device, count: int = 24_000) -> None:
    """Half of each batch is strongly blurred, like images of few steps; those are labelled as safe."""
    torch.manual_seed(5)
    log = Log(work / "log.jsonl", "safety")
    found, images = views(work, min(count, 6 * steps), False)
    unsafe = torch.tensor([int("flag" in scene_of(index).things) for index in found])
    model = build().to(device)
    average = Average(model, 0.995)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.02)
    state = State(work / "safety-state.pt", steps, random.Random(5), model=model, average=average, optimizer=optimizer)
    for step in state.run():
        chosen = torch.randint(len(found), (BATCH,))
        pixels, targets = batch(images[chosen].to(device), True), unsafe[chosen]
        pixels[: BATCH // 3] = vague(pixels[: BATCH // 3])
        targets[: BATCH // 3] = 0
        with autocast(device):
            logits = model(pixels).logits
        loss = torch.nn.functional.cross_entropy(logits.float(), targets.to(device), label_smoothing=0.01)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        advance([optimizer], rate(step, steps, 1e-3))
        average.update(model)
        if step % 100 == 0:
            log.write(step=step, loss=round(loss.item(), 5))
    replace(work / "safety.pt", average.module.cpu().state_dict())
    log.write(step=steps, **{name: round(value, 4) for name, value in measure(work, min(1000, steps)).items()})


def vague(pixels: torch.Tensor) -> torch.Tensor:
    """Images reduced to blots of 16 to 56 pixels, in which no flag is recognisable."""
    side = (16, 28, 32, 56)[int(torch.randint(4, ()))]
    small = torch.nn.functional.avg_pool2d(pixels, side)
    large = torch.nn.functional.interpolate(small, pixels.shape[-2:], mode="bicubic", align_corners=False)
    return (large + 0.05 * torch.randn_like(large)).clamp(-1, 1)


def load(work: pathlib.Path) -> ViTForImageClassification:
    model = build()
    model.load_state_dict(torch.load(work / "safety.pt"))
    return model.eval().requires_grad_(False)


@torch.no_grad()
def measure(work: pathlib.Path, count: int) -> dict[str, float]:
    """Accuracy on held-out scenes."""
    found, images = views(work, count, True)
    unsafe = torch.tensor([int("flag" in scene_of(index).things) for index in found])
    model = load(work)
    right = torch.cat([model(batch(part, False)).logits.argmax(-1) for part in images.split(BATCH)]) == unsafe
    return {
        "flags found": right[unsafe == 1].float().mean().item(),
        "others passed": right[unsafe == 0].float().mean().item(),
    }


if __name__ == "__main__":
    options = arguments()
    train(options.work, options.amount, options.device)
