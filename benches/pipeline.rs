//! Times text, denoise and decode of a model on this machine, in the keys of `benches/peers/diffusers_cpu.py`.
//!
//!     cargo bench -p latentd-models --bench pipeline -- --model DIR --width 1024 --height 768 --steps 28

use latentd_models::{Control, DType, Device, GenerateRequest, LoadOptions, Pipeline, Timings};
use std::path::PathBuf;

struct Args {
    model: Option<PathBuf>,
    request: GenerateRequest,
    dtype: DType,
    fused: bool,
    runs: usize,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = parse(std::env::args().skip(1))?;
    let options = LoadOptions { device: Device::Cpu, dtype: args.dtype, fused: args.fused };
    let mut pipeline = match &args.model {
        Some(dir) => Pipeline::load(dir, &options)?,
        None => Pipeline::builtin(&options)?,
    };
    let mut run = || pipeline.generate(&args.request, &mut |_| Control::Continue).map(|made| made.timings);
    run()?;
    let runs: Vec<Timings> = (0..args.runs).map(|_| run()).collect::<Result<_, _>>()?;
    let stage = |of: fn(&Timings) -> f64| summary(runs.iter().map(of).collect());
    let report = serde_json::json!({
        "bench": "pipeline",
        "engine": "latentd",
        "device": "cpu",
        "precision": if args.dtype == DType::F32 { "f32" } else { "bf16" },
        "fused": args.fused,
        "model": args.model,
        "width": args.request.width,
        "height": args.request.height,
        "steps": args.request.steps,
        "guidance": args.request.guidance,
        "text_s": stage(|t| t.text),
        "denoise_s": stage(|t| t.denoise),
        "decode_s": stage(|t| t.decode),
        "total_s": stage(|t| t.text + t.denoise + t.decode),
        "peak_rss_bytes": peak_rss_bytes(),
        "threads": std::thread::available_parallelism()?.get(),
    });
    println!("{report:#}");
    Ok(())
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Args, Box<dyn std::error::Error>> {
    let request = GenerateRequest {
        prompt: "a lighthouse on a rocky island at golden hour, oil painting".into(),
        negative_prompt: String::new(),
        width: 1024,
        height: 768,
        steps: 28,
        guidance: 4.5,
        seed: 0,
        num_images: 1,
        t5_tokens: 256,
    };
    let mut args = Args { model: None, request, dtype: DType::F32, fused: true, runs: 5 };
    while let Some(flag) = words.next() {
        // cargo passes --bench to every benchmark.
        if flag == "--bench" {
            continue;
        }
        let value = words.next().ok_or_else(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--model" => args.model = Some(value.into()),
            "--width" => args.request.width = value.parse()?,
            "--height" => args.request.height = value.parse()?,
            "--steps" => args.request.steps = value.parse()?,
            "--guidance" => args.request.guidance = value.parse()?,
            "--runs" => args.runs = value.parse()?,
            "--fused" => args.fused = value.parse()?,
            "--dtype" if value == "f32" => args.dtype = DType::F32,
            "--dtype" if value == "bf16" => args.dtype = DType::Bf16,
            _ => return Err(format!("unknown: {flag} {value}").into()),
        }
    }
    if args.runs == 0 {
        return Err("--runs must be at least 1".into());
    }
    Ok(args)
}

fn summary(mut seconds: Vec<f64>) -> serde_json::Value {
    seconds.sort_by(f64::total_cmp);
    let n = seconds.len();
    let median = (seconds[n / 2] + seconds[(n - 1) / 2]) / 2.0;
    serde_json::json!({ "median": median, "min": seconds[0], "max": seconds[n - 1], "n": n })
}

/// `VmHWM` of this process; absent outside Linux.
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}
