"""A small IP-Adapter of the built-in model with its image encoder, both with random weights, as files without torch.

They change images, and what they change depends on the image prompt; nothing else is expected of them.
"""

import json
import math
import pathlib
import random
import struct

# The built-in model's transformer.
CONFIG = json.loads((pathlib.Path(__file__).parents[3] / "models/mini/transformer/config.json").read_text())
WIDTH, HEAD, BLOCKS = CONFIG["caption_projection_dim"], CONFIG["attention_head_dim"], CONFIG["num_layers"]
# The projection: channels, tokens, frequencies of its timesteps, layers as diffusers has them.
HIDDEN, QUERIES, TIME, DEPTH = 64, 4, 32, 4
# The encoder.
FEATURES, INNER, SIDE, PATCH, LAYERS, HEADS = 32, 64, 64, 16, 2, 2


def write(folder):
    """Writes `ip-adapter.safetensors` and `image_encoder/`, the same at every call; returns the folder."""
    folder = pathlib.Path(folder)
    encoder = folder / "image_encoder"
    encoder.mkdir(parents=True)
    save(folder / "ip-adapter.safetensors", projection() | attentions())
    save(encoder / "model.safetensors", siglip())
    sizes = {"hidden_size": FEATURES, "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
    config = {"model_type": "siglip_vision_model", "image_size": SIDE, "patch_size": PATCH} | sizes
    (encoder / "config.json").write_text(json.dumps(config))
    processor = {"image_processor_type": "SiglipImageProcessor", "resample": 3, "size": {"height": SIDE, "width": SIDE}}
    (encoder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def projection():
    """`image_proj`, by InstantX's names."""
    shapes = {
        "latents": [1, QUERIES, HIDDEN],
        "proj_in.weight": [HIDDEN, FEATURES], "proj_in.bias": [HIDDEN],
        "proj_out.weight": [WIDTH, HIDDEN], "proj_out.bias": [WIDTH],
        "norm_out.weight": [WIDTH], "norm_out.bias": [WIDTH],
        "time_embedding.linear_1.weight": [HIDDEN, TIME], "time_embedding.linear_1.bias": [HIDDEN],
        "time_embedding.linear_2.weight": [HIDDEN, HIDDEN], "time_embedding.linear_2.bias": [HIDDEN],
    }  # fmt: skip
    layer = {
        "0.norm1.weight": [HIDDEN], "0.norm1.bias": [HIDDEN], "0.norm2.weight": [HIDDEN], "0.norm2.bias": [HIDDEN],
        "0.to_q.weight": [64, HIDDEN], "0.to_kv.weight": [128, HIDDEN], "0.to_out.weight": [HIDDEN, 64],
        "1.0.weight": [HIDDEN], "1.0.bias": [HIDDEN],
        "1.1.weight": [4 * HIDDEN, HIDDEN], "1.3.weight": [HIDDEN, 4 * HIDDEN],
        "2.1.weight": [4 * HIDDEN, HIDDEN], "2.1.bias": [4 * HIDDEN],
    }  # fmt: skip
    shapes |= {f"layers.{index}.{name}": shape for index in range(DEPTH) for name, shape in layer.items()}
    return {f"image_proj.{name}": shape for name, shape in shapes.items()}


def attentions():
    """`ip_adapter.N` of each block's attention."""
    shapes = {
        "norm_ip.linear.weight": [2 * WIDTH, HIDDEN], "norm_ip.linear.bias": [2 * WIDTH],
        "norm_q.weight": [HEAD], "norm_k.weight": [HEAD], "norm_ip_k.weight": [HEAD],
        "to_k_ip.weight": [WIDTH, WIDTH], "to_v_ip.weight": [WIDTH, WIDTH],
    }  # fmt: skip
    return {f"ip_adapter.{block}.{name}": shape for block in range(BLOCKS) for name, shape in shapes.items()}


def siglip():
    """A `SiglipVisionModel` without the head, which IP-Adapters do not read."""
    tensors = {
        "embeddings.patch_embedding.weight": [FEATURES, 3, PATCH, PATCH], "embeddings.patch_embedding.bias": [FEATURES],
        "embeddings.position_embedding.weight": [(SIDE // PATCH) ** 2, FEATURES],
    }  # fmt: skip
    for layer in range(LAYERS):
        parts = {"layer_norm1": [FEATURES], "layer_norm2": [FEATURES]}
        parts |= {f"self_attn.{name}": [FEATURES, FEATURES] for name in ("q_proj", "k_proj", "v_proj", "out_proj")}
        parts |= {"mlp.fc1": [INNER, FEATURES], "mlp.fc2": [FEATURES, INNER]}
        for name, shape in parts.items():
            tensors[f"encoder.layers.{layer}.{name}.weight"] = shape
            tensors[f"encoder.layers.{layer}.{name}.bias"] = shape[:1]
    return tensors


def save(path, shapes):
    """A safetensors file of tensors in f16: its header's length, the header, and the values."""
    header, blocks, end = {}, [], 0
    for name, shape in shapes.items():
        values = drawn(name, shape)
        block = struct.pack(f"<{len(values)}e", *values)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [end, end + len(block)]}
        blocks.append(block)
        end += len(block)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blocks))


def drawn(name, shape):
    """Norms near 1, biases near 0, and weights by which a layer keeps the size of its input."""
    source = random.Random(name)
    if len(shape) == 1:
        centre = 1.0 if name.endswith(".weight") else 0.0
        return [source.gauss(centre, 0.1) for _ in range(shape[0])]
    spread = 1.0 / math.sqrt(math.prod(shape[1:])) if name.endswith(".weight") and "position" not in name else 1.0
    return [source.gauss(0.0, spread) for _ in range(math.prod(shape))]
