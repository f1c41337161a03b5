"""Train and write tiny tokenizers in the exact form of SD3.5's three: CLIP-L, CLIP-G and T5.

They are trained on the fixed text of words.py by default, so every run writes the same files.
"""

import collections
import functools
import io
import json
import pathlib
import re
import tempfile
import typing
import unicodedata

import regex
import sentencepiece
from transformers import CLIPTokenizer, T5TokenizerFast

import words

# Lines of text, the same at every call.
Corpus = typing.Callable[[], typing.Iterable[str]]
BOS, EOS = "<|startoftext|>", "<|endoftext|>"
# The split expression of CLIPTokenizer.
CLIP_SPLIT = regex.compile(
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


def byte_symbols() -> list[str]:
    """GPT-2's printable stand-in of every byte, in CLIP's vocabulary order ("!" is id 0)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    table = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(rest)}
    return [table[byte] for byte in printable + rest]


def byte_table() -> dict[int, str]:
    """byte -> its stand-in symbol."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    order = printable + [byte for byte in range(256) if byte not in printable]
    return dict(zip(order, byte_symbols()))


@functools.cache
def clip_bpe(merges: int, corpus: Corpus) -> tuple[dict[str, int], list[str]]:
    """CLIP's vocabulary layout: 256 bytes, 256 bytes + "</w>", merges, start, end."""
    table = byte_table()
    counts = collections.Counter()
    for line in corpus():
        text = re.sub(r"\s+", " ", unicodedata.normalize("NFC", line)).lower()
        for piece in CLIP_SPLIT.findall(text):
            symbols = [table[byte] for byte in piece.encode()]
            counts[(*symbols[:-1], symbols[-1] + "</w>")] += 1
    learned = []
    while len(learned) < merges:
        pairs = collections.Counter()
        for symbols, count in counts.items():
            for pair in zip(symbols, symbols[1:]):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        learned.append(best)
        merged = collections.Counter()
        for symbols, count in counts.items():
            out, i = [], 0
            while i < len(symbols):
                if symbols[i : i + 2] == best:
                    out.append("".join(best))
                    i += 2
                else:
                    out.append(symbols[i])
                    i += 1
            merged[tuple(out)] += count
        counts = merged
    symbols = byte_symbols()
    entries = symbols + [s + "</w>" for s in symbols] + ["".join(pair) for pair in learned] + [BOS, EOS]
    # Two merges can spell the same entry; the first id stays.
    vocab = {}
    for entry in entries:
        vocab.setdefault(entry, len(vocab))
    return vocab, [" ".join(pair) for pair in learned]


def dump(path: pathlib.Path, value, indent: int | None = 2) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=indent) + "\n", encoding="utf-8")


def added(content: str, normalized: bool) -> dict:
    return dict(content=content, lstrip=False, normalized=normalized, rstrip=False, single_word=False, special=True)


def write_clip(
    directory: pathlib.Path, pad_token: str, merges: int, as_json: bool, corpus: Corpus = words.corpus
) -> dict[str, int]:
    """Write CLIP-L's (`pad_token` EOS) or CLIP-G's ("!") tokenizer; return its vocabulary.

    The config is the one of the real repositories: CLIP-G's pad token "!" is a special added token,
    so that every "!" of a prompt becomes id 0 and never joins a word.
    """
    directory.mkdir(parents=True, exist_ok=True)
    vocab, merge_lines = clip_bpe(merges, corpus)
    special = {str(vocab[BOS]): added(BOS, True), str(vocab[EOS]): added(EOS, pad_token == EOS)}
    if pad_token != EOS:
        special = {str(vocab[pad_token]): added(pad_token, False)} | special
    dump(directory / "vocab.json", vocab, indent=None)
    (directory / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merge_lines) + "\n", encoding="utf-8")
    dump(
        directory / "tokenizer_config.json",
        {
            "add_prefix_space": False,
            "added_tokens_decoder": special,
            "bos_token": BOS,
            "clean_up_tokenization_spaces": True,
            "do_lower_case": True,
            "eos_token": EOS,
            "errors": "replace",
            "model_max_length": 77,
            "pad_token": pad_token,
            "tokenizer_class": "CLIPTokenizer",
            "unk_token": EOS,
        },
    )
    dump(
        directory / "special_tokens_map.json",
        {
            "bos_token": {k: v for k, v in added(BOS, True).items() if k != "special"},
            "eos_token": {k: v for k, v in added(EOS, pad_token == EOS).items() if k != "special"},
            "pad_token": pad_token,
            "unk_token": {k: v for k, v in added(EOS, True).items() if k != "special"},
        },
    )
    if as_json:
        tokenizer = CLIPTokenizer.from_pretrained(directory)
        for file in directory.iterdir():
            file.unlink()
        tokenizer.save_pretrained(directory)
        forget_paths(directory)
    return vocab


# A small replacement of nmt_nfkc for models that must stay small: controls vanish, odd spaces and
# full-width forms become ASCII, a few compatibility forms are spelt out.
SMALL_RULES = (
    [([c], []) for c in (*range(1, 9), *range(14, 32), 127, 0x200B, 0x200E, 0x200F, 0xFEFF)]
    + [([c], [0x20]) for c in (9, 10, 11, 12, 13, 0x85, 0xA0, *range(0x2000, 0x200B), 0x202F, 0x3000)]
    + [([c], [c - 0xFEE0]) for c in range(0xFF01, 0xFF5F)]
    + [([ord(c)], [ord(d) for d in to]) for c, to in [("ﬁ", "fi"), ("ﬂ", "fl"), ("…", "..."), ("½", "1⁄2"), ("²", "2")]]
    + [([ord("e"), 0x301], [ord("é")]), ([ord("a"), 0x300], [ord("à")])]
)


@functools.cache
def t5_spiece(size: int, full_rules: bool, corpus: Corpus) -> bytes:
    """A sentencepiece unigram model with T5's ids: pad 0, eos 1, unk 2, no bos."""
    with tempfile.TemporaryDirectory() as scratch:
        rules = {"normalization_rule_name": "nmt_nfkc"}
        if not full_rules:
            lines = [
                f"{' '.join(f'{c:X}' for c in source)}\t{' '.join(f'{c:X}' for c in target)}\n"
                for source, target in SMALL_RULES
            ]
            path = pathlib.Path(scratch, "rules.tsv")
            path.write_text("".join(lines), encoding="utf-8")
            rules = {"normalization_rule_tsv": str(path)}
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(corpus()),
            model_writer=model,
            model_type="unigram",
            vocab_size=size,
            hard_vocab_limit=False,
            character_coverage=1.0,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            num_threads=1,
            minloglevel=2,
            **rules,
        )
    return model.getvalue()


def write_t5(
    directory: pathlib.Path, size: int, extra_ids: int, full_rules: bool, corpus: Corpus = words.corpus
) -> int:
    """Write T5's tokenizer as tokenizer.json; return its length.

    The `extra_ids` sentinels come last and count down, as in the real one.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        path = pathlib.Path(scratch, "spiece.model")
        path.write_bytes(t5_spiece(size, full_rules, corpus))
        tokenizer = T5TokenizerFast.from_pretrained(scratch, extra_ids=extra_ids, model_max_length=512)
        tokenizer.save_pretrained(directory)
    (directory / "spiece.model").unlink(missing_ok=True)
    forget_paths(directory)
    without_spaces(directory / "tokenizer.json")
    return len(tokenizer)


def without_spaces(path: pathlib.Path) -> None:
    """The same JSON in one line: half the size."""
    value = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def forget_paths(directory: pathlib.Path) -> None:
    """Removes data about this machine that save_pretrained wrote."""
    path = directory / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for key in ("name_or_path", "local_files_only", "is_local", "vocab_file", "tokenizer_file"):
        config.pop(key, None)
    dump(path, config)
