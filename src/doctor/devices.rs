//! The program, the processor, memory and GPUs.

use super::Finding;
use crate::machine::{gigabytes, host_memory};
use latentd_models::Device;
use latentd_models::bench::device_report;
use std::path::Path;

/// What the driver of NVIDIA's GPUs tells of itself once it is loaded.
const DRIVER: &str = "/proc/driver/nvidia";

/// Sets of instructions that make the processor's products fast, as Linux spells them.
const FEATURES: [&str; 6] = ["avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16", "asimd"];

pub(super) fn program() -> Finding {
    let cuda = if cfg!(feature = "cuda") { "with CUDA" } else { "without CUDA" };
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    let (version, commit) = (env!("CARGO_PKG_VERSION"), env!("LATENTD_COMMIT"));
    Finding::good("latentd", format!("{version}, commit {commit}, {build} build {cuda}"))
}

pub(super) fn processor() -> Finding {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = info.lines().find(|line| line.starts_with("flags") || line.starts_with("Features"));
    let flags: Vec<_> = flags.unwrap_or_default().split_whitespace().collect();
    let known: Vec<_> = FEATURES.into_iter().filter(|feature| flags.contains(feature)).collect();
    let name = device_report(Device::Cpu).name;
    let known = if known.is_empty() { String::new() } else { format!("; {}", known.join(", ")) };
    Finding::good("processor", format!("{name}{known}"))
}

pub(super) fn host() -> Finding {
    let Some(memory) = host_memory() else {
        return Finding::warning("memory", "unknown", "this system does not tell; nothing is checked");
    };
    let limited = if memory.limited { " (limited by a control group)" } else { "" };
    let (free, total) = (gigabytes(memory.free), gigabytes(memory.total));
    Finding::good("memory", format!("{free} free of {total}{limited}"))
}

/// Every GPU, or why there is none.
pub(super) fn gpus() -> Vec<Finding> {
    let reports = (0..).map(|ordinal| device_report(Device::Cuda(ordinal)));
    let known: Vec<_> = reports.take_while(|report| report.memory_total_bytes.is_some()).collect();
    if known.is_empty() {
        return vec![none()];
    }
    let gpu = |(ordinal, report): (usize, latentd_models::bench::DeviceReport)| {
        let bytes = |bytes: Option<u64>| bytes.map_or("unknown".to_owned(), gigabytes);
        let found = format!(
            "{}, driver {}, {} free of {}",
            report.name,
            report.driver.as_deref().unwrap_or("unknown"),
            bytes(report.memory_free_bytes),
            bytes(report.memory_total_bytes)
        );
        let about = format!("cuda:{ordinal}");
        if cfg!(feature = "cuda") {
            return Finding::good(&about, found);
        }
        Finding::warning(&about, found, "this program was built without CUDA and paints on the processor")
    };
    known.into_iter().enumerate().map(gpu).collect()
}

fn none() -> Finding {
    let found = match (Path::new(DRIVER).exists(), cfg!(feature = "cuda")) {
        (true, _) => {
            let advice = "see whether `nvidia-smi` runs here: it says why";
            return Finding::warning("GPU", "the driver is loaded, but tells of no GPU", advice);
        }
        (false, true) => "none: NVIDIA's driver is not loaded on this machine",
        (false, false) => {
            "none: NVIDIA's driver is not loaded on this machine, and this program was built without CUDA"
        }
    };
    Finding::good("GPU", found)
}
