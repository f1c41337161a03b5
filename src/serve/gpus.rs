//! What NVIDIA's management library (NVML) tells of this machine's GPUs, for the metrics. It comes with the driver and is
//! loaded at run time; where there is none, there are no such metrics. It does not start CUDA.

use latentd_fal::Gpu;
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use std::ffi::OsStr;
use std::sync::{Arc, OnceLock};

/// Its name in every driver; the one without a version is for building programs.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// Reads the GPUs at each call. The first call opens the library, for that can take a second.
pub(super) fn reader() -> Arc<dyn Fn() -> Vec<Gpu> + Send + Sync> {
    let nvml = OnceLock::new();
    Arc::new(move || nvml.get_or_init(open).as_ref().map_or_else(Vec::new, all))
}

fn open() -> Option<Nvml> {
    match Nvml::builder().lib_path(OsStr::new(LIBRARY)).init() {
        Ok(nvml) => Some(nvml),
        Err(NvmlError::LibloadingError(_)) => None, // no driver
        Err(error) => {
            tracing::warn!("no metrics of GPUs: {LIBRARY}: {error}");
            None
        }
    }
}

fn all(nvml: &Nvml) -> Vec<Gpu> {
    let count = nvml.device_count().unwrap_or(0);
    (0..count).filter_map(|index| Some(gpu(index, &nvml.device_by_index(index).ok()?))).collect()
}

fn gpu(index: u32, device: &Device<'_>) -> Gpu {
    let memory = device.memory_info().ok();
    Gpu {
        device: format!("cuda:{index}"),
        memory_used: memory.as_ref().map(|memory| memory.used),
        memory_total: memory.as_ref().map(|memory| memory.total),
        utilization: device.utilization_rates().ok().map(|rates| f64::from(rates.gpu) / 100.0),
        temperature: device.temperature(TemperatureSensor::Gpu).ok().map(f64::from),
    }
}
