//! Where and by what a measurement was made: device, versions, commit, date.

use crate::args;
use crate::device_report::{Clocks, DeviceReport, device_report, memory_used};
use jiff::Timestamp;
use latentd_models::{CpuIsa, Device};
use serde::Serialize;

/// The facts that a reader of a measurement needs beside its numbers.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Machine {
    pub(super) device: String,
    /// The processor, also beside a GPU.
    pub(super) cpu: String,
    /// The best instruction set that ops on the processor use.
    pub(super) cpu_isa: &'static str,
    pub(super) memory_total_bytes: Option<u64>,
    /// Before the model was loaded: what is missing belongs to other programs.
    pub(super) memory_free_bytes: Option<u64>,
    pub(super) clocks_before: ClocksJson,
    pub(super) clocks_after: ClocksJson,
    pub(super) host_cores: usize,
    pub(super) versions: Versions,
    #[serde(skip)]
    report: DeviceReport,
    #[serde(skip)]
    on: Device,
    #[serde(skip)]
    used_before: Option<u64>,
}

/// [`Clocks`] in JSON.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct ClocksJson {
    core_mhz: Option<f64>,
    core_max_mhz: Option<f64>,
    memory_mhz: Option<f64>,
    power_w: Option<f64>,
    power_limit_w: Option<f64>,
    temperature_c: Option<f64>,
}

/// Versions of what ran.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Versions {
    latentd: &'static str,
    build: &'static str,
}

impl Machine {
    /// Looks at the device before anything runs on it.
    pub(super) fn look(on: Device) -> Self {
        let report = device_report(on);
        let clocks = ClocksJson::of(report.clocks);
        Self {
            device: report.name.clone(),
            cpu: device_report(Device::Cpu).name,
            cpu_isa: CpuIsa::in_use().name(),
            memory_total_bytes: report.memory_total_bytes,
            memory_free_bytes: report.memory_free_bytes,
            clocks_before: clocks,
            clocks_after: clocks,
            host_cores: std::thread::available_parallelism().map_or(1, usize::from),
            versions: Versions {
                latentd: env!("CARGO_PKG_VERSION"),
                build: if cfg!(debug_assertions) { "debug" } else { "release" },
            },
            report,
            on,
            used_before: memory_used(on),
        }
    }

    /// Looks at the clocks again when everything has run: throttling shows here.
    pub(super) fn look_again(&mut self) {
        self.clocks_after = ClocksJson::of(device_report(self.on).clocks);
    }

    /// The most memory that this process held on the device, once everything has run.
    pub(super) fn peak_memory(&self) -> Option<u64> {
        let used = memory_used(self.on)?;
        match self.on {
            Device::Cpu => Some(used),
            // A GPU's freed memory stays with the process, so what it holds at the end is the most it held.
            Device::Cuda(_) => Some(used.saturating_sub(self.used_before?)),
        }
    }

    /// Its name, if it is a GPU.
    pub(super) fn gpu(&self) -> Option<String> {
        self.report.is_gpu.then(|| self.device.clone())
    }

    /// Of the GPU.
    pub(super) fn driver(&self) -> Option<String> {
        self.report.driver.clone()
    }

    /// The device in one line.
    pub(super) fn line(&self) -> String {
        let mut line = self.device.clone();
        if let Some(driver) = &self.report.driver {
            line += &format!(", driver {driver}");
        }
        let clocks = [self.clocks_before.core_mhz, self.clocks_after.core_mhz];
        if let [Some(before), Some(after)] = clocks {
            line += &format!(", {before:.0} MHz before and {after:.0} MHz after");
        }
        line
    }
}

impl ClocksJson {
    fn of(clocks: Clocks) -> Self {
        let Clocks { core_mhz, core_max_mhz, memory_mhz, power_w, power_limit_w, temperature_c } = clocks;
        Self { core_mhz, core_max_mhz, memory_mhz, power_w, power_limit_w, temperature_c }
    }
}

/// The commit that this program was built from, or `unknown`.
pub(super) fn commit() -> &'static str {
    env!("LATENTD_COMMIT")
}

/// The command that measured, without secrets.
pub(super) fn command() -> Vec<String> {
    args::command_line()
}

/// Today, in UTC.
pub(super) fn date() -> String {
    Timestamp::now().strftime("%Y-%m-%d").to_string()
}
