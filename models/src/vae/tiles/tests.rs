//! Tiles against diffusers' own (`tests/parity/export_tiles.py`).

use super::*;
use crate::config::Configs;
use crate::target::Target;
use crate::vae::Decoder;
use crate::weights::Weights;
use crate::{ModelSource, golden};
use std::collections::HashMap;

fn decoder(case: &str, fused: bool) -> (Decoder, usize) {
    let source = ModelSource::Directory(golden::path(&format!("{case}/model")));
    let files = source.files().expect("a model");
    let config = Configs::read(&files).expect("configs").vae;
    let mut target = Target::host();
    target.ops.fused = fused;
    let weights = Weights::open(&files, "vae", "diffusion_pytorch_model", &target).expect("weights");
    (Decoder::load(&weights, &config).expect("a decoder"), config.factor())
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().and_then(|flat| flat.to_vec1()).expect("values")
}

/// `max |ours - theirs| / max |theirs|`, which every stage of the pipeline keeps below 1e-4; a NaN is too much.
fn check(case: &str, fused: bool) {
    let path = golden::path(&format!("{case}/golden_tiles.safetensors"));
    let golden: HashMap<String, Tensor> =
        candle_core::safetensors::load(path, &Device::Cpu).expect("golden tensors");
    let (decoder, factor) = decoder(case, fused);
    let side = golden["tile"].to_vec1::<i64>().expect("a side")[0] as usize;
    let mut tiles = 0;
    let decoded = Tiles::with_side(side, factor).decode(&golden["latents"], |tile| {
        tiles += 1;
        decoder.decode(tile, 0)
    });
    let decoded = decoded.expect("pixels");
    assert!(tiles > 4, "{tiles} tiles");
    assert_eq!(decoded.dims(), golden["decoded"].dims());
    let theirs = values(&golden["decoded"]);
    let scale = theirs.iter().fold(0f32, |most, value| most.max(value.abs()));
    let error = values(&decoded)
        .iter()
        .zip(&theirs)
        .map(|(a, b)| (a - b).abs())
        .fold(0f32, |most, error| if error > most || error.is_nan() { error } else { most });
    assert!(error / scale < 1e-4, "{case} (fused: {fused}): off by {:e}", error / scale);
}

#[test]
fn tiles_equal_those_of_diffusers() {
    for fused in [true, false] {
        check("base", fused);
        check("odd_heads", fused);
    }
}

/// Latents that are pixels: cut, blended and put together they are what they were.
#[test]
fn no_pixel_is_lost_or_moved() {
    for (height, width, side) in [(1, 1, 4), (4, 4, 4), (5, 9, 4), (16, 3, 8), (13, 31, 8), (48, 64, 16)] {
        let latents = Tensor::arange(0f32, (3 * height * width) as f32, &Device::Cpu)
            .and_then(|all| all.reshape((1, 3, height, width)))
            .expect("latents");
        let same = |tile: &Tensor| Ok::<_, candle_core::Error>(tile.clone());
        let together = Tiles::with_side(side, 1).decode(&latents, same).expect("pixels");
        assert_eq!(together.dims(), latents.dims());
        let off =
            values(&together).iter().zip(values(&latents)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off < 1e-2, "{height}x{width} in tiles of {side}: {off}");
    }
}

#[test]
fn a_tile_is_half_of_the_image_and_at_most_512_pixels() {
    for (latents, factor, side) in
        [((128, 128), 8, 64), ((256, 256), 8, 64), ((64, 48), 8, 32), ((8, 8), 8, 32), ((32, 24), 32, 16)]
    {
        assert_eq!(Tiles::of(latents.0, latents.1, factor).side, side, "{latents:?} of {factor} pixels");
    }
}
