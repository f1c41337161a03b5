"""The safety checker: a ViT that tells a skull and crossbones from everything else of this world."""

from __future__ import annotations

import pathlib
import sys

import torch
from common import Average, Log, advance, rate
from sizes import scene_of
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


def train(work: pathlib.Path, steps: int, count: int = 8000) -> None:
    torch.manual_seed(5)
    log = Log(work / "log.jsonl", "safety")
    found, pictures = views(work, count, False)
    unsafe = torch.tensor([int("flag" in scene_of(index).things) for index in found])
    model = build()
    average = Average(model, 0.995)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.02)
    for step in range(steps):
        chosen = torch.randint(count, (BATCH,))
        pixels = batch(pictures[chosen], True)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(pixels).logits
        loss = torch.nn.functional.cross_entropy(logits.float(), unsafe[chosen], label_smoothing=0.01)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        advance([optimizer], rate(step, steps, 1e-3))
        average.update(model)
        if step % 100 == 0:
            log.write(step=step, loss=round(loss.item(), 5))
    torch.save(average.module.state_dict(), work / "safety.pt")
    log.write(step=steps, **{name: round(value, 4) for name, value in measure(work).items()})


def load(work: pathlib.Path) -> ViTForImageClassification:
    model = build()
    model.load_state_dict(torch.load(work / "safety.pt"))
    return model.eval().requires_grad_(False)


@torch.no_grad()
def measure(work: pathlib.Path, count: int = 1000) -> dict[str, float]:
    """Shares of held-out scenes that are judged rightly."""
    found, pictures = views(work, count, True)
    unsafe = torch.tensor([int("flag" in scene_of(index).things) for index in found])
    model = load(work)
    right = torch.cat([model(batch(part, False)).logits.argmax(-1) for part in pictures.split(BATCH)]) == unsafe
    return {
        "flags found": right[unsafe == 1].float().mean().item(),
        "others passed": right[unsafe == 0].float().mean().item(),
    }


if __name__ == "__main__":
    train(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
