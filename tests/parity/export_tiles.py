"""Write the golden results of diffusers' tiled decoder: `golden/<case>/golden_tiles.safetensors`.

    python tests/parity/export_tiles.py

Versions: those of `export_golden.py`, which wrote the models. A second run writes the same bytes.

    latents [1, c, h, w] f32    as the transformer knows them, of which no side is a multiple of a tile's step
    tile [1] i64                latents a side of a tile
    decoded [1, 3, H, W] f32    `AutoencoderKL.tiled_decode`, not clamped
"""

import pathlib

import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file

GOLDEN = pathlib.Path(__file__).parent / "golden"

# Latents (height, width), and a tile's side: at least three tiles in one direction, each last one of another width.
CASES = {"base": ((11, 15), 8), "odd_heads": ((13, 9), 4)}


def export(name: str, shape: tuple[int, int], tile: int) -> None:
    vae = AutoencoderKL.from_pretrained(GOLDEN / name / "model" / "vae", torch_dtype=torch.float32)
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    vae.tile_latent_min_size, vae.tile_sample_min_size = tile, tile * factor
    latents = torch.randn((1, vae.config.latent_channels, *shape), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        # As the pipeline of Stable Diffusion 3 scales them.
        scaled = latents / vae.config.scaling_factor + (vae.config.shift_factor or 0)
        decoded = vae.tiled_decode(scaled).sample
        whole = vae.decode(scaled).sample
    assert decoded.shape == whole.shape and (decoded - whole).abs().max() > 1e-2, "tiles make a difference"
    out = {"latents": latents, "tile": torch.tensor([tile]), "decoded": decoded.contiguous()}
    save_file(out, GOLDEN / name / "golden_tiles.safetensors")
    print(name, tuple(decoded.shape), f"whole differs by {(decoded - whole).abs().mean():.3f} on average")


if __name__ == "__main__":
    torch.set_num_threads(2)
    for name, (shape, tile) in CASES.items():
        export(name, shape, tile)
