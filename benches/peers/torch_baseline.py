"""Time torch's own ops at the sizes of SD3.5 Large's denoising loop, as `cargo bench -p latentd-kernels -- --step` times ours.

    python benches/peers/torch_baseline.py --json torch.json

Attention by each of torch's backends, products in bf16 (`linear`) and in fp8 with a scale per row (`_scaled_mm`), a copy.
Names, units and keys are ours, so the two JSON files can be compared. About ten seconds on an H100; operations that this
torch or device does not support are named and left out. --small runs on a CPU.
"""

import argparse
import datetime
import json
import pathlib
import time
from collections.abc import Callable

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch_device import Clock, clocks, driver, machine, name

BATCH, HEAD, BF16 = 2, 64, torch.bfloat16
BACKENDS = {
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
# As in kernels/benches/ops: calls in a batch, and seconds of repetition.
AT_ONCE, SECONDS = 10, 0.2


class Bench:
    """Measures ops one after another and collects the rows of the table."""

    def __init__(self, device: torch.device):
        self.device, self.rows, self.ceilings = device, [], {}

    def random(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, device=self.device, dtype=BF16)

    def run(self, what: str, amount: float, unit: str, ceiling: str, op: Callable[[], object]) -> None:
        """The fastest of several batches; an op that raises is left out."""
        try:
            seconds = self._fastest(op)
        except (RuntimeError, NotImplementedError, ValueError) as error:
            print(f"{what}: LEFT OUT, {(str(error).splitlines() or [type(error).__name__])[0][:120]}", flush=True)
            return
        rate = amount * 1e-9 / seconds
        share = rate / self.ceilings.setdefault(ceiling, rate)
        print(f"{what:56} {seconds * 1e3:9.3f} ms {rate:9.1f} {unit:7} {100 * share:5.1f} % of {ceiling}", flush=True)
        row = {"name": what, "ms": seconds * 1e3, "rate": rate, "unit": unit, "ceiling": ceiling, "of_ceiling": share}
        self.rows.append(row)

    def _fastest(self, op: Callable[[], object]) -> float:
        op()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        best, until = float("inf"), time.perf_counter() + SECONDS
        while time.perf_counter() < until:
            clock = Clock(self.device)
            clock.mark()
            for _ in range(AT_ONCE):
                op()
            clock.mark()
            best = min(best, clock.intervals_ms()[0] / 1e3 / AT_ONCE)
        return best


def copies(bench: Bench, side: int) -> None:
    x = bench.random(side, 2 * side)
    bench.run(f"copy {side}x{2 * side}", 2 * x.numel() * x.element_size(), "GB/s", "copy", x.clone)


def products(bench: Bench, image: int, text: int, d: int, side: int) -> None:
    layers = {
        "square": (side, side, side),
        "image qkv": (BATCH * image, d, 3 * d),
        "image projection": (BATCH * image, d, d),
        "image mlp in": (BATCH * image, d, 4 * d),
        "image mlp out": (BATCH * image, 4 * d, d),
        "text qkv": (BATCH * text, d, 3 * d),
        "text projection": (BATCH * text, d, d),
        "text mlp in": (BATCH * text, d, 4 * d),
        "text mlp out": (BATCH * text, 4 * d, d),
        "modulations": (BATCH, d, 6 * d),
    }
    for layer, (m, k, n) in layers.items():
        x, weight, bias = bench.random(m, k), bench.random(n, k), bench.random(n)
        shape, flops = f"{layer} {m}x{k}x{n}", 2 * m * k * n
        plain = lambda: functional.linear(x, weight)
        biased = lambda: functional.linear(x, weight, bias)
        then_gelu = lambda: functional.gelu(functional.linear(x, weight, bias), approximate="tanh")
        bench.run(f"{shape} bf16, plain", flops, "GFLOP/s", "square bf16", plain)
        bench.run(f"{shape} bf16, bias", flops, "GFLOP/s", "square bf16", biased)
        bench.run(f"{shape} bf16, bias, then GELU", flops, "GFLOP/s", "square bf16", then_gelu)
        (x8, x_scale), (w8, w_scale) = rowwise(x), rowwise(weight)
        scales = {"scale_a": x_scale, "scale_b": w_scale.t(), "out_dtype": BF16, "use_fast_accum": True}
        fp8 = lambda: torch._scaled_mm(x8, w8.t(), **scales)
        bench.run(f"{shape} fp8, plain", flops, "GFLOP/s", "square fp8", fp8)
        fp8_biased = lambda: torch._scaled_mm(x8, w8.t(), bias=bias, **scales)
        bench.run(f"{shape} fp8, bias", flops, "GFLOP/s", "square fp8", fp8_biased)


def rowwise(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """e4m3, and the scale of every row."""
    scale = x.abs().amax(dim=1, keepdim=True).float() / torch.finfo(torch.float8_e4m3fn).max
    return (x.float() / scale).to(torch.float8_e4m3fn), scale


def attentions(bench: Bench, length: int, heads: int) -> None:
    qkv = bench.random(BATCH, length, 3, heads, HEAD)
    q, k, v = (qkv[:, :, part].transpose(1, 2) for part in range(3))
    flops = 4 * BATCH * length * length * heads * HEAD
    for backend, choice in BACKENDS.items():

        def attention() -> torch.Tensor:
            with sdpa_kernel(choice):
                return functional.scaled_dot_product_attention(q, k, v)

        bench.run(f"attention {BATCH}x{length}x{heads}x{HEAD} {backend}", flops, "GFLOP/s", "square bf16", attention)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to see that everything runs")
    parser.add_argument("--json", metavar="FILE", type=pathlib.Path)
    args = parser.parse_args()
    device = torch.device(args.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    image, texts, heads, side = (32, (16, 24), 2, 64) if args.small else (4096, (333, 589), 38, 8192)
    bench, before = Bench(device), clocks(device)
    torch.manual_seed(0)
    with torch.inference_mode():
        copies(bench, side)
        products(bench, image, texts[0], HEAD * heads, side)
        for text in texts:
            attentions(bench, image + text, heads)
    report = {
        "bench": "ops",
        "engine": "torch",
        "gpu": name(device),
        "driver": driver(device),
        "commit": f"torch {torch.__version__}",
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "small": args.small,
        "ops": bench.rows,
        "machine": machine(device, before),
    }
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
