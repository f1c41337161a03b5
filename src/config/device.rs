//! `--device` and `--dtype`: which devices there are, and in what precision they compute.

use super::{ConfigError, gpus, refuse};
use latentd_models::{CpuIsa, DType, Device};

/// The devices that `text` names; `auto` is every GPU, or the processor.
pub(super) fn several(text: &str) -> Result<Vec<Device>, ConfigError> {
    match text.trim() {
        "auto" => Ok(automatic(usable_gpus())),
        list => list.split(',').map(|one| parse(one.trim())).collect(),
    }
}

/// The one device that `text` names; `auto` is the first GPU, or the processor.
pub(super) fn one(text: &str) -> Result<Device, ConfigError> {
    match several(text)?[..] {
        [device] => Ok(device),
        [first, ..] if text.trim() == "auto" => Ok(first),
        _ => refuse(format!("--device {text}: this command takes one device")),
    }
}

fn automatic(gpus: usize) -> Vec<Device> {
    match gpus {
        0 => vec![Device::Cpu],
        gpus => (0..gpus).map(Device::Cuda).collect(),
    }
}

/// GPUs of this machine, as far as this program could use them.
fn usable_gpus() -> usize {
    if !cfg!(feature = "cuda") {
        return 0;
    }
    let all = gpus::installed_gpus();
    gpus::visible_gpus().map_or(all, |listed| listed.len().min(all))
}

fn parse(text: &str) -> Result<Device, ConfigError> {
    if text == "cpu" {
        return Ok(Device::Cpu);
    }
    match text.strip_prefix("cuda:").map(str::parse) {
        Some(Ok(ordinal)) if cfg!(feature = "cuda") => Ok(Device::Cuda(ordinal)),
        Some(Ok(_)) => refuse(format!("--device {text}: this program was built without CUDA")),
        _ => refuse(format!("--device {text}: give `auto`, `cpu` or `cuda:N`")),
    }
}

/// The limit of `--max-cpu-isa`; `auto` is none. It holds for this process from here on.
pub(super) fn limit_cpu_isa(text: &str) -> Result<Option<CpuIsa>, ConfigError> {
    if text == "auto" {
        return Ok(None);
    }
    let Some(isa) = CpuIsa::ALL.into_iter().find(|isa| isa.name() == text) else {
        let names = CpuIsa::ALL.map(|isa| format!("`{}`", isa.name())).join(", ");
        return refuse(format!("--max-cpu-isa {text}: give `auto`, {names}"));
    };
    isa.limit();
    Ok(Some(isa))
}

/// The precision that `text` names; `auto` is bf16 on a GPU and where the processor multiplies it faster, else f32.
pub(super) fn dtype(text: &str, device: Device) -> Result<DType, ConfigError> {
    match (text, device) {
        ("auto", Device::Cpu) if CpuIsa::in_use() >= CpuIsa::Amx => Ok(DType::Bf16),
        ("auto", Device::Cpu) | ("f32", _) => Ok(DType::F32),
        ("auto", Device::Cuda(_)) | ("bf16", _) => Ok(DType::Bf16),
        ("fp8", Device::Cuda(_)) => Ok(DType::Fp8),
        ("fp8", Device::Cpu) => refuse(
            "--dtype fp8 needs an NVIDIA Hopper GPU (H100, H200): give --device cuda:N, or `f32` or `bf16`"
                .to_owned(),
        ),
        _ => refuse(format!("--dtype {text}: give `auto`, `f32`, `bf16` or `fp8`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_listed_and_checked() {
        assert_eq!(automatic(0), [Device::Cpu]);
        assert_eq!(automatic(2), [Device::Cuda(0), Device::Cuda(1)]);
        assert_eq!(several("cpu, cpu").expect("two"), [Device::Cpu, Device::Cpu]);
        assert!(one("cpu,cpu").is_err());
        for wrong in ["gpu", "cuda", "cuda:", "cuda:x", ""] {
            assert!(several(wrong).expect_err("no device").to_string().contains("cuda:N"), "{wrong}");
        }
        let gpu = several("cuda:3");
        if cfg!(feature = "cuda") {
            assert_eq!(gpu.expect("a GPU"), [Device::Cuda(3)]);
        } else {
            assert!(gpu.expect_err("no CUDA").to_string().contains("built without CUDA"));
        }
    }

    #[test]
    fn limits_of_the_processor_are_checked() {
        assert_eq!(limit_cpu_isa("auto").expect("no limit"), None);
        let wrong = limit_cpu_isa("sse9").expect_err("no instruction set").to_string();
        assert!(wrong.contains("--max-cpu-isa sse9") && wrong.contains("`avx512_bf16`"), "{wrong}");
        // The best there is, since the limit holds for the other tests of this process.
        assert_eq!(limit_cpu_isa("amx").expect("a limit"), Some(CpuIsa::Amx));
    }

    #[test]
    fn precisions_follow_the_device() {
        let faster = if CpuIsa::in_use() >= CpuIsa::Amx { DType::Bf16 } else { DType::F32 };
        assert_eq!(dtype("auto", Device::Cpu).expect("a precision"), faster);
        assert_eq!(dtype("auto", Device::Cuda(0)).expect("bf16"), DType::Bf16);
        assert_eq!(dtype("fp8", Device::Cuda(0)).expect("fp8"), DType::Fp8);
        assert!(dtype("fp8", Device::Cpu).expect_err("no fp8").to_string().contains("cuda:N"));
        assert!(dtype("f16", Device::Cpu).is_err());
    }
}
