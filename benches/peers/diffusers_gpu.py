"""Time diffusers' SD3.5 denoising loop as `latentd bench denoise --synthetic` times ours, in the same JSON keys.

    python benches/peers/diffusers_gpu.py --synthetic sd3.5-large --width 1024 --height 1024 --steps 28 --cfg 4.5 \
        --precision bf16 --compile --json diffusers.json

Random weights are made on the device: nothing is downloaded, and the cost of a step does not depend on the weights. Eager
mode runs first; with --compile the same transformer is then compiled and runs again, and --json gets a list of both reports
(without --compile: of one). Its blocks are compiled, which share their code: that takes a minute, the whole transformer
(--compile-whole) many. Needs torch and diffusers; --blocks 2 runs on a CPU.
"""

import argparse
import datetime
import json
import math
import os
import pathlib
import resource
import statistics
import sys
import time

from torch_device import Clock, clocks, driver, machine, name

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import diffusers
import torch

# Blocks, size of the position table, blocks with a second attention: the same as in models/src/bench/preset.rs.
MODELS = {"sd3.5-large": (38, 192, 0), "sd3.5-medium": (24, 384, 13)}
GEMMS_GPU = [(8192, 2432, 7296), (8192, 2432, 9728), (4096, 4096, 4096), (8192, 8192, 8192), (2048, 2048, 13312)]
GEMMS_CPU = [(1024, 1024, 1024), (1024, 2432, 2432), (2048, 1536, 1536)]
CLIP_TOKENS = 77


def config(model: str, blocks: int | None) -> dict:
    layers, positions, dual = MODELS[model]
    kept = blocks or layers
    return {
        "sample_size": 128,
        "patch_size": 2,
        "in_channels": 16,
        "out_channels": 16,
        "num_layers": kept,
        "attention_head_dim": 64,
        "num_attention_heads": layers,
        "joint_attention_dim": 4096,
        "caption_projection_dim": layers * 64,
        "pooled_projection_dim": 2048,
        "pos_embed_max_size": positions,
        "dual_attention_layers": tuple(range(min(dual, kept))),
        "qk_norm": "rms_norm",
    }


def synthetic(args: argparse.Namespace, device: torch.device, dtype: torch.dtype) -> torch.nn.Module:
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = diffusers.SD3Transformer2DModel(**config(args.synthetic, args.blocks))
    finally:
        torch.set_default_dtype(default)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 1:
                weight.normal_(1.0 if "norm_" in name and name.endswith("weight") else 0.0, 0.02)
            else:
                weight.normal_(0.0, 1.0 / math.sqrt(weight[0].numel()))
    return model.to(device=device, dtype=dtype).eval()


def flops(args: argparse.Namespace) -> float:
    """2 x multiply-adds of a run, by the formula of models/src/bench/flops.rs."""
    made = config(args.synthetic, args.blocks)
    width, blocks = made["caption_projection_dim"], made["num_layers"]
    dual, square = len(made["dual_attention_layers"]), width * width
    image, text = (args.width // 16) * (args.height // 16), CLIP_TOKENS + args.t5_tokens
    per_image = 4 * 32 * width + (blocks * 12 + dual * 4) * square
    per_text = 4096 * width + (blocks * 3 + (blocks - 1) * 9) * square
    adaln = blocks * 6 + dual * 3 + (blocks - 1) * 6 + 4
    per_sample = (256 + 2048) * width + 2 * square + adaln * square
    linear = 2.0 * (image * per_image + text * per_text + per_sample)
    attention = 4.0 * width * (blocks * (image + text) ** 2 + dual * image**2)
    return (linear + attention) * samples(args) * args.steps


def samples(args: argparse.Namespace) -> int:
    return args.batch * (2 if args.cfg > 1 else 1)


def loop(model: torch.nn.Module, args: argparse.Namespace, device: torch.device, dtype: torch.dtype) -> list[float]:
    """One request as StableDiffusion3Pipeline runs it between text and VAE; milliseconds of its steps."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=3.0)
    scheduler.set_timesteps(args.steps, device=device)
    rows, tokens = samples(args), CLIP_TOKENS + args.t5_tokens
    context = torch.randn(rows, tokens, 4096, device=device, dtype=dtype)
    pooled = torch.randn(rows, 2048, device=device, dtype=dtype)
    latents = torch.randn(args.batch, 16, args.height // 8, args.width // 8, device=device, dtype=dtype)
    if device.type == "cuda":
        torch.cuda.synchronize()
    clock = Clock(device)
    clock.mark()
    for timestep in scheduler.timesteps:
        batch = torch.cat([latents] * 2) if rows > args.batch else latents
        velocity = model(
            hidden_states=batch,
            timestep=timestep.expand(rows),
            encoder_hidden_states=context,
            pooled_projections=pooled,
            return_dict=False,
        )[0]
        if rows > args.batch:
            without, prompted = velocity.chunk(2)
            velocity = without + args.cfg * (prompted - without)
        latents = scheduler.step(velocity, timestep, latents, return_dict=False)[0]
        clock.mark()
    steps = clock.intervals_ms()
    if not torch.isfinite(latents).all():
        raise SystemExit("non-finite latents")
    return steps


def compile_model(model: torch.nn.Module, args: argparse.Namespace) -> torch.nn.Module:
    if args.compile_whole:
        return torch.compile(model, mode=args.compile_mode, fullgraph=True)
    # diffusers 0.42 does not declare repeated blocks for this model.
    model._repeated_blocks = ["JointTransformerBlock"]
    model.compile_repeated_blocks(mode=args.compile_mode, fullgraph=True)
    return model


def compiled(args: argparse.Namespace) -> str:
    """A description of what was compiled."""
    return f"{'whole' if args.compile_whole else 'blocks'}, {args.compile_mode}"


def gemm_peak(device: torch.device, dtype: torch.dtype) -> float:
    """TFLOP/s of the best of a few large products."""
    best, at_once = 0.0, 10 if device.type == "cuda" else 1
    for rows, inputs, outputs in GEMMS_GPU if device.type == "cuda" else GEMMS_CPU:
        x = torch.randn(rows, inputs, device=device, dtype=dtype)
        weight = torch.randn(outputs, inputs, device=device, dtype=dtype)
        torch.nn.functional.linear(x, weight)
        until = time.perf_counter() + 0.3
        while time.perf_counter() < until:
            clock = Clock(device)
            clock.mark()
            for _ in range(at_once):
                torch.nn.functional.linear(x, weight)
            clock.mark()
            seconds = clock.intervals_ms()[0] / 1e3
            best = max(best, 2.0 * rows * inputs * outputs * at_once / seconds / 1e12)
    return best


def measure(engine: str, model: torch.nn.Module, args: argparse.Namespace, peak: float, load_s: float) -> dict:
    device, dtype = torch.device(args.device), DTYPES[args.precision]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    before = clocks(device)
    with torch.no_grad():
        start = time.perf_counter()
        for _ in range(args.warmup):
            loop(model, args, device, dtype)
        warmup_s = time.perf_counter() - start
        runs = [loop(model, args, device, dtype) for _ in range(args.runs)]
    totals = [sum(run) / 1e3 for run in runs]
    steps = sorted(step for run in runs for step in run)
    work = flops(args) / 1e12
    return {
        "bench": "denoise",
        "engine": engine,
        "gpu": name(device),
        "driver": driver(device),
        "model": args.synthetic + (f" ({args.blocks} blocks)" if args.blocks else ""),
        "width": args.width,
        "height": args.height,
        "steps": args.steps,
        "cfg": args.cfg,
        "batch": args.batch,
        "precision": args.precision,
        "denoise_s": {"median": statistics.median(totals), "min": min(totals), "max": max(totals), "n": len(totals)},
        "step_ms": percentiles(steps),
        "tflops": work / statistics.median(totals),
        "gemm_peak_tflops": peak,
        "peak_mem_bytes": peak_memory(device),
        "commit": f"diffusers {diffusers.__version__}",
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "weights": "synthetic",
        "parameters": sum(p.numel() for p in model.parameters()) + model.pos_embed.pos_embed.numel(),
        "text_tokens": CLIP_TOKENS + args.t5_tokens,
        "tflop_per_run": work,
        "load_s": load_s,
        "warmup": args.warmup,
        "runs_s": totals,
        "machine": {
            **machine(
                device,
                before,
                diffusers=diffusers.__version__,
                compile=compiled(args) if engine.endswith("compile") else None,
            ),
            "warmup_s": warmup_s,
        },
    }


def percentiles(ordered: list[float]) -> dict:
    """Nearest rank, as in src/bench/stats.rs."""
    rank = lambda share: ordered[min(max(math.ceil(share * len(ordered)), 1), len(ordered)) - 1]
    names = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
    ends = {"min": ordered[0], "max": ordered[-1], "mean": statistics.fmean(ordered), "n": len(ordered)}
    return {name: rank(share) for name, share in names.items()} | ends


def peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--synthetic", choices=MODELS, default="sd3.5-large")
    parser.add_argument("--blocks", type=int, help="keep only the first blocks")
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--height", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--cfg", type=float, default=4.5)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--precision", choices=DTYPES, default="bf16" if torch.cuda.is_available() else "f32")
    parser.add_argument("--t5-tokens", type=int, default=256)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="after eager, measure the compiled transformer too")
    parser.add_argument("--compile-only", action="store_true", help="the compiled transformer alone")
    parser.add_argument("--compile-whole", action="store_true", help="compile the transformer whole, not a block for all")
    parser.add_argument("--compile-mode", default="default", help="of torch.compile, max-autotune for one")
    parser.add_argument("--threads", type=int, help="of the CPU; torch's own choice without it")
    parser.add_argument("--json", metavar="FILE", help="write the reports here, as a list; printed otherwise")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    device, dtype = torch.device(args.device), DTYPES[args.precision]
    if device.type == "cuda":
        torch.cuda.set_device(device)
    torch.backends.cuda.matmul.allow_tf32 = False
    start = time.perf_counter()
    model = synthetic(args, device, dtype)
    load_s = time.perf_counter() - start
    peak = gemm_peak(device, dtype)
    reports = []
    engines = {"diffusers-eager": not args.compile_only, "diffusers-compile": args.compile or args.compile_only}
    for engine in (engine for engine, wanted in engines.items() if wanted):
        if engine == "diffusers-compile":
            model = compile_model(model, args)
        reports.append(measure(engine, model, args, peak, load_s))
        show(reports[-1])
        # After each run, since compiling can take longer than the caller's timeout.
        if args.json:
            pathlib.Path(args.json).write_text(json.dumps(reports, indent=2) + "\n", encoding="utf-8")
    if not args.json:
        print(json.dumps(reports, indent=2))


def show(report: dict) -> None:
    total, step = report["denoise_s"], report["step_ms"]
    share = 100 * report["tflops"] / report["gemm_peak_tflops"]
    print(
        f"{report['engine']}: {total['median']:.3f} s median ({total['min']:.3f} to {total['max']:.3f}, {total['n']} runs), "
        f"step {step['p50']:.1f} ms p50, {step['p99']:.1f} p99, {report['tflops']:.3f} TFLOP/s, {share:.0f} % of "
        f"{report['gemm_peak_tflops']:.3f}, {report['peak_mem_bytes'] / 1e9:.2f} GB",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
