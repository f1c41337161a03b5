"""The shapes of ops.rs in torch on the CPU: python ops_torch.py [THREADS] [FILTER]"""
import math
import sys
import time

import torch
import torch.nn.functional as F

torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
FILTER = sys.argv[2] if len(sys.argv) > 2 else ""


@torch.inference_mode()
def run(name, amount, unit, f):
    if FILTER not in name:
        return
    start, best, least_busy, runs = time.perf_counter(), math.inf, math.inf, 0
    while runs < 3 or time.perf_counter() - start < 1:
        begin, busy = time.perf_counter(), time.process_time()
        f()
        best = min(best, time.perf_counter() - begin)
        least_busy = min(least_busy, time.process_time() - busy)
        runs += 1
    rate = lambda seconds: amount * 1e-9 / max(seconds, 1e-9)
    print(f"{name:48} {best * 1e3:9.3f} ms {rate(best):8.1f} {unit} {rate(least_busy):8.1f} a core", flush=True)


def rms(x, w, dim):
    return F.rms_norm(x, (dim,), w, 1e-6)


for dtype, label in [(torch.float32, "F32"), (torch.bfloat16, "BF16")]:
    rand = lambda *shape: torch.randn(*shape).to(dtype)
    for m, k, n, act in [
        (6144, 256, 768, "None"), (6144, 256, 1024, "GeluTanh"), (6144, 1024, 256, "None"),
        (3405, 2432, 2432, "None"), (333, 2432, 7296, "None"), (77, 4096, 10240, "GeluTanh"), (2, 2432, 14592, "None"),
    ]:
        x, w, b = rand(m, k), rand(n, k), rand(n)
        f = lambda: F.linear(x, w, b)
        g = lambda: F.gelu(F.linear(x, w, b), approximate="tanh")
        run(f"linear {m}x{k}x{n} {act} {label}", 2 * m * k * n, "GFLOP/s", f if act == "None" else g)
    for b, l, h, dh in [(2, 3405, 4, 64), (1, 4429, 38, 64), (1, 3072, 1, 512), (1, 333, 64, 64)]:
        qkv = rand(b, l, 3, h, dh)
        q, k, v = (qkv[:, :, i].transpose(1, 2) for i in range(3))
        f = lambda: F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, l, h * dh)
        run(f"attention B{b} L{l} H{h} Dh{dh} {label}", 4 * b * l * l * h * dh, "GFLOP/s", f)
    for c, o, h, w, k, up in [
        (64, 64, 512, 512, 3, 0), (128, 128, 768, 1024, 3, 0), (512, 512, 96, 128, 3, 0), (128, 3, 768, 1024, 3, 0),
        (16, 512, 96, 128, 3, 0), (256, 128, 768, 1024, 1, 0), (256, 256, 192, 256, 3, 1),
    ]:
        x, weight, bias = rand(1, c, h, w), rand(o, c, k, k), rand(o)
        up_x = (lambda: F.interpolate(x, scale_factor=2.0, mode="nearest")) if up else (lambda: x)
        f = lambda: F.conv2d(up_x(), weight, bias, padding=k // 2)
        name = f"conv2d {c}->{o} {h}x{w} k{k}{' x2' if up else ''} {label}"
        run(name, 2 * c * o * k * k * h * w * (4 if up else 1), "GFLOP/s", f)
    size = 4 if dtype == torch.float32 else 2
    c, h, w = 128, 768, 1024
    x, a = rand(1, c, h, w), rand(c)
    run(f"group_norm+silu {c}x{h}x{w} {label}", 2 * c * h * w * size, "GB/s", lambda: F.silu(F.group_norm(x, 32, a, a, 1e-6)))
    b, l, d = 2, 3405, 2432
    x, y, mods = rand(b, l, d), rand(b, l, d), rand(b, 6, d)
    norm = lambda: F.layer_norm(x, (d,), eps=1e-6) * (1 + mods[:, 1, None]) + mods[:, 0, None]
    run(f"layer_norm_modulate {b}x{l}x{d} {label}", 2 * b * l * d * size, "GB/s", norm)
    run(f"gated_add {b}x{l}x{d} {label}", 3 * b * l * d * size, "GB/s", lambda: x + mods[:, 2, None] * y)
    weight = rand(d)
    run(f"rms_norm {b}x{l}x{d} {label}", 2 * b * l * d * size, "GB/s", lambda: rms(x, weight, d))
    image, text, norms = rand(2, 3072, 3 * d), rand(2, 333, 3 * d), rand(4, 64)

    def joint():
        parts = []
        for i in range(3):
            streams = []
            for stream, first in ((image, 0), (text, 2)):
                part = stream[..., i * d : (i + 1) * d].unflatten(-1, (38, 64))
                streams.append(part if i == 2 else rms(part, norms[first + i], 64))
            parts.append(torch.cat(streams, 1))
        return parts

    run(f"joint_qkv 2x(3072+333)x3x38x64 {label}", 2 * 2 * l * 3 * d * size, "GB/s", joint)
