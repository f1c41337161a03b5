//! `GET /admin/workers`: the workers that reported lately, and the devices of this server.

use crate::calls::health::BEAT_AGE;
use crate::output::error::ApiError;
use crate::state::Api;
use serde::Serialize;
use utoipa::ToSchema;

/// Workers and devices.
#[derive(Debug, Serialize, ToSchema)]
#[schema(title = "Workers")]
pub(crate) struct AdminWorkers {
    /// Those that reported lately, also those of other servers with the same database, by their devices.
    workers: Vec<Worker>,
    /// The devices of this server.
    devices: Vec<Device>,
}

/// A worker.
#[derive(Debug, Serialize, ToSchema)]
#[schema(title = "Worker")]
struct Worker {
    id: String,
    /// `cpu`, or `cuda:N`.
    device: String,
    /// `ready`, or `loading`.
    state: &'static str,
    /// Models that it has loaded.
    models: Vec<String>,
    /// Since its first report.
    age_seconds: f64,
    /// Since its last report.
    silent_seconds: f64,
}

/// A device.
#[derive(Debug, Serialize, ToSchema)]
#[schema(title = "Device")]
struct Device {
    /// `cpu`, or `cuda:N`.
    device: String,
    /// Why no worker is started there for a while; `null`: it is in use.
    set_aside: Option<String>,
}

pub(super) async fn list(api: &Api) -> Result<AdminWorkers, ApiError> {
    let workers = api.queue.workers(BEAT_AGE).await?.into_iter().map(|worker| Worker {
        id: worker.id,
        device: worker.device,
        state: if worker.is_ready { "ready" } else { "loading" },
        models: worker.models,
        age_seconds: worker.age.as_secs_f64(),
        silent_seconds: worker.silence.as_secs_f64(),
    });
    let devices = api.queue.devices().into_iter().map(|(device, set_aside)| Device { device, set_aside });
    Ok(AdminWorkers { workers: workers.collect(), devices: devices.collect() })
}
