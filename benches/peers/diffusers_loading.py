"""Load a transformer with diffusers on the CPU in bf16: the baseline of latentd's example `loading`.

    python benches/peers/diffusers_loading.py DIR/transformer

diffusers maps the file and reads nothing until a weight is used, so the weights are then touched, once a page, as the
first step would do. Prints one JSON object in the keys of the example, and the two parts of `seconds`.
"""

import json
import os
import pathlib
import resource
import sys
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import diffusers
import torch

PAGE = 4096


def touch(tensor: torch.Tensor) -> None:
    tensor.detach().view(-1)[:: PAGE // tensor.element_size()].sum().item()


def main() -> None:
    start = time.perf_counter()
    model = diffusers.SD3Transformer2DModel.from_pretrained(
        pathlib.Path(sys.argv[1]), torch_dtype=torch.bfloat16, low_cpu_mem_usage=True
    )
    mapped = time.perf_counter()
    tensors = [*model.parameters(), *model.buffers()]
    for tensor in tensors:
        touch(tensor)
    end = time.perf_counter()
    weights = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    report = {
        "bench": "loading",
        "engine": "diffusers",
        "precision": "bf16",
        "weights_bytes": weights,
        "peak_rss_bytes": peak,
        "peak_over_weights": peak / weights,
        "seconds": end - start,
        "from_pretrained_s": mapped - start,
        "touch_s": end - mapped,
        "threads": torch.get_num_threads(),
        "versions": {"torch": torch.__version__, "diffusers": diffusers.__version__},
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
