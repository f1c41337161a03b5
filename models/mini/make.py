"""Write the built-in model: the smallest SD3.5 pipeline in the diffusers layout, with random weights.

    python models/mini/make.py [DIR]

It runs exactly as the real model does (three text encoders, query/key norm, two joint blocks, 16 latent
channels, a factor 8 VAE) up to 2048x2048, but its pictures mean nothing: `_latentd.paints_noise` says so.
Two thirds of its bytes are the table of 128 x 128 positions, which the real files hold too.
Needs the versions that tests/parity/make_model.py names; a second run writes the same bytes.
"""

import json
import pathlib
import shutil
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tests" / "parity"))

import make_model as mm  # noqa: E402

OPTIONS = mm.Options(
    seed=20,
    heads=1,
    head_dim=8,
    depth=2,
    pos_embed_max_size=128,
    sample_size=128,
    noisy_pos_embed=False,
    joint_dim=16,
    clip_l=mm.Clip(hidden=8, heads=1, layers=2, mlp=16, projection=8),
    clip_g=mm.Clip(hidden=8, heads=1, layers=2, mlp=16, projection=8),
    t5=mm.T5(heads=1, head_dim=8, layers=1, mlp=24),
    clip_merges=20,
    t5_vocab=220,
    t5_extra_ids=4,
    vae_channels=(4, 4, 4, 4),
    norm_groups=2,
    dtype="f16",
)


def write(directory: pathlib.Path) -> None:
    """Write the model; other files of the directory stay."""
    with tempfile.TemporaryDirectory() as scratch:
        made = pathlib.Path(scratch, "mini")
        mm.write(made, OPTIONS)
        for name in ("tokenizer", "tokenizer_2"):
            (made / name / "special_tokens_map.json").unlink()  # tokenizer_config.json says the same.
            path = made / name / "vocab.json"
            path.write_text(json.dumps(json.loads(path.read_text()), ensure_ascii=False, separators=(",", ":")))
        path = made / "tokenizer_3" / "tokenizer.json"
        path.write_text(json.dumps(json.loads(path.read_text()), ensure_ascii=False, separators=(",", ":")))
        index = json.loads((made / "model_index.json").read_text())
        index["_latentd"] = {"name": "mini", "paints_noise": True}
        mm.tok.dump(made / "model_index.json", index)
        shutil.copytree(made, directory, dirs_exist_ok=True)


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
