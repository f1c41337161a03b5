"""Time diffusers on the CPU: the baseline of latentd's CPU path.

    python tests/parity/make_model.py /tmp/bench --bench
    python benches/peers/diffusers_cpu.py --model /tmp/bench --width 512 --height 512 --steps 8 --runs 5

Prints one JSON object: seconds of text, denoise and decode in the keys of `latentd bench pipeline` (median,
min, max of the runs after the warm-up), peak resident memory, versions. Run it on an idle machine, in the same session as ours.
--gguf FILE takes the transformer from a GGUF file, which needs the packages gguf and accelerate. --lora, --controlnet,
--ip-adapter, --image and --skip-layers are those of `latentd generate`. --disk-offload leaves the weights of the transformer and of the text
encoders on the disk, which needs the package accelerate.
"""

import argparse
import json
import os
import pathlib
import platform
import resource
import statistics
import tempfile
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import diffusers
import torch
import transformers
from PIL import Image


def load(directory: pathlib.Path, dtype: torch.dtype, gguf: pathlib.Path | None) -> diffusers.StableDiffusion3Pipeline:
    index = json.loads((directory / "model_index.json").read_text(encoding="utf-8"))
    missing = {name: None for name in ("text_encoder_3", "tokenizer_3") if index.get(name, [None])[0] is None}
    if gguf:
        quantization = diffusers.GGUFQuantizationConfig(compute_dtype=dtype)
        missing["transformer"] = diffusers.SD3Transformer2DModel.from_single_file(
            gguf, config=str(directory), subfolder="transformer", quantization_config=quantization, torch_dtype=dtype
        )
    return diffusers.StableDiffusion3Pipeline.from_pretrained(directory, dtype=dtype, **missing)


def with_adapters(pipe: diffusers.StableDiffusion3Pipeline, args: argparse.Namespace) -> diffusers.DiffusionPipeline:
    """The pipeline for what a request has beside its prompt."""
    if args.lora:
        pipe.load_lora_weights(args.lora.parent, weight_name=args.lora.name)
    if args.ip_adapter:
        encoder = transformers.SiglipVisionModel.from_pretrained(args.ip_encoder, torch_dtype=pipe.dtype)
        processor = transformers.AutoImageProcessor.from_pretrained(args.ip_encoder, backend="pil")
        pipe = diffusers.StableDiffusion3Pipeline(
            **pipe.components | {"image_encoder": encoder, "feature_extractor": processor}
        )
        pipe.load_ip_adapter(args.ip_adapter.parent, weight_name=args.ip_adapter.name, subfolder=".")
        pipe.set_ip_adapter_scale(0.5)
    if args.controlnet:
        net = diffusers.SD3ControlNetModel.from_pretrained(args.controlnet, torch_dtype=pipe.dtype)
        pipe = diffusers.StableDiffusion3ControlNetPipeline(**pipe.components, controlnet=net)
    elif args.mask:
        pipe = diffusers.StableDiffusion3InpaintPipeline(**pipe.components)
    elif args.image:
        pipe = diffusers.StableDiffusion3Img2ImgPipeline(**pipe.components)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def beside_the_prompt(args: argparse.Namespace) -> dict:
    """The arguments of a call for it."""
    pictures = {"control_image": args.control_image, "ip_adapter_image": args.ip_image, "image": args.image}
    pictures |= {"mask_image": args.mask}
    size = (args.width, args.height)
    given = {name: Image.open(path).convert("RGB").resize(size) for name, path in pictures.items() if path}
    if args.image:
        given["strength"] = args.strength
    if args.skip_layers:
        given["skip_guidance_layers"] = args.skip_layers
    return given


def timed_run(pipe: diffusers.StableDiffusion3Pipeline, args: argparse.Namespace) -> dict[str, float]:
    """Generates one image; returns the seconds of its stages."""
    marks = {}
    encode_prompt, decode = pipe.encode_prompt, pipe.vae.decode

    def encode_and_mark(*positional, **named):
        out = encode_prompt(*positional, **named)
        marks["encoded"] = time.perf_counter()
        return out

    def mark_and_decode(*positional, **named):
        marks["denoised"] = time.perf_counter()
        return decode(*positional, **named)

    pipe.encode_prompt, pipe.vae.decode = encode_and_mark, mark_and_decode
    try:
        start = time.perf_counter()
        pipe(
            args.prompt,
            width=args.width,
            height=args.height,
            num_inference_steps=args.steps,
            guidance_scale=args.guidance,
            generator=torch.Generator().manual_seed(0),
            **beside_the_prompt(args),
        )
        end = time.perf_counter()
    finally:
        pipe.encode_prompt, pipe.vae.decode = encode_prompt, decode
    return {
        "text": marks["encoded"] - start,
        "denoise": marks["denoised"] - marks["encoded"],
        "decode": end - marks["denoised"],
        "total": end - start,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--gguf", type=pathlib.Path)
    parser.add_argument("--lora", type=pathlib.Path)
    parser.add_argument("--controlnet", type=pathlib.Path)
    parser.add_argument("--control-image", type=pathlib.Path)
    parser.add_argument("--ip-adapter", type=pathlib.Path)
    parser.add_argument("--ip-encoder", type=pathlib.Path)
    parser.add_argument("--ip-image", type=pathlib.Path)
    parser.add_argument("--image", type=pathlib.Path)
    parser.add_argument("--mask", type=pathlib.Path)
    parser.add_argument("--strength", type=float)
    parser.add_argument("--skip-layers", type=lambda layers: [int(layer) for layer in layers.split(",")])
    parser.add_argument("--disk-offload", action="store_true")
    parser.add_argument("--prompt", default="a lighthouse on a rocky island at golden hour, oil painting")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--height", type=int, default=768)
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--guidance", type=float, default=4.5)
    parser.add_argument("--dtype", choices=("f32", "bf16"), default="f32")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    start = time.perf_counter()
    pipe = load(args.model, {"f32": torch.float32, "bf16": torch.bfloat16}[args.dtype], args.gguf)
    pipe = with_adapters(pipe, args)
    offloaded = offload(pipe) if args.disk_offload else None
    loaded = time.perf_counter() - start
    with torch.no_grad():
        for _ in range(args.warmup):
            timed_run(pipe, args)
        runs = [timed_run(pipe, args) for _ in range(args.runs)]
    report = {
        "bench": "pipeline",
        "engine": "diffusers",
        "device": "cpu",
        "precision": args.dtype,
        "model": str(args.model),
        "width": args.width,
        "height": args.height,
        "steps": args.steps,
        "guidance": args.guidance,
        **{f"{stage}_s": summary([run[stage] for run in runs]) for stage in runs[0]},
        "load_s": loaded,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "threads": args.threads,
        "cpu": cpu_name(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "transformers": transformers.__version__,
        },
    }
    print(json.dumps(report, indent=2))
    if offloaded:
        offloaded.cleanup()


def offload(pipe: diffusers.StableDiffusion3Pipeline) -> tempfile.TemporaryDirectory:
    """Writes weights to a folder, from which each module reads its own when it is called."""
    import accelerate

    folder = tempfile.TemporaryDirectory()
    for name in ("text_encoder", "text_encoder_2", "text_encoder_3", "transformer"):
        if (part := getattr(pipe, name)) is not None:
            accelerate.disk_offload(part, str(pathlib.Path(folder.name, name)), execution_device=torch.device("cpu"))
    # The pipeline takes its device from a part without a hook, where others have none.
    hook = accelerate.hooks.AlignDevicesHook(execution_device=torch.device("cpu"))
    accelerate.hooks.add_hook_to_module(pipe.vae, hook)
    return folder


def summary(seconds: list[float]) -> dict[str, float]:
    return {"median": statistics.median(seconds), "min": min(seconds), "max": max(seconds), "n": len(seconds)}


def cpu_name() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


if __name__ == "__main__":
    main()
