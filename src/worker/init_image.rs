//! Loads a request's initial image, its mask or its control image: fetches the file, checks its limits, decodes it.

use super::{Worker, stored};
use crate::engine::Image;
use crate::fault::Fault;
use crate::image_file::{DecodeError, MAX_SIDE};
use crate::queue::{Failure, FailureKind, QueueError};
use crate::storage::StorageError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::TryStreamExt;
use latentd_egress::{DownloadError, MAX_DOWNLOAD_BYTES};
use latentd_request::{Flaw, ImageRequest, Source};
use tokio::sync::Semaphore;

/// One image is decoded at a time, so that the memory for decoding is bounded.
static DECODER: Semaphore = Semaphore::const_new(1);

/// Why an image could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotLoaded {
    #[error("{1}")]
    Flawed(Flaw, String),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl Fault for NotLoaded {
    fn is_machines(&self) -> bool {
        match self {
            Self::Flawed(..) => false,
            Self::Storage(error) => error.is_machines(),
            Self::Queue(error) => error.is_machines(),
        }
    }
}

impl NotLoaded {
    /// The failure that the request ends with; `kind` is that of an image that cannot be used. The message repeats neither the
    /// URL nor inline data.
    pub(super) fn failure(self, kind: FailureKind) -> Failure {
        match &self {
            Self::Flawed(flaw, _) => {
                let message = format!("{}: {self}", kind.message());
                Failure { kind, message, detail: serde_json::to_value(flaw).ok() }
            }
            Self::Storage(_) | Self::Queue(_) => {
                Failure { kind: FailureKind::Engine, message: self.to_string(), detail: None }
            }
        }
    }
}

/// What makes an image of a file.
pub(super) type Decode = fn(&[u8]) -> Result<Image, DecodeError>;

/// Fetches and decodes an image.
pub(super) async fn load(worker: &Worker, source: &Source, decode: Decode) -> Result<Image, NotLoaded> {
    let bytes = match source {
        Source::Stored(key) => read_stored(worker, key).await?,
        Source::Inline(base64) => STANDARD.decode(base64).map_err(unreachable)?,
        Source::Remote(url) => worker.outgoing.download(url).await.map_err(|error| match error {
            DownloadError::TooLarge(_) => too_large(),
            DownloadError::Failed(_) => unreachable(error),
        })?,
    };
    let permit = DECODER.acquire().await;
    let decoded = tokio::task::spawn_blocking(move || {
        // Held until decoding is done, even if the request is cancelled meanwhile.
        let _permit = permit;
        decode(&bytes)
    });
    let flawed = |flaw, why: &dyn std::fmt::Display| NotLoaded::Flawed(flaw, why.to_string());
    decoded.await.map_err(|panic| flawed(Flaw::Unreadable, &panic))?.map_err(|error| match error {
        DecodeError::TooLong => flawed(Flaw::TooLarge(MAX_SIDE), &error),
        DecodeError::TooManyPixels(most) => flawed(Flaw::TooManyPixels(most), &error),
        DecodeError::Unsupported(_) => flawed(Flaw::Unsupported, &error),
        DecodeError::Unreadable(_) => flawed(Flaw::Unreadable, &error),
    })
}

/// Reads a file of this server's storage: an upload, or an earlier result.
async fn read_stored(worker: &Worker, key: &str) -> Result<Vec<u8>, NotLoaded> {
    let missing = || unreachable(stored::MISSING);
    let file = stored::open::<NotLoaded>(worker, key).await?.ok_or_else(missing)?;
    if file.size > MAX_DOWNLOAD_BYTES {
        return Err(too_large());
    }
    let Some((mut pieces, _)) = file.part else { return Err(missing()) };
    let mut bytes = Vec::with_capacity(file.size as usize);
    while let Some(piece) = pieces.try_next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

fn unreachable(why: impl std::fmt::Display) -> NotLoaded {
    NotLoaded::Flawed(Flaw::Unreachable, why.to_string())
}

fn too_large() -> NotLoaded {
    NotLoaded::Flawed(
        Flaw::TooManyBytes(MAX_DOWNLOAD_BYTES),
        DownloadError::TooLarge(MAX_DOWNLOAD_BYTES).to_string(),
    )
}

/// Sets the request's size to that of an image, scaled down to fit.
pub(super) fn adopt_size(request: &mut ImageRequest, image: &Image) {
    let share = |most: usize, side: usize| most as f64 / side as f64;
    let scale = share(request.width, image.width).min(share(request.height, image.height)).min(1.0);
    let [width, height] = [image.width, image.height].map(|side| (side as f64 * scale).round() as usize);
    (request.width, request.height) = (width.max(1), height.max(1));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_generated_size_is_that_of_the_initial_image_scaled_down_to_the_limit() {
        let row = json!({
            "prompt": "", "negative_prompt": "", "width": 1536, "height": 1536, "steps": 1, "guidance": 1.0,
            "seed": 0, "num_images": 1, "format": "png", "inline": false, "check_safety": true
        });
        let found = |width, height| {
            let mut request: ImageRequest = serde_json::from_value(row.clone()).expect("a request");
            adopt_size(&mut request, &Image { width, height, rgb: Vec::new() });
            (request.width, request.height)
        };
        assert_eq!(found(640, 480), (640, 480));
        assert_eq!(found(3072, 2048), (1536, 1024));
        assert_eq!(found(1000, 2000), (768, 1536));
        assert_eq!(found(1, 14_000), (1, 1536));
    }

    #[test]
    fn a_stored_request_without_an_initial_image_is_read_and_written_unchanged() {
        let row = json!({
            "prompt": "", "negative_prompt": "", "width": 64, "height": 64, "steps": 1, "guidance": 1.0,
            "seed": 0, "num_images": 1, "format": "png", "inline": false, "check_safety": true
        });
        let request: ImageRequest = serde_json::from_value(row.clone()).expect("a request");
        assert_eq!(request.init_image, None);
        assert_eq!(json!(request), row, "and written as before");
    }
}
