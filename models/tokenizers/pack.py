"""Pack the tokenizers, which checkpoints in the original layout do not contain.

    python pack.py DIR      DIR: tokenizer_1/ and tokenizer_3/ of Stable Diffusion 3

CLIP's vocabulary follows from its merges, so it is not packed. T5's tokenizer is written as transformers 5.23.0 runs it,
which splits at white space first, unlike its older file. The same input gives the same bytes.
"""

import gzip
import json
import pathlib
import sys

from transformers import T5TokenizerFast

HERE = pathlib.Path(__file__).parent


def pack(name: str, data: bytes) -> None:
    packed = gzip.compress(data, compresslevel=9, mtime=0)
    (HERE / name).write_bytes(packed)
    print(f"{name}: {len(data)} -> {len(packed)} bytes")


def main() -> None:
    source = pathlib.Path(sys.argv[1])
    pack("clip-merges.txt.gz", (source / "tokenizer_1/merges.txt").read_bytes())
    t5 = json.loads(T5TokenizerFast.from_pretrained(source / "tokenizer_3").backend_tokenizer.to_str())
    pack("t5-tokenizer.json.gz", json.dumps(t5, ensure_ascii=False, separators=(",", ":")).encode())


if __name__ == "__main__":
    main()
