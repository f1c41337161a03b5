//! `GET /admin/storage`: what files take, and what is free.

use crate::output::error::ApiError;
use crate::state::Api;
use serde::Serialize;
use utoipa::ToSchema;

/// What is stored.
#[derive(Debug, Serialize, ToSchema)]
#[schema(title = "Storage")]
pub(crate) struct AdminStorage {
    /// Bytes of all files of results and uploads.
    stored_bytes: u64,
    /// Bytes of results among them that the limit would let go now.
    deletable_bytes: u64,
    /// The limit (`--max-storage`); `null`: there is none.
    max_bytes: Option<u64>,
    /// Bytes of the LoRA adapters that are kept on this machine.
    adapter_cache_bytes: u64,
    /// The directories that this server writes to.
    disks: Vec<Disk>,
}

/// A directory, and the disk that it is on.
#[derive(Debug, Serialize, ToSchema)]
#[schema(title = "Disk")]
struct Disk {
    path: String,
    /// `null` where the disk cannot be asked.
    free_bytes: Option<u64>,
    /// Bytes that are to stay free (`--min-free-disk`).
    min_free_bytes: u64,
}

pub(super) async fn get(api: &Api) -> Result<AdminStorage, ApiError> {
    let (places, cache) = (api.disks.clone(), api.adapter_cache_bytes.clone());
    let asked = tokio::task::spawn_blocking(move || (places.places(), cache())).await;
    let (places, adapter_cache_bytes) = asked.unwrap_or_default();
    let disks = places.into_iter().map(|place| Disk {
        path: place.path.display().to_string(),
        free_bytes: place.free,
        min_free_bytes: place.min_free,
    });
    Ok(AdminStorage {
        stored_bytes: api.queue.stored_bytes().await?,
        deletable_bytes: api.queue.deletable_bytes().await?,
        max_bytes: api.storage_limit.most(),
        adapter_cache_bytes,
        disks: disks.collect(),
    })
}
