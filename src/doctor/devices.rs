//! The program, the processor, memory, open files and GPUs.

use super::Finding;
use crate::device_report::{DeviceReport, device_report};
use crate::system::{self, gigabytes, host_memory};
use latentd_fal::{Connections, MAX_CONNECTIONS};
use latentd_models::{Device, DeviceKernels, cuda_devices, device_kernels};
use std::path::Path;

/// The folder of NVIDIA's driver, there once it is loaded.
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
        return Finding::warning("memory", "unknown", "this system does not report it; nothing is checked");
    };
    let limited = if memory.limited { " (limited by a control group)" } else { "" };
    let (free, total) = (gigabytes(memory.free), gigabytes(memory.total));
    Finding::good("memory", format!("{free} free of {total}{limited}"))
}

/// How many files `serve` may have open: it raises the limit as far as it can.
pub(super) fn open_files() -> Finding {
    let about = "open files";
    let Some((now, most)) = system::open_files() else {
        return Finding::warning(about, "unknown", "this system does not report the limit");
    };
    let connections = Connections::within(most);
    let found = format!("{now}, which `serve` raises to {most}: enough for {connections} connections");
    match connections < MAX_CONNECTIONS {
        true => {
            Finding::warning(about, found, "raise the hard limit: `ulimit -Hn`, or LimitNOFILE= of systemd")
        }
        false => Finding::good(about, found),
    }
}

/// Every GPU with its kernels, or why there is none. `fp8`: whether it is to compute in fp8.
pub(super) fn gpus(fp8: bool) -> Vec<Finding> {
    let usable = cuda_devices();
    let mut findings = Vec::new();
    for ordinal in 0.. {
        let report = device_report(Device::Cuda(ordinal));
        let (is_reported, usable) =
            (report.memory_total_bytes.is_some(), usable.as_ref().is_ok_and(|count| ordinal < *count));
        if is_reported {
            findings.push(gpu(ordinal, &report));
        }
        if usable {
            findings.push(kernels(ordinal, device_kernels(ordinal), fp8));
        }
        if !is_reported && !usable {
            break;
        }
    }
    match usable {
        _ if findings.is_empty() => findings.push(none()),
        Ok(_) => {}
        Err(error) => {
            findings.push(Finding::warning("GPU", error.to_string(), "no worker could use these GPUs"))
        }
    }
    findings
}

/// A GPU as `nvidia-smi` reports it.
fn gpu(ordinal: usize, report: &DeviceReport) -> Finding {
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
    Finding::warning(&about, found, "this program was built without CUDA and computes on the processor")
}

/// The kernels that a GPU gets.
fn kernels(ordinal: usize, kernels: latentd_models::Result<DeviceKernels>, wants_fp8: bool) -> Finding {
    let about = format!("cuda:{ordinal} kernels");
    let DeviceKernels { card, attention, convolutions, fp8 } = match kernels {
        Ok(kernels) => kernels,
        Err(error) => {
            return Finding::warning(&about, error.to_string(), "no worker could use this GPU");
        }
    };
    let in_fp8 = fp8.as_deref().unwrap_or("none on this card");
    let found = format!(
        "{card}\nattention: {attention}\nproducts: cuBLASLt\nconvolutions: {convolutions}\nproducts in fp8: {in_fp8}"
    );
    match fp8 {
        Err(why) if wants_fp8 => Finding::wrong(&about, found, format!("give --dtype bf16: {why}")),
        _ => Finding::good(&about, found),
    }
}

fn none() -> Finding {
    let found = match (Path::new(DRIVER).exists(), cfg!(feature = "cuda")) {
        (true, _) => {
            let advice = "see whether `nvidia-smi` runs here: it reports why";
            return Finding::warning("GPU", "the driver is loaded, but reports no GPU", advice);
        }
        (false, true) => "none: NVIDIA's driver is not loaded on this machine",
        (false, false) => {
            "none: NVIDIA's driver is not loaded on this machine, and this program was built without CUDA"
        }
    };
    Finding::good("GPU", found)
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    fn on_ada() -> DeviceKernels {
        DeviceKernels {
            card: "a card, capability 8.9".into(),
            attention: "Ampere's tensor cores".into(),
            convolutions: "Ampere's tensor cores".into(),
            fp8: Err("CUDA device 0 has no fp8 products".into()),
        }
    }

    #[test]
    fn kernels_are_named_and_fp8_is_wrong_only_where_it_is_asked_for() {
        let finding = kernels(0, Ok(on_ada()), false);
        assert_eq!((finding.about.as_str(), finding.state), ("cuda:0 kernels", State::Good));
        for line in
            ["capability 8.9", "attention: Ampere's", "convolutions: Ampere's", "fp8: none on this card"]
        {
            assert!(finding.found.contains(line), "{finding:?}");
        }
        let finding = kernels(0, Ok(on_ada()), true);
        assert_eq!(finding.state, State::Wrong);
        assert!(finding.advice.is_some_and(|advice| advice.contains("--dtype bf16")));
        let hopper = DeviceKernels { fp8: Ok("cuBLASLt, a scale for each row".into()), ..on_ada() };
        assert_eq!(kernels(0, Ok(hopper), true).state, State::Good);
    }

    #[test]
    fn a_gpu_that_cannot_be_used_does_not_end_the_table() {
        let error = latentd_models::Error::Device("its kernels are not loaded".into());
        let finding = kernels(1, Err(error), true);
        assert_eq!((finding.about.as_str(), finding.state), ("cuda:1 kernels", State::Warning));
        assert!(finding.found.contains("not loaded"), "{finding:?}");
    }
}
