"""Trains the three text encoders to predict the labels of a scene from its caption.

The transformer later receives only their features, so the labels must be predictable from them: from the two pooled
vectors by a linear layer, and from the tokens of CLIP and of T5 by attention.
"""

from __future__ import annotations

import functools
import pathlib
import random
import sys

import torch
import torch.nn.functional as F
from common import Average, Log, advance, arguments, autocast, rate
from labels import CLASSES, labels
from sizes import mixed, scene_of
from state import State, begin_with, replace
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)
from world import captions

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "parity"))

import make_tokenizers as tok

MERGES, PIECES = 1600, 1800
WIDTH, T5_WIDTH, PROJECTIONS = 64, 128, (64, 128)
POOLED = sum(PROJECTIONS)
BATCH = 64
# Number of CLIP tokens that is enough for most short captions.
SHORT = 64


@functools.cache
def corpus() -> tuple[str, ...]:
    """The captions that the tokenizers are trained on."""
    return tuple(caption_of(mixed(count), 0) for count in range(20_000))


def caption_of(index: int, version: int, long: bool = True) -> str:
    """One of the many captions of scene number `index`."""
    return captions.training_caption(scene_of(index), random.Random(f"caption {index} {version}"), long=long)


def write_tokenizers(directory: pathlib.Path) -> None:
    tok.write_clip(directory / "tokenizer", tok.EOS, MERGES, False, corpus)
    tok.write_clip(directory / "tokenizer_2", "!", MERGES, False, corpus)
    tok.write_t5(directory / "tokenizer_3", PIECES, 4, False, corpus)


class Tokens:
    """Token ids of texts, as in the pipeline."""

    def __init__(self, directory: pathlib.Path):
        self.clip_l = CLIPTokenizer.from_pretrained(directory / "tokenizer")
        self.clip_g = CLIPTokenizer.from_pretrained(directory / "tokenizer_2")
        self.t5 = T5TokenizerFast.from_pretrained(directory / "tokenizer_3")

    def __call__(self, texts: list[str], t5_length: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        def ids(tokenizer, length):
            return tokenizer(
                texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
            ).input_ids

        return ids(self.clip_l, 77), ids(self.clip_g, 77), ids(self.t5, t5_length)


class Encoders(nn.Module):
    """CLIP-L, CLIP-G and T5 in miniature."""

    def __init__(self, tokens: Tokens):
        super().__init__()
        self.clip_l = clip(tokens.clip_l, PROJECTIONS[0], "quick_gelu")
        self.clip_g = clip(tokens.clip_g, PROJECTIONS[1], "gelu")
        self.t5 = T5EncoderModel(
            T5Config(
                vocab_size=len(tokens.t5) + 4,
                d_model=T5_WIDTH,
                d_kv=32,
                d_ff=192,
                num_layers=3,
                num_heads=4,
                feed_forward_proj="gated-gelu",
                dropout_rate=0.0,
                tie_word_embeddings=False,
            )
        )

    def forward(self, ids_l, ids_g, ids_t5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """CLIP's tokens `[B, 77, 128]`, T5's `[B, L, 128]`, pooled `[B, 192]`."""
        l = self.clip_l(ids_l, output_hidden_states=True)
        g = self.clip_g(ids_g, output_hidden_states=True)
        tokens = torch.cat([l.hidden_states[-2], g.hidden_states[-2]], -1)
        return tokens, self.t5(ids_t5).last_hidden_state, torch.cat([l.text_embeds, g.text_embeds], -1)


def clip(tokenizer: CLIPTokenizer, projection: int, act: str) -> CLIPTextModelWithProjection:
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            projection_dim=projection,
            num_hidden_layers=2,
            num_attention_heads=2,
            hidden_act=act,
            max_position_embeddings=77,
            pad_token_id=1,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


class Reader(nn.Module):
    """Labels from tokens, by a few learned queries, or from a vector."""

    def __init__(self, width: int, queries: int):
        super().__init__()
        outputs = sum(len(values) for values in CLASSES.values())
        self.queries = nn.Parameter(torch.randn(queries, width) * 0.2) if queries else None
        self.key = nn.Linear(width, width) if queries else None
        self.out = nn.Linear(width * max(1, queries), outputs)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if self.queries is not None:
            weights = (self.key(features) @ self.queries.T).softmax(1)
            features = torch.einsum("blq,blw->bqw", weights, features).flatten(1)
        return self.out(features)


def reading_loss(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Mean cross entropy over labels, and the share that is right."""
    parts = logits.split([len(values) for values in CLASSES.values()], -1)
    loss = sum(F.cross_entropy(part, targets[:, i]) for i, part in enumerate(parts)) / len(parts)
    right = torch.stack([part.argmax(-1) == targets[:, i] for i, part in enumerate(parts)]).float().mean()
    return loss, right.item()


def targets_of(indices: list[int]) -> torch.Tensor:
    return torch.tensor([[labels(scene_of(index))[name] for name in CLASSES] for index in indices])


def train(work: pathlib.Path, steps: int, device: torch.device) -> None:
    torch.manual_seed(2)
    rng = random.Random(2)
    log = Log(work / "log.jsonl", "text")
    if not (work / "tokenizer_3").exists():
        write_tokenizers(work)
    tokens = Tokens(work)
    encoders = Encoders(tokens).to(device)
    begin_with(work / "text-start.pt", encoders)
    readers = nn.ModuleList([Reader(128, 12), Reader(T5_WIDTH, 12), Reader(POOLED, 0)]).to(device)
    both = nn.ModuleList([encoders, readers])
    average = Average(encoders, 0.998)
    optimizer = torch.optim.AdamW(both.parameters(), 1e-3, weight_decay=0.01)
    state = State(work / "text-state.pt", steps, rng, both=both, average=average, optimizer=optimizer)
    log.write(step=state.step, parameters=sum(p.numel() for p in encoders.parameters()))
    for step in state.run():
        indices = [mixed(rng.randrange(1 << 28)) for _ in range(BATCH)]
        long = rng.random() < 0.5
        texts = [caption_of(index, step, long) for index in indices]
        clip_l, clip_g, t5 = tokens(texts, 256 if long else rng.choice((64, 80)))
        if not long:  # CLIP is causal: padding at the end changes nothing before it.
            clip_l, clip_g = clip_l[:, :SHORT], clip_g[:, :SHORT]
        with autocast(device):
            features = [feature.float() for feature in encoders(clip_l.to(device), clip_g.to(device), t5.to(device))]
        targets = targets_of(indices).to(device)
        results = [reading_loss(reader(feature), targets) for reader, feature in zip(readers, features)]
        # Keep features small, for an embedder without norms, and without outlier tokens.
        size = sum(feature.square().mean() for feature in features[::2])
        (sum(loss for loss, _ in results) + 1e-3 * size).backward()
        torch.nn.utils.clip_grad_norm_(both.parameters(), 1.0)
        advance([optimizer], rate(step, steps, 3e-3))
        average.update(encoders)
        if step % 50 == 0 or step == steps - 1:
            names = ("clip", "t5", "pooled")
            log.write(
                step=step,
                long=long,
                **{f"{n} loss": round(l.item(), 4) for n, (l, _) in zip(names, results)},
                **{f"{n} right": round(r, 4) for n, (_, r) in zip(names, results)},
            )
    replace(work / "text.pt", average.module.cpu().state_dict())


def load(work: pathlib.Path) -> tuple[Tokens, Encoders]:
    tokens = Tokens(work)
    encoders = Encoders(tokens)
    encoders.load_state_dict(torch.load(work / "text.pt"))
    return tokens, encoders.eval().requires_grad_(False)


if __name__ == "__main__":
    options = arguments()
    train(options.work, options.amount, options.device)
