//! The facts of a device: its name, memory, driver, clocks and temperature.
//!
//! Those of a GPU come from `nvidia-smi`, so that a process that computes on none need not start CUDA.

use crate::config::visible_gpus;
use latentd_models::Device;
use std::process::Command;

/// A device's facts; `None` is what could not be found out.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct DeviceReport {
    /// Marketing name.
    pub(crate) name: String,
    /// False for the host's processor.
    pub(crate) is_gpu: bool,
    /// Version of the GPU's driver.
    pub(crate) driver: Option<String>,
    /// Clocks at the moment of asking.
    pub(crate) clocks: Clocks,
    /// All memory.
    pub(crate) memory_total_bytes: Option<u64>,
    /// Memory that can be had.
    pub(crate) memory_free_bytes: Option<u64>,
    /// Compute capability of a GPU, major and minor.
    pub(crate) capability: Option<(u32, u32)>,
}

impl DeviceReport {
    /// Whether the device is known to compute in fp8, without starting CUDA: the products with a scale for each row that
    /// this needs are Hopper's alone. What opens the device asks cuBLASLt.
    pub(crate) fn has_fp8(&self) -> bool {
        self.capability == Some((9, 0))
    }
}

/// Clocks, power and heat as found.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Clocks {
    /// Of the cores, now.
    pub(crate) core_mhz: Option<f64>,
    /// Of the cores, at most.
    pub(crate) core_max_mhz: Option<f64>,
    /// Of the memory, now.
    pub(crate) memory_mhz: Option<f64>,
    /// Drawn now.
    pub(crate) power_w: Option<f64>,
    /// At most.
    pub(crate) power_limit_w: Option<f64>,
    /// Of the chip.
    pub(crate) temperature_c: Option<f64>,
}

/// Looks at a device.
pub(crate) fn device_report(device: Device) -> DeviceReport {
    match device {
        Device::Cpu => cpu(),
        Device::Cuda(ordinal) => gpu(ordinal).unwrap_or_else(|| DeviceReport {
            name: format!("CUDA device {ordinal}"),
            is_gpu: true,
            ..DeviceReport::default()
        }),
    }
}

/// Memory in use: on a GPU everything that all its programs hold, on the CPU the most this process ever held.
pub(crate) fn memory_used(device: Device) -> Option<u64> {
    match device {
        Device::Cpu => peak_resident_bytes(),
        Device::Cuda(ordinal) => {
            let DeviceReport { memory_total_bytes, memory_free_bytes, .. } = gpu(ordinal)?;
            memory_total_bytes?.checked_sub(memory_free_bytes?)
        }
    }
}

/// `VmHWM` of this process; absent outside Linux.
fn peak_resident_bytes() -> Option<u64> {
    kilobytes(&std::fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

fn cpu() -> DeviceReport {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let value = |key: &str| {
        let line = info.lines().find(|line| line.starts_with(key))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let name = value("model name").unwrap_or_else(|| "processor".to_owned());
    DeviceReport {
        name: format!("{name}, {cores} cores"),
        is_gpu: false,
        driver: None,
        clocks: Clocks { core_mhz: value("cpu MHz").and_then(|mhz| mhz.parse().ok()), ..Clocks::default() },
        memory_total_bytes: kilobytes(&memory, "MemTotal:"),
        memory_free_bytes: kilobytes(&memory, "MemAvailable:"),
        capability: None,
    }
}

/// The value of a line `<key>   N kB`, in bytes.
fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// In the order in which [`parse`] takes them.
const QUERY: &str = "name,driver_version,clocks.sm,clocks.max.sm,clocks.mem,power.draw,power.limit,temperature.gpu,memory.total,memory.free,compute_cap";

fn gpu(ordinal: usize) -> Option<DeviceReport> {
    let name = match visible_gpus() {
        Some(listed) => listed.get(ordinal)?.clone(),
        None => ordinal.to_string(),
    };
    let asked = Command::new("nvidia-smi")
        .arg(format!("--query-gpu={QUERY}"))
        .args(["--format=csv,noheader,nounits", "-i", &name])
        .output()
        .ok()?;
    parse(std::str::from_utf8(&asked.stdout).ok()?)
}

/// One line of comma-separated values without units; memory is in MiB.
fn parse(text: &str) -> Option<DeviceReport> {
    let line = text.lines().next()?;
    let mut values = line.split(',').map(str::trim);
    let (name, driver) = (values.next()?.to_owned(), values.next()?.to_owned());
    // A value that the card does not know is "[N/A]".
    let mut number = || values.next().and_then(|value| value.parse::<f64>().ok());
    let clocks = Clocks {
        core_mhz: number(),
        core_max_mhz: number(),
        memory_mhz: number(),
        power_w: number(),
        power_limit_w: number(),
        temperature_c: number(),
    };
    let mut bytes = || number().map(|mebibytes| mebibytes as u64 * 1024 * 1024);
    let (memory_total_bytes, memory_free_bytes) = (bytes(), bytes());
    let capability = line.rsplit(',').next().and_then(|last| last.trim().split_once('.'));
    let capability = capability.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    Some(DeviceReport {
        name,
        is_gpu: true,
        driver: Some(driver),
        clocks,
        memory_total_bytes,
        memory_free_bytes,
        capability,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_has_a_name_and_memory() {
        let report = device_report(Device::Cpu);
        assert!(!report.name.is_empty() && !report.is_gpu);
        if cfg!(target_os = "linux") {
            assert!(
                report.memory_free_bytes <= report.memory_total_bytes && report.memory_free_bytes.is_some()
            );
            assert!(memory_used(Device::Cpu) > Some(1_000_000));
        }
    }

    #[test]
    fn a_line_of_the_driver_is_read() {
        let line =
            "NVIDIA H100 80GB HBM3, 550.54.15, 1980, 1980, 2619, 118.40, 700.00, 34, 81559, 81008, 9.0\n";
        let report = parse(line).expect("a report");
        assert_eq!(
            (report.name.as_str(), report.driver.as_deref()),
            ("NVIDIA H100 80GB HBM3", Some("550.54.15"))
        );
        assert_eq!(report.clocks.core_mhz, Some(1980.0));
        assert_eq!(report.clocks.temperature_c, Some(34.0));
        assert_eq!(report.memory_free_bytes, Some(81008 << 20));
        assert_eq!((report.capability, report.has_fp8()), (Some((9, 0)), true));
    }

    #[test]
    fn what_a_card_does_not_know_is_left_out() {
        let report = parse("Some GPU, 535.1, [N/A], 1755, [N/A], [N/A], [N/A], 40, 24576, 24000, 8.6")
            .expect("a report");
        assert_eq!(report.clocks.core_mhz, None);
        assert_eq!(report.clocks.core_max_mhz, Some(1755.0));
        assert_eq!(report.memory_total_bytes, Some(24576 << 20));
        assert_eq!((report.capability, report.has_fp8()), (Some((8, 6)), false));
        assert_eq!(parse(""), None);
    }
}
