"""Write the golden files of the safety checker: tiny random classifiers and the reference's results with them.

    python tests/parity/export_safety.py

Versions as in export_golden.py, and Pillow 13.0.0: images are resized by Pillow (`ViTImageProcessorPil`,
`CLIPImageProcessorPil`).

golden/safety/<name>/{config.json,preprocessor_config.json,model.safetensors}  a classifier of transformers
golden/safety/<name>/golden.safetensors  for each image, by number:
    pixels.NN [3, H, W] f32       the output of ViTImageProcessor
    logits.NN [labels] f32
golden/safety/compvis       the same of diffusers' StableDiffusionSafetyChecker, with files as published by CompVis
golden/safety/compvis-pipe  safety_checker/ and feature_extractor/ as in the folder of a pipeline
    golden.safetensors: pixels.NN as above, and for all images, special concepts first:
    cosines [images, 3 + 17] f32, scores [images, 3 + 17] f32 as diffusers rounds them, flagged [images] u8
golden/safety/pictures.json  the images: [kind, width, height]; models/src/safety/golden_images.rs computes the same
"""

import builtins
import json
import pathlib

import make_model as mm
import numpy as np
import torch
from diffusers.pipelines.stable_diffusion import safety_checker as compvis
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPConfig, ViTConfig, ViTForImageClassification
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

GOLDEN = pathlib.Path(__file__).parent / "golden" / "safety"

IMAGES = [
    # As from a pipeline: wide, tall, square; smaller than the classifier's input; of its exact size.
    ("smooth", 192, 144), ("smooth", 96, 128), ("smooth", 128, 128), ("smooth", 16, 16), ("smooth", 24, 24),
    ("noise", 160, 120), ("noise", 64, 64), ("noise", 24, 24), ("noise", 37, 53), ("noise", 9, 7), ("noise", 24, 100),
    # Hard cases for an antialias filter.
    ("lines", 128, 96), ("lines", 31, 200), ("lines", 200, 31), ("lines", 13, 24), ("checks", 120, 120),
    ("checks", 101, 67), ("checks", 48, 48), ("disc", 150, 100), ("disc", 40, 160), ("disc", 11, 11),
    # Degenerate.
    ("noise", 1, 1), ("noise", 300, 1), ("noise", 1, 300), ("smooth", 2, 2), ("flat", 64, 48),
    # Like photographs: detailed at every scale.
    ("clouds", 256, 144), ("clouds", 75, 133), ("clouds", 24, 24), ("clouds", 700, 40), ("clouds", 31, 29),
]  # fmt: skip

CLASSIFIERS = {
    # Like Falconsai/nsfw_image_detection, but small.
    "plain": (
        dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, image_size=24,
             patch_size=8, id2label={0: "normal", 1: "nsfw"}),
        dict(size={"height": 24, "width": 24}),
    ),
    # Everything else that may vary: sides, labels, no biases, another activation, another range.
    "other": (
        dict(hidden_size=30, num_hidden_layers=3, num_attention_heads=3, intermediate_size=50, image_size=[24, 36],
             patch_size=6, id2label={0: "drawing", 1: "Unsafe", 2: "photo"}, qkv_bias=False, hidden_act="gelu_new",
             layer_norm_eps=1e-6),
        dict(size={"height": 24, "width": 36}, image_mean=[0.48, 0.45, 0.41], image_std=[0.27, 0.26, 0.28]),
    ),
}  # fmt: skip


def image_of(kind: str, width: int, height: int) -> np.ndarray:
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
        case "clouds":
            return sum(clouds(x, y, c, octave) for octave in range(4)).astype(np.uint8)
        case "flat":
            return (30 + 90 * c).astype(np.uint8)
    raise ValueError(kind)


def scatter(x: np.ndarray) -> np.ndarray:
    """A pseudorandom byte."""
    bits = (x + 1) * 2654435761 % 2**32
    bits = (bits ^ (bits >> 15)) * 2246822519 % 2**32
    return (bits ^ (bits >> 13)) >> 16 & 255


def clouds(x: np.ndarray, y: np.ndarray, c: np.ndarray, octave: int) -> np.ndarray:
    """Random bytes on a grid, in between a mixture of the four around, halved with every octave."""
    cell = np.uint64(32 >> octave)
    (column, fx), (row, fy) = np.divmod(x, cell), np.divmod(y, cell)

    def at(dx: int, dy: int) -> np.ndarray:
        return scatter(((row + dy) * 1009 + column + dx) * 3 + c + octave * 7919)

    upper = at(0, 0) * (cell - fx) + at(1, 0) * fx
    lower = at(0, 1) * (cell - fx) + at(1, 1) * fx
    return (upper * (cell - fy) + lower * fy) // (cell * cell) >> np.uint64(octave + 1)


def write(name: str, sizes: dict, processing: dict) -> None:
    directory = GOLDEN / name
    directory.mkdir(parents=True, exist_ok=True)
    model = ViTForImageClassification(ViTConfig(**sizes)).eval()
    mm.randomise(model, f"safety.{name}", 7)
    processor = ViTImageProcessorPil(**processing)
    model.save_pretrained(directory)
    processor.save_pretrained(directory)
    tensors = {}
    for index, spec in enumerate(IMAGES):
        pixels = processor(Image.fromarray(image_of(*spec)), return_tensors="pt").pixel_values
        with torch.no_grad():
            tensors[f"logits.{index:02}"] = model(pixels).logits[0].clone()
        tensors[f"pixels.{index:02}"] = pixels[0].clone()
    if name != "plain":  # The first classifier's file has the pixels of every image.
        tensors = {key: value for key, value in tensors.items() if "logits" in key or int(key[-2:]) % 5 == 0}
    save_file(tensors, directory / "golden.safetensors")
    for path in directory.glob("*.safetensors"):
        path.chmod(0o644)


# Sizes of two checkers, and other settings of the vision model in a configuration file.
COMPVIS = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, image_size=24,
               patch_size=8)  # fmt: skip
COMPVIS_PIPE = dict(hidden_size=30, num_hidden_layers=3, num_attention_heads=3, intermediate_size=50, image_size=28,
                    patch_size=7, hidden_act="gelu", layer_norm_eps=1e-6)  # fmt: skip


def old_config(sizes: dict) -> dict:
    """As written by transformers 4.21 and published by CompVis: with all defaults, and sizes twice."""
    common = {"_name_or_path": "", "architectures": None, "bos_token_id": None, "dropout": 0.0, "hidden_act": "quick_gelu",
              "id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "label2id": {"LABEL_0": 0, "LABEL_1": 1},
              "layer_norm_eps": 1e-05, "max_length": 20, "pruned_heads": {}, "torch_dtype": None}  # fmt: skip
    text = dict(hidden_size=8, intermediate_size=8, num_attention_heads=2, num_hidden_layers=1)
    return {
        "_commit_hash": None,
        "_name_or_path": "clip-vit-large-patch14/",
        "architectures": ["StableDiffusionSafetyChecker"],
        "initializer_factor": 1.0,
        "logit_scale_init_value": 2.6592,
        "model_type": "clip",
        "projection_dim": 12,
        "text_config": common | text | {"model_type": "clip_text_model"},
        "text_config_dict": text,
        "torch_dtype": "float32",
        "transformers_version": None,
        "vision_config": common | sizes | {"model_type": "clip_vision_model", "num_channels": 3},
        "vision_config_dict": {key: value for key, value in sizes.items() if key != "num_channels"},
    }


def old_names(tensors: dict) -> dict:
    """Names of transformers 4, with the buffer that it stored."""
    start = "vision_model."
    renamed = {start + name if name.startswith(start) else name: value for name, value in tensors.items()}
    positions = len(tensors["vision_model.embeddings.position_embedding.weight"])
    return renamed | {"vision_model.vision_model.embeddings.position_ids": torch.arange(positions)[None]}


def new_checker(name: str, projection: int, sizes: dict) -> compvis.StableDiffusionSafetyChecker:
    text = dict(hidden_size=8, num_attention_heads=2, num_hidden_layers=1, intermediate_size=8)
    config = CLIPConfig(projection_dim=projection, text_config=text, vision_config=sizes)
    model = compvis.StableDiffusionSafetyChecker(config).eval()
    mm.randomise(model, f"safety.{name}", 7)
    return model


def cosines(model: compvis.StableDiffusionSafetyChecker, pixels: torch.Tensor) -> torch.Tensor:
    """`[images, 3 + 17]`, as the forward pass computes them."""
    with torch.no_grad():
        embeds = model.visual_projection(model.vision_model(pixels)[1])
        of = [compvis.cosine_distance(embeds, concepts) for concepts in (model.special_care_embeds, model.concept_embeds)]
    return torch.cat(of, dim=1)


def set_thresholds(model: compvis.StableDiffusionSafetyChecker, of: torch.Tensor) -> None:
    """Thresholds by which each concept flags one image or two; one image only because a special concept lowers all thresholds."""
    special, ordinary = of[:, :3], of[:, 3:]
    model.special_care_embeds_weights.data = special.sort(dim=0).values[-4:-2].mean(dim=0)
    model.concept_embeds_weights.data = ordinary.sort(dim=0).values[-2:].mean(dim=0)
    cared = (special - model.special_care_embeds_weights > 0.001).any(dim=1)
    margins = (ordinary - model.concept_embeds_weights).max(dim=1).values
    closest = max((value, index) for index, value in enumerate(margins.tolist()) if cared[index] and value < -0.005)[1]
    concept = int((ordinary - model.concept_embeds_weights)[closest].argmax())
    model.concept_embeds_weights.data[concept] = ordinary[closest, concept] + 0.004


def judge(model: compvis.StableDiffusionSafetyChecker, pixels: torch.Tensor) -> tuple[list[float], bool]:
    """The scores that the forward pass rounds, in its order, and its verdict on the image."""
    scores = []
    compvis.round = lambda value, digits: scores.append(builtins.round(value, digits)) or scores[-1]
    images, flagged = model(pixels[None], [np.ones((4, 4, 3))])
    del compvis.round
    assert flagged[0] == (images[0].sum() == 0)
    return [float(score) for score in scores], flagged[0]


def write_compvis(name: str, projection: int, sizes: dict, save) -> None:
    """`save(directory, model)` writes the files and returns the folders of the checker and of its processor."""
    directory = GOLDEN / name
    directory.mkdir(parents=True, exist_ok=True)
    model = new_checker(name, projection, sizes)
    side = sizes["image_size"]
    processor = CLIPImageProcessorPil(size=side, crop_size=side)
    batch = torch.cat([processor(Image.fromarray(image_of(*spec)), return_tensors="pt").pixel_values for spec in IMAGES])
    set_thresholds(model, cosines(model, batch))
    checker, processing = save(directory, model)
    # From here on everything is read from the files, so that diffusers' interpretation of them is tested.
    model = compvis.StableDiffusionSafetyChecker.from_pretrained(checker).float().eval()
    processor = CLIPImageProcessorPil.from_pretrained(processing)
    batch = torch.cat([processor(Image.fromarray(image_of(*spec)), return_tensors="pt").pixel_values for spec in IMAGES])
    judged = [judge(model, pixels) for pixels in batch]
    scores, flagged = torch.tensor([scores for scores, _ in judged]), torch.tensor([flag for _, flag in judged])
    # Checks of the goldens: both verdicts occur, the adjustment decides one of them, and no score is so close to a rounding
    # boundary that another order of sums could change it.
    of = cosines(model, batch)
    thresholds = torch.cat([model.special_care_embeds_weights, model.concept_embeds_weights])
    unadjusted = of - thresholds
    assert 3 <= flagged.sum() <= len(IMAGES) - 3
    assert (flagged & ((unadjusted[:, 3:] * 1000).round() <= 0).all(dim=1)).any()
    adjusted = unadjusted.clone()
    adjusted[:, 3:] += 0.01 * (scores[:, :3] > 0).any(dim=1, keepdim=True)
    assert ((adjusted * 1000 - 0.5).abs() > 0.01).all(), "a verdict hangs on rounding"
    tensors = {f"pixels.{index:02}": pixels.clone() for index, pixels in enumerate(batch)}
    if name != "compvis":
        tensors = {key: value for key, value in tensors.items() if int(key[-2:]) % 5 == 0}
    tensors |= {"cosines": of, "scores": scores, "flagged": flagged.to(torch.uint8)}
    save_file(tensors, directory / "golden.safetensors")
    for path in directory.rglob("*.safetensors"):
        path.chmod(0o644)


def save_old(directory: pathlib.Path, model: compvis.StableDiffusionSafetyChecker) -> tuple[pathlib.Path, pathlib.Path]:
    """Files like those of CompVis/stable-diffusion-safety-checker, of transformers 4.21."""
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(old_names(tensors), directory / "model.safetensors", metadata={"format": "pt"})
    (directory / "config.json").write_text(json.dumps(old_config(COMPVIS), indent=2) + "\n", encoding="utf-8")
    side = COMPVIS["image_size"]
    processing = {"crop_size": side, "do_center_crop": True, "do_normalize": True, "do_resize": True,
                  "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": [0.48145466, 0.4578275, 0.40821073],
                  "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3, "size": side}  # fmt: skip
    (directory / "preprocessor_config.json").write_text(json.dumps(processing, indent=2) + "\n", encoding="utf-8")
    return directory, directory


def save_new(directory: pathlib.Path, model: compvis.StableDiffusionSafetyChecker) -> tuple[pathlib.Path, pathlib.Path]:
    """Files as written by `save_pretrained` of a pipeline in half precision today."""
    folders = directory / "safety_checker", directory / "feature_extractor"
    model.half().save_pretrained(folders[0])
    side = COMPVIS_PIPE["image_size"]
    CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side}).save_pretrained(folders[1])
    return folders


def main() -> None:
    for name, (sizes, processing) in CLASSIFIERS.items():
        write(name, sizes, processing)
    write_compvis("compvis", 12, COMPVIS, save_old)
    write_compvis("compvis-pipe", 10, COMPVIS_PIPE, save_new)
    lines = ",\n".join(f"  {json.dumps(spec)}" for spec in IMAGES)
    (GOLDEN / "pictures.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
