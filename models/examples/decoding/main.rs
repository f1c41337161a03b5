//! Measures decoding an image with a VAE of full size on the CPU, as a whole or in tiles: time and peak memory.
//!
//! `decoding WIDTH HEIGHT whole|tiled [f32|bf16]` prints one JSON object. The weights are random.

#[path = "../../tests/support/peak.rs"]
mod peak;

use latentd_models::bench::DecodeBench;
use latentd_models::{DType, Decoding, Device, LoadOptions};
use peak::peak_resident_bytes;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [width, height, how, rest @ ..] = &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..]
    else {
        return Err("give `WIDTH HEIGHT whole|tiled [f32|bf16]`".into());
    };
    let (width, height) = (width.parse()?, height.parse()?);
    let decoding = match *how {
        "whole" => Decoding::Whole,
        "tiled" => Decoding::Tiled,
        other => return Err(format!("{other}: give `whole` or `tiled`").into()),
    };
    let dtype = if rest.contains(&"bf16") { DType::Bf16 } else { DType::F32 };
    let bench = DecodeBench::synthetic(&LoadOptions::new(Device::Cpu, dtype))?;
    let unknown = "this system does not say what a process held at most";
    let loaded = peak_resident_bytes().ok_or(unknown)?;
    let seconds = bench.run(width, height, decoding)?;
    let peak = peak_resident_bytes().ok_or(unknown)?;
    let report = serde_json::json!({
        "bench": "decoding",
        "width": width,
        "height": height,
        "decoding": how,
        "precision": dtype.name(),
        "seconds": seconds,
        "loaded_rss_bytes": loaded,
        "peak_rss_bytes": peak,
        "decoding_bytes": peak - loaded,
        "threads": std::thread::available_parallelism()?.get(),
    });
    println!("{report:#}");
    Ok(())
}
