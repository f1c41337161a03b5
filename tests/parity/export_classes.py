"""Write golden/classes.json: diffusers' results with each scheduler class, option and layout that a directory may have.

    python tests/parity/export_classes.py

Versions as in export_golden.py, with scipy for use_beta_sigmas. Reads golden/{base,sharded}/model.

schedulers  every class that diffusers exports whose name ends in Scheduler: {"config": the text of its
            scheduler_config.json (null: it cannot be made without arguments), "mean": the mean difference of the image of
            golden/base with it to that with FlowMatchEulerDiscreteScheduler, in levels; or "error": its error}
options     of FlowMatchEulerDiscreteScheduler: [{"set": changed values, "tokens": patches of the image, "sigmas": of 5 steps
            of the pipeline; or "error"}]; needs scipy==1.16.3
models      every model class that diffusers exports, and text encoders and tokenizers of transformers
both        of parts with both a single file and shards: the one that is read
"""

import inspect
import json
import pathlib
import shutil
import tempfile

import diffusers
import make_model as mm
import torch
import transformers
from diffusers import FlowMatchEulerDiscreteScheduler as Euler
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import calculate_shift
from export_golden import GOLDEN, run
from safetensors.torch import load_file, save_file

OPTIONS = [
    {}, {"shift": 1.0}, {"shift": 5.5}, {"num_train_timesteps": 500},
    {"use_dynamic_shifting": True}, {"use_dynamic_shifting": True, "time_shift_type": "linear", "shift_terminal": 0.02},
    {"use_dynamic_shifting": True, "base_shift": 0.3, "max_shift": 2.0, "base_image_seq_len": 100, "max_image_seq_len": 900},
    {"use_dynamic_shifting": True, "use_beta_sigmas": True}, {"use_karras_sigmas": True, "use_beta_sigmas": True},
    {"use_karras_sigmas": True, "shift_terminal": 0.1}, {"use_karras_sigmas": True}, {"use_exponential_sigmas": True}, {"use_beta_sigmas": True},
    {"invert_sigmas": True}, {"stochastic_sampling": True}, {"shift_terminal": 0.1}, {"shift_terminal": 0.0},
    {"time_shift_type": "linear"}, {"time_shift_type": "sideways"}, {"use_karras_sigmas": None}, {"unknown": 1},
    {"base_shift": 2.0, "max_shift": 3.0, "base_image_seq_len": 1, "max_image_seq_len": 2},
]  # fmt: skip
STEPS = 5
TOKENS = 1024
TRANSFORMERS = [
    "BertModel", "CLIPModel", "CLIPTextModel", "Gemma2Model", "GemmaModel", "LlamaModel", "MT5EncoderModel", "Qwen2Model",
    "T5ForConditionalGeneration", "T5Model", "UMT5EncoderModel", "AutoTokenizer", "BertTokenizer", "GemmaTokenizerFast",
    "LlamaTokenizerFast", "PreTrainedTokenizerFast", "SiglipTokenizer",
]  # fmt: skip


def exported(ending: str, parent: type | None = None) -> list[str]:
    """Names of classes in diffusers."""
    names = [name for name in dir(diffusers) if name.endswith(ending) and not name.startswith("_")]
    if parent is None:
        return names
    classes = [(name, getattr(diffusers, name)) for name in names]
    return [name for name, found in classes if isinstance(found, type) and issubclass(found, parent) and found is not parent]


def scheduler(name: str, request: dict, truth: torch.Tensor) -> dict:
    """The pipeline's result with a scheduler of this class."""
    pipe = mm.load(GOLDEN / "base" / "model")
    try:
        with tempfile.TemporaryDirectory() as folder:
            kind = getattr(diffusers, name)
            # Where the shift is the only difference, there is none.
            takes_shift = "shift" in inspect.signature(kind.__init__).parameters
            made = kind(shift=3.0) if takes_shift else kind()
            made.save_pretrained(folder)
            config = (pathlib.Path(folder) / "scheduler_config.json").read_text()
    except Exception as error:
        return {"config": None, "error": f"{type(error).__name__}"}
    try:
        pipe.scheduler = made
        with torch.no_grad():
            image = run(pipe, request)[1]
        return {"config": config, "mean": round((image.float() - truth.float()).abs().mean().item(), 2)}
    except Exception as error:
        return {"config": config, "error": f"{type(error).__name__}"}


def option(changed: dict) -> dict:
    """The sigmas of a pipeline whose scheduler has these values."""
    try:
        made = Euler.from_config({"num_train_timesteps": 1000, "shift": 3.0, **changed})
        keys = ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")
        mu = calculate_shift(TOKENS, *(made.config[key] for key in keys)) if made.config.use_dynamic_shifting else None
        made.set_timesteps(STEPS, mu=mu)
        return {"set": changed, "tokens": TOKENS, "sigmas": [float(sigma) for sigma in made.sigmas]}
    except Exception as error:
        return {"set": changed, "error": f"{type(error).__name__}"}


def taken(part: str, stem: str) -> str:
    """Whether the shards or the single file are read, if a part has both, with different values."""
    with tempfile.TemporaryDirectory() as folder:
        model = pathlib.Path(folder) / "model"
        shutil.copytree(GOLDEN / "sharded" / "model", model)
        name = {"transformer": "proj_out.bias", "text_encoder_3": "encoder.final_layer_norm.weight"}[part]
        tensors = {}
        for shard in sorted((model / part).glob(f"{stem}-*.safetensors")):
            tensors |= load_file(shard)
        tensors[name] = torch.full_like(tensors[name], 7.0)
        save_file(tensors, model / part / f"{stem}.safetensors", metadata={"format": "pt"})
        module = getattr(mm.load(model), part)
        return "single" if bool((module.state_dict()[name] == 7.0).all()) else "shards"


def main() -> None:
    request = json.loads((GOLDEN / "base" / "case.json").read_text())
    truth = load_file(GOLDEN / "base" / "golden.safetensors")["image.u8"]
    names = sorted(set(exported("Scheduler")) | {n for n in dir(diffusers.schedulers) if n.endswith("Scheduler")})
    out = {
        "diffusers": diffusers.__version__,
        "schedulers": {name: scheduler(name, request, truth) for name in names},
        "options": [option(changed) for changed in OPTIONS],
        "models": [*exported("", diffusers.ModelMixin), *[n for n in TRANSFORMERS if hasattr(transformers, n)]],
        "both": {part: taken(part, stem) for part, stem in
                 (("transformer", "diffusion_pytorch_model"), ("text_encoder_3", "model"))},
    }  # fmt: skip
    lines = [f'"diffusers": {json.dumps(out["diffusers"])}', f'"both": {json.dumps(out["both"])}',
             f'"models": {json.dumps(out["models"])}']  # fmt: skip
    rows = ",\n  ".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in out["schedulers"].items())
    lines.append('"schedulers": {\n  ' + rows + "\n}")
    lines.append('"options": [\n  ' + ",\n  ".join(json.dumps(row) for row in out["options"]) + "\n]")
    (GOLDEN / "classes.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    for name, row in out["schedulers"].items():
        print(name, row.get("mean", row.get("error")))
    print(out["both"], len(out["models"]), "models")


if __name__ == "__main__":
    main()
