//! Takes away files past their time, uploads given up, and parts that nobody needs.

use crate::http::error::ApiError;
use crate::queue::Queue;
use crate::storage::{FileKey, Storage};
use std::time::Duration;

/// Files past their time are not served; how soon they leave the disk matters less.
const EVERY: Duration = Duration::from_secs(60);

/// Sweeps for ever.
pub async fn sweep(queue: Queue, storage: Storage) {
    let mut clock = tokio::time::interval(EVERY);
    loop {
        clock.tick().await;
        if let Err(error) = once(&queue, &storage).await {
            tracing::warn!(?error, "expired uploads were not taken away");
        }
    }
}

/// The object goes before the row that names it, so that nothing is left without a name.
async fn once(queue: &Queue, storage: &Storage) -> Result<(), ApiError> {
    drop_parts(queue, storage).await?;
    loop {
        let ended = queue.ended_uploads().await?;
        if ended.is_empty() {
            return Ok(());
        }
        for (ticket, object) in ended {
            if let Some(object) = object.as_deref().and_then(FileKey::parse) {
                storage.delete(&object).await?;
            }
            queue.forget_upload(ticket).await?;
        }
    }
}

/// Takes away the parts of files that are whole or given up.
pub(super) async fn drop_parts(queue: &Queue, storage: &Storage) -> Result<(), ApiError> {
    loop {
        let parts = queue.needless_parts().await?;
        if parts.is_empty() {
            return Ok(());
        }
        for part in parts {
            if let Some(object) = FileKey::parse(&part) {
                storage.delete(&object).await?;
            }
            queue.forget_part(&part).await?;
        }
    }
}
