//! Measures loading a transformer of full size: time and peak memory.
//!
//! `make DIR [large|medium]` writes one (16.3 GB, 5 GB); `load DIR [bf16|f32]` loads it on the CPU, prints one JSON object.
//! `benches/loading` runs both, with the page cache cold and warm, and diffusers on the same files.

mod make;
#[path = "../../tests/support/peak.rs"]
mod peak;

use latentd_models::bench::DenoiseBench;
use latentd_models::{DType, Device, LoadOptions, ModelSource};
use make::Sizes;
use peak::peak_resident_bytes;
use std::path::Path;
use std::time::Instant;

const LARGE: Sizes = Sizes { blocks: 38, width: 38, positions: 192, dual: 0 };
const MEDIUM: Sizes = Sizes { blocks: 24, width: 24, positions: 384, dual: 13 };

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["make", dir] | ["make", dir, "large"] => write(dir, &LARGE),
        ["make", dir, "medium"] => write(dir, &MEDIUM),
        ["load", dir] | ["load", dir, "bf16"] => load(dir, DType::Bf16),
        ["load", dir, "f32"] => load(dir, DType::F32),
        _ => Err("give `make DIR [large|medium]` or `load DIR [bf16|f32]`".into()),
    }
}

fn write(dir: &str, sizes: &Sizes) -> Result<(), Box<dyn std::error::Error>> {
    let begun = Instant::now();
    let bytes = make::make(Path::new(dir), sizes)?;
    println!("{dir}: {:.1} GB of weights in {:.0} s", bytes as f64 / 1e9, begun.elapsed().as_secs_f64());
    Ok(())
}

fn load(dir: &str, dtype: DType) -> Result<(), Box<dyn std::error::Error>> {
    let begun = Instant::now();
    let options = LoadOptions::new(Device::Cpu, dtype);
    let loaded = DenoiseBench::load(&ModelSource::Directory(dir.into()), &options)?;
    let seconds = begun.elapsed().as_secs_f64();
    let peak = peak_resident_bytes().ok_or("this system does not say what a process held at most")?;
    let weights = loaded.parameters() * if dtype == DType::F32 { 4 } else { 2 };
    let report = serde_json::json!({
        "bench": "loading",
        "engine": "latentd",
        "precision": dtype.name(),
        "weights_bytes": weights,
        "peak_rss_bytes": peak,
        "peak_over_weights": peak as f64 / weights as f64,
        "seconds": seconds,
        "threads": std::thread::available_parallelism()?.get(),
    });
    println!("{report:#}");
    Ok(())
}
