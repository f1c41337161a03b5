"""Writes the trained parts as a model directory in the diffusers layout, in bf16, to be embedded in the executable."""

from __future__ import annotations

import json
import pathlib
import shutil
import sys
import tempfile

import safety
import text
import torch
import transformer
import vae
import vocabulary
from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline
from transformers import ViTImageProcessor

MINI = pathlib.Path(__file__).resolve().parent.parent / "mini"
LIMIT = 22_000_000


def write(work: pathlib.Path, directory: pathlib.Path) -> None:
    """Replaces the model's parts in `directory`; other files stay."""
    with tempfile.TemporaryDirectory() as scratch:
        made = pathlib.Path(scratch)
        pipe = pipeline(work)
        for name in ("text_encoder", "text_encoder_2", "text_encoder_3", "transformer", "vae"):
            getattr(pipe, name).to(torch.bfloat16).save_pretrained(made / name)
        pipe.scheduler.save_pretrained(made / "scheduler")
        for name in ("tokenizer", "tokenizer_2", "tokenizer_3"):
            shutil.copytree(work / name, made / name)
        if (work / "safety.pt").exists():
            save_safety(work, made / "safety_checker")
        else:  # A model to inspect during training.
            shutil.copytree(MINI / "safety_checker", made / "safety_checker")
        index(pipe, made)
        vocabulary.write(made)
        tidy(made)
        for folder in filter(pathlib.Path.is_dir, made.iterdir()):
            shutil.rmtree(directory / folder.name, ignore_errors=True)
        shutil.copytree(made, directory, dirs_exist_ok=True)
    size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file() and path.suffix != ".md")
    print(f"{size / 1e6:.2f} MB")
    assert size <= LIMIT, f"{size} bytes are more than {LIMIT}"


def pipeline(work: pathlib.Path) -> StableDiffusion3Pipeline:
    """The trained parts as diffusers' own pipeline; of unfinished stages the average so far."""
    tokens, encoders = text.load(work)
    pipe = StableDiffusion3Pipeline(
        tokenizer=tokens.clip_l,
        tokenizer_2=tokens.clip_g,
        tokenizer_3=tokens.t5,
        text_encoder=encoders.clip_l,
        text_encoder_2=encoders.clip_g,
        text_encoder_3=encoders.t5,
        transformer=transformer.load(work),
        vae=vae.load(work),
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=3.0),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def save_safety(work: pathlib.Path, directory: pathlib.Path) -> None:
    safety.load(work).to(torch.bfloat16).save_pretrained(directory)
    ViTImageProcessor(size={"height": safety.SIDE, "width": safety.SIDE}).save_pretrained(directory)


def index(pipe: StableDiffusion3Pipeline, made: pathlib.Path) -> None:
    found = {"_class_name": "StableDiffusion3Pipeline", "_diffusers_version": "0.29.0.dev0"}
    for name, part in sorted(pipe.components.items()):
        library = "diffusers" if name in ("transformer", "vae", "scheduler") else "transformers"
        kind = "T5TokenizerFast" if name == "tokenizer_3" else type(part).__name__
        found[name] = [None, None] if part is None else [library, kind]
    found["_latentd"] = {"name": "mini"}
    text.tok.dump(made / "model_index.json", found)


def tidy(made: pathlib.Path) -> None:
    """Removes redundant files, unused lines, and paths of this machine."""
    for name in ("tokenizer", "tokenizer_2"):
        (made / name / "special_tokens_map.json").unlink(missing_ok=True)
    for path in [*made.glob("tokenizer*/vocab.json"), made / "tokenizer_3" / "tokenizer.json"]:
        path.write_text(json.dumps(json.loads(path.read_text()), ensure_ascii=False, separators=(",", ":")))
    for path in made.rglob("*.safetensors"):
        path.chmod(0o644)
    for path in made.glob("*/*config.json"):
        value = json.loads(path.read_text())
        value.pop("_name_or_path", None)
        text.tok.dump(path, value)
        assert str(made.parent) not in path.read_text(), f"{path} names a path of this machine"


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
