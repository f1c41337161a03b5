//! The image that a request begins from: fetched, held to its limits, decoded.

use super::Worker;
use crate::engine::Image;
use crate::fault::Fault;
use crate::image_file::{self, DecodeError, MAX_SIDE};
use crate::queue::{Failure, FailureKind, FileLife, QueueError};
use crate::storage::{FileKey, StorageError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::TryStreamExt;
use latentd_egress::{DownloadError, MAX_DOWNLOAD_BYTES};
use latentd_request::{BeginFrom, Flaw, ImageRequest, Source};
use tokio::sync::Semaphore;

/// One image is decoded at a time: what that takes is bounded for one.
static DECODER: Semaphore = Semaphore::const_new(1);

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotLoaded {
    #[error("the initial image cannot be used: {1}")]
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
    /// How the request fails. A URL and what is inside of the request are not told again.
    pub(super) fn failure(self) -> Failure {
        let message = self.to_string();
        match self {
            Self::Flawed(flaw, _) => {
                Failure { kind: FailureKind::InitImage, message, detail: serde_json::to_value(flaw).ok() }
            }
            Self::Storage(_) | Self::Queue(_) => Failure { kind: FailureKind::Engine, message, detail: None },
        }
    }
}

/// Fetches and decodes.
pub(super) async fn load(worker: &Worker, source: &Source) -> Result<Image, NotLoaded> {
    let bytes = match source {
        Source::Stored(key) => stored(worker, key).await?,
        Source::Inline(base64) => STANDARD.decode(base64).map_err(unreachable)?,
        Source::Remote(url) => worker.outgoing.download(url).await.map_err(|error| match error {
            DownloadError::TooLarge => too_large(),
            DownloadError::Failed(_) => unreachable(error),
        })?,
    };
    let turn = DECODER.acquire().await;
    let decoded = tokio::task::spawn_blocking(move || {
        // Kept until it is done, also where nobody waits for it any more.
        let _turn = turn;
        image_file::decode(&bytes)
    });
    let flawed = |flaw, why: &dyn std::fmt::Display| NotLoaded::Flawed(flaw, why.to_string());
    decoded.await.map_err(|panic| flawed(Flaw::Unreadable, &panic))?.map_err(|error| match error {
        DecodeError::TooLong => flawed(Flaw::TooLarge(MAX_SIDE), &error),
        DecodeError::TooManyPixels(most) => flawed(Flaw::TooManyPixels(most), &error),
        DecodeError::Unsupported(_) => flawed(Flaw::Unsupported, &error),
        DecodeError::Unreadable(_) => flawed(Flaw::Unreadable, &error),
    })
}

/// A file that a client sent here, or a result.
async fn stored(worker: &Worker, key: &str) -> Result<Vec<u8>, NotLoaded> {
    let missing = || unreachable("this server has no such file, or not any longer");
    let object = match worker.queue.uploaded(key).await? {
        Some(file) => file.object,
        None if worker.queue.file_life(key).await? == Some(FileLife::Over) => return Err(missing()),
        None => key.to_owned(),
    };
    let object = FileKey::parse(&object).ok_or_else(missing)?;
    let file = worker.storage.get(&object, None).await?.ok_or_else(missing)?;
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
    NotLoaded::Flawed(Flaw::TooManyBytes(MAX_DOWNLOAD_BYTES), DownloadError::TooLarge.to_string())
}

/// Gives the request the size of its image, if it is to have that.
pub(super) fn size(request: &mut ImageRequest, begin: &BeginFrom, image: &Image) {
    if !begin.keeps_size {
        return;
    }
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
    fn what_is_generated_is_as_large_as_the_image_where_that_can_be() {
        let request = |keeps_size| {
            json!({
                "prompt": "", "negative_prompt": "", "width": 1536, "height": 1536, "steps": 1, "guidance": 1.0,
                "seed": 0, "num_images": 1, "format": "png", "inline": false, "check_safety": true,
                "begin": { "source": { "stored": "" }, "strength": 0.5, "keeps_size": keeps_size }
            })
        };
        let found = |keeps_size, width, height| {
            let mut request: ImageRequest = serde_json::from_value(request(keeps_size)).expect("a request");
            let begin = request.begin.take().expect("an image");
            size(&mut request, &begin, &Image { width, height, rgb: Vec::new() });
            (request.width, request.height)
        };
        assert_eq!(found(true, 640, 480), (640, 480));
        assert_eq!(found(true, 3072, 2048), (1536, 1024));
        assert_eq!(found(true, 1000, 2000), (768, 1536));
        assert_eq!(found(true, 1, 14_000), (1, 1536));
        assert_eq!(found(false, 640, 480), (1536, 1536));
    }

    #[test]
    fn a_row_from_before_there_were_images_is_read() {
        let row = json!({
            "prompt": "", "negative_prompt": "", "width": 64, "height": 64, "steps": 1, "guidance": 1.0,
            "seed": 0, "num_images": 1, "format": "png", "inline": false, "check_safety": true
        });
        let request: ImageRequest = serde_json::from_value(row.clone()).expect("a request");
        assert_eq!(request.begin, None);
        assert_eq!(json!(request), row, "and written as before");
    }
}
