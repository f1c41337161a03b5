"""Write the golden files of the safety checker: tiny random classifiers and what transformers computes with them.

    python tests/parity/export_safety.py

Versions as in export_golden.py, and Pillow 13.0.0: pictures are resized by Pillow (`ViTImageProcessorPil`).

golden/safety/<name>/{config.json,preprocessor_config.json,model.safetensors}  a classifier
golden/safety/<name>/golden.safetensors  for each picture, by number:
    pixels.NN [3, H, W] f32       what ViTImageProcessor makes of it
    logits.NN [labels] f32
golden/safety/pictures.json  what each picture is: [kind, width, height]; models/src/safety/tests.rs paints the same
"""

import json
import pathlib

import make_model as mm
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import ViTConfig, ViTForImageClassification
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

GOLDEN = pathlib.Path(__file__).parent / "golden" / "safety"

PICTURES = [
    # As they come out of a pipeline: wide, tall, square; smaller than the classifier's input; its very size.
    ("smooth", 192, 144), ("smooth", 96, 128), ("smooth", 128, 128), ("smooth", 16, 16), ("smooth", 24, 24),
    ("noise", 160, 120), ("noise", 64, 64), ("noise", 24, 24), ("noise", 37, 53), ("noise", 9, 7), ("noise", 24, 100),
    # What an antialias filter can get wrong.
    ("lines", 128, 96), ("lines", 31, 200), ("lines", 200, 31), ("lines", 13, 24), ("checks", 120, 120),
    ("checks", 101, 67), ("checks", 48, 48), ("disc", 150, 100), ("disc", 40, 160), ("disc", 11, 11),
    # Degenerate.
    ("noise", 1, 1), ("noise", 300, 1), ("noise", 1, 300), ("smooth", 2, 2), ("flat", 64, 48),
]  # fmt: skip

CLASSIFIERS = {
    # As Falconsai/nsfw_image_detection, but small.
    "plain": (
        dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, image_size=24,
             patch_size=8, id2label={0: "normal", 1: "nsfw"}),
        dict(size={"height": 24, "width": 24}),
    ),
    # Everything else that may differ: sides, labels, no biases, another activation, another range.
    "other": (
        dict(hidden_size=30, num_hidden_layers=3, num_attention_heads=3, intermediate_size=50, image_size=[24, 36],
             patch_size=6, id2label={0: "drawing", 1: "Unsafe", 2: "photo"}, qkv_bias=False, hidden_act="gelu_new",
             layer_norm_eps=1e-6),
        dict(size={"height": 24, "width": 36}, image_mean=[0.48, 0.45, 0.41], image_std=[0.27, 0.26, 0.28]),
    ),
}  # fmt: skip


def picture(kind: str, width: int, height: int) -> np.ndarray:
    """`[height, width, 3]` bytes, from integers alone."""
    y, x, c = np.mgrid[0:height, 0:width, 0:3].astype(np.uint64)
    match kind:
        case "smooth":
            return ((x * (c + 1) * 100 // width + y * (3 - c) * 50 // height) % 256).astype(np.uint8)
        case "noise":
            bits = ((y * width + x) * 3 + c + 1) * 2654435761 % 2**32
            bits = (bits ^ (bits >> 15)) * 2246822519 % 2**32
            return ((bits ^ (bits >> 13)) >> 16).astype(np.uint8)
        case "lines":
            return np.where((x + y // 4) % (5 + c) < 1, 255, 20 * c).astype(np.uint8)
        case "checks":
            return np.where((x // 3 + y // (2 + c)) % 2 == 0, 255, 0).astype(np.uint8)
        case "disc":
            dx, dy = 2 * x.astype(np.int64) - width, 2 * y.astype(np.int64) - height
            radius = min(width, height) * 4 // 5
            return np.where(dx * dx + dy * dy < radius * radius, 250 - 60 * c, 5 + 100 * c).astype(np.uint8)
        case "flat":
            return (30 + 90 * c).astype(np.uint8)
    raise ValueError(kind)


def write(name: str, sizes: dict, processing: dict) -> None:
    directory = GOLDEN / name
    directory.mkdir(parents=True, exist_ok=True)
    model = ViTForImageClassification(ViTConfig(**sizes)).eval()
    mm.randomise(model, f"safety.{name}", 7)
    processor = ViTImageProcessorPil(**processing)
    model.save_pretrained(directory)
    processor.save_pretrained(directory)
    tensors = {}
    for index, spec in enumerate(PICTURES):
        pixels = processor(Image.fromarray(picture(*spec)), return_tensors="pt").pixel_values
        with torch.no_grad():
            tensors[f"logits.{index:02}"] = model(pixels).logits[0].clone()
        tensors[f"pixels.{index:02}"] = pixels[0].clone()
    if name != "plain":  # The first has shown every picture's pixels.
        tensors = {key: value for key, value in tensors.items() if "logits" in key or int(key[-2:]) % 5 == 0}
    save_file(tensors, directory / "golden.safetensors")
    for path in directory.glob("*.safetensors"):
        path.chmod(0o644)


def main() -> None:
    for name, (sizes, processing) in CLASSIFIERS.items():
        write(name, sizes, processing)
    lines = ",\n".join(f"  {json.dumps(spec)}" for spec in PICTURES)
    (GOLDEN / "pictures.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
