//! `GET /admin/requests`: the queue, and what failed lately.

use super::names_of_keys;
use crate::output::error::ApiError;
use crate::state::Api;
use latentd_queue::queue::{FailedRequest, OpenRequest, Origin, Priority};
use serde::Serialize;
use std::collections::HashMap;
use utoipa::ToSchema;

/// So many requests that run are listed, and so many that wait.
const MOST: u32 = 200;

/// So many failures are listed.
const MOST_FAILED: u32 = 30;

/// Requests that are not over, and those that failed lately.
#[derive(Debug, Serialize, ToSchema)]
#[schema(title = "Requests")]
pub(crate) struct AdminRequests {
    /// How many wait; all of them.
    waiting: u64,
    /// How many run; all of them.
    running: u64,
    /// Those that run, and then those that wait in the order in which they start; at most 200 of each.
    requests: Vec<Open>,
    /// Those that failed lately and were not cancelled, the last first; at most 30.
    failures: Vec<Failed>,
}

/// A request that is not over.
#[derive(Debug, Serialize, ToSchema)]
#[schema(title = "OpenRequest")]
struct Open {
    request_id: String,
    /// `running`, `waiting`, or `cancelling`: it was cancelled, and its worker has not stopped yet.
    state: &'static str,
    endpoint: String,
    /// Id of the key that it came with; `null` where that was none of the table.
    key: Option<String>,
    /// What the key's owner calls it.
    key_name: Option<String>,
    /// `normal`, or `low`.
    priority: &'static str,
    /// Its client waits for the result, and its end cancels the request.
    is_run: bool,
    /// Id of the worker that runs it.
    worker: Option<String>,
    /// How often it was started.
    attempt: i64,
    /// Since it was accepted.
    age_seconds: f64,
    /// Since the attempt that runs was started.
    running_seconds: Option<f64>,
}

/// A request that failed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(title = "FailedRequest")]
struct Failed {
    request_id: String,
    endpoint: String,
    key: Option<String>,
    key_name: Option<String>,
    /// Why, in the word of the metrics and the log.
    outcome: &'static str,
    /// The same for people.
    message: String,
    /// When it failed.
    failed_at: String,
}

/// The names of keys by their ids.
type Names = HashMap<String, String>;

pub(super) async fn list(api: &Api) -> Result<AdminRequests, ApiError> {
    let depth = api.queue.depth().await?;
    let names = names_of_keys(api).await?;
    let requests = api.queue.open_requests(MOST).await?;
    let failures = api.queue.failed_requests(MOST_FAILED).await?;
    Ok(AdminRequests {
        waiting: depth.waiting.iter().map(|(_, count)| count).sum(),
        running: depth.running,
        requests: requests.into_iter().map(|request| open(request, &names)).collect(),
        failures: failures.into_iter().map(|request| failed(request, &names)).collect(),
    })
}

fn open(request: OpenRequest, names: &Names) -> Open {
    let state = match request.running {
        Some(_) if request.is_cancelled => "cancelling",
        Some(_) => "running",
        None => "waiting",
    };
    Open {
        request_id: request.id.to_string(),
        state,
        endpoint: request.endpoint,
        key_name: name_of(request.api_key.as_deref(), names),
        key: request.api_key,
        priority: if request.priority == Priority::Low as i64 { "low" } else { "normal" },
        is_run: request.origin == Origin::Direct,
        worker: request.worker,
        attempt: request.attempt,
        age_seconds: request.age.as_secs_f64(),
        running_seconds: request.running.map(|running| running.as_secs_f64()),
    }
}

fn failed(request: FailedRequest, names: &Names) -> Failed {
    Failed {
        request_id: request.id.to_string(),
        endpoint: request.endpoint,
        key_name: name_of(request.api_key.as_deref(), names),
        key: request.api_key,
        outcome: request.kind.word(),
        message: request.message,
        failed_at: request.at.to_string(),
    }
}

fn name_of(key: Option<&str>, names: &Names) -> Option<String> {
    names.get(key?).cloned()
}
