//! Writes a body to the store as it arrives.

use crate::output::error::ApiError;
use crate::state::Api;
use axum::body::Body;
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt;
use latentd_queue::queue::ABANDONED;
use latentd_queue::storage::{FileKey, Writer};
use std::time::Duration;
use tokio::time::Instant;

/// A sender may be silent this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes a second that a sender must send on average, after its first minute.
const SLOWEST: u64 = 1024;

/// What is too much is read on for this long and thrown away: a client that is still sending
/// would see a broken connection and not the answer.
const MAX_DISCARDED: u64 = 128 * 1024 * 1024;

/// A fresh name in the store. Objects of clients' files are never served by their own name.
pub(crate) fn object() -> FileKey {
    FileKey::fresh("bin")
}

/// Stores a body under a name: durable when this returns its size. On any failure, and when the
/// client goes away, there is no such object.
pub(crate) async fn receive(
    api: &Api,
    object: &FileKey,
    headers: &HeaderMap,
    body: Body,
    max: u64,
) -> Result<u64, ApiError> {
    if announced(headers).is_some_and(|size| size > max) {
        return Err(too_large(api, body).await);
    }
    let _held = api.memory.reserve_for_upload().await?;
    let mut body = body;
    let mut writer = create(api, object, announced(headers).unwrap_or_default()).await?;
    let begun = Instant::now();
    let mut noted = begun;
    while let Some(bytes) = next(&mut body).await? {
        if begun.elapsed() > PATIENCE + Duration::from_secs(writer.size() / SLOWEST) {
            return Err(ApiError::BodyTooSlow);
        }
        if writer.size() + bytes.len() as u64 > max {
            drop(writer);
            return Err(too_large(api, body).await);
        }
        writer.write(bytes).await?;
        if noted.elapsed() > ABANDONED / 6 {
            api.queue.still_expect_file(object.as_str()).await?;
            noted = Instant::now();
        }
    }
    let size = writer.size();
    if announced(headers).is_some_and(|announced| announced != size) {
        return Err(cut_short());
    }
    writer.finish().await?;
    Ok(size)
}

/// Begins a file of so many bytes, as far as that is known. It is written down first, so that it is found again should
/// this process die.
pub(crate) async fn create(api: &Api, object: &FileKey, bytes: u64) -> Result<Writer, ApiError> {
    api.check_space(bytes).await?;
    api.queue.expect_files(&[object.as_str()], None).await?;
    Ok(api.storage.create(object).await?)
}

/// The next bytes of a body; `None` at its end.
pub(crate) async fn next(body: &mut Body) -> Result<Option<bytes::Bytes>, ApiError> {
    loop {
        let frame = tokio::time::timeout(PATIENCE, body.frame()).await.map_err(|_| ApiError::BodyTooSlow)?;
        match frame {
            None => return Ok(None),
            Some(Err(_)) => return Err(cut_short()),
            // Trailers say nothing about the bytes.
            Some(Ok(frame)) => match frame.into_data() {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(_) => continue,
            },
        }
    }
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn cut_short() -> ApiError {
    ApiError::BadRequest("the body ended before its time: send the file again".into())
}

async fn too_large(api: &Api, mut body: Body) -> ApiError {
    let mut discarded = 0;
    while discarded < MAX_DISCARDED
        && let Ok(Some(bytes)) = next(&mut body).await
    {
        discarded += bytes.len() as u64;
    }
    ApiError::UploadTooLarge(api.max_upload)
}
