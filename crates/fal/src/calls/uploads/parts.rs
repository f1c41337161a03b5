//! Files in parts, which come in any order and side by side.

use super::receive::{create, object, receive};
use super::{Nothing, PartTag, close, writable};
use crate::input::body;
use crate::output::error::ApiError;
use crate::state::Api;
use axum::Json;
use axum::body::Body;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use latentd_queue::queue::Part;
use latentd_queue::storage::FileKey;
use latentd_queue::sweep;
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// Highest number of a part, as on S3.
pub(crate) const MAX_PARTS: u32 = 10_000;

/// Bytes of the largest list of parts, with white space.
const MAX_LIST: usize = MAX_PARTS as usize * 128;

/// A part as the client lists it at the end.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Listed {
    part_number: u32,
    etag: String,
}

/// All the parts of a file, in any order.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct List {
    parts: Vec<Listed>,
}

/// Takes one part. Sent again, it takes the place of the earlier one.
pub(crate) async fn put(
    api: &Api,
    ticket: Uuid,
    number: u32,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    if !(1..=MAX_PARTS).contains(&number) {
        return Err(ApiError::BadRequest(format!("part {number}: parts are numbered 1 to {MAX_PARTS}")));
    }
    writable(api, ticket).await?;
    let parts = api.queue.parts(ticket).await?;
    let others: u64 = parts.iter().filter(|part| part.number != number).map(|part| part.bytes).sum();
    let name = object();
    let bytes = receive(api, &name, headers, body, api.max_upload.saturating_sub(others)).await?;
    let part = Part { number, object: name.as_str().to_owned(), bytes };
    match api.queue.put_part(ticket, &part).await? {
        Ok(earlier) => {
            if let Some(earlier) = earlier.as_deref().and_then(FileKey::parse) {
                sweep::discard(&api.queue, &api.storage, &earlier).await?;
            }
        }
        Err(()) => {
            sweep::discard(&api.queue, &api.storage, &name).await?;
            return Err(super::used());
        }
    }
    // One client reads the header, the other the body.
    let etag = etag(&part);
    let body = PartTag { part_number: number, etag: etag.clone() };
    Ok(([(header::ETAG, etag)], Json(body)).into_response())
}

/// A part that is sent again has another name in the store, and so another tag.
fn etag(part: &Part) -> String {
    format!("\"{}\"", part.object.split('.').next().unwrap_or_default())
}

/// Puts the parts together.
pub(crate) async fn complete(api: &Api, ticket: Uuid, body: Body) -> Result<Response, ApiError> {
    let words = r#"{"parts": [{"partNumber": 1, "etag": "…"}, …]}"#;
    let List { parts: listed } = body::typed(&api.memory, body, MAX_LIST, words).await?;
    match writable(api, ticket).await {
        // An answer that was lost is given again.
        Err(ApiError::Gone(_)) if is_whole(api, ticket).await? => return Ok(Json(Nothing {}).into_response()),
        other => other?,
    }
    let parts = api.queue.parts(ticket).await?;
    check(listed, &parts)?;
    let bytes = parts.iter().map(|part| part.bytes).sum::<u64>();
    if bytes > api.max_upload {
        return Err(ApiError::UploadTooLarge(api.max_upload));
    }
    let whole = object();
    let done = match join(api, &whole, &parts).await {
        Ok(()) => close(api, ticket, &whole, bytes).await,
        Err(error) => Err(error),
    };
    // Somebody who completed the file at the same time may have been first.
    if done.is_err() && !is_whole(api, ticket).await? {
        done?;
    }
    sweep::parts(&api.queue, &api.storage).await?;
    Ok(Json(Nothing {}).into_response())
}

async fn is_whole(api: &Api, ticket: Uuid) -> Result<bool, ApiError> {
    Ok(api.queue.ticket(ticket).await?.is_some_and(|ticket| ticket.is_whole))
}

/// The list, in any order, must name all that was sent, from 1 on, as it was sent.
fn check(mut listed: Vec<Listed>, parts: &[Part]) -> Result<(), ApiError> {
    let wrong = |words: String| Err(ApiError::BadRequest(words));
    if listed.is_empty() {
        return wrong("parts is empty: list at least one".into());
    }
    listed.sort_by_key(|part| part.part_number);
    for (expected, listed) in (1..).zip(&listed) {
        let number = listed.part_number;
        if number != expected {
            return wrong(match number < expected {
                true => format!("part {number} is listed twice, or is no number from 1 on"),
                false => format!("part {expected} is missing: send it, and list parts 1 to the last"),
            });
        }
        let Some(part) = parts.iter().find(|part| part.number == number) else {
            return wrong(format!("part {number} was not uploaded: send it first"));
        };
        if listed.etag.trim_matches('"') != etag(part).trim_matches('"') {
            return wrong(format!("part {number}: the etag is {}, not {:?}", etag(part), listed.etag));
        }
    }
    match parts.last() {
        Some(last) if last.number as usize > listed.len() => {
            wrong(format!("part {} was uploaded and is not listed", last.number))
        }
        _ => Ok(()),
    }
}

/// Reads part after part into the whole, a piece at a time.
async fn join(api: &Api, whole: &FileKey, parts: &[Part]) -> Result<(), ApiError> {
    let lost = |part: &Part| ApiError::Internal(format!("part {} of an upload is gone", part.object));
    let mut writer = create(api, whole, parts.iter().map(|part| part.bytes).sum()).await?;
    for part in parts {
        let key = FileKey::parse(&part.object).ok_or_else(|| lost(part))?;
        let file = api.storage.get(&key, None).await?.ok_or_else(|| lost(part))?;
        let (mut bytes, _) = file.part.ok_or_else(|| lost(part))?;
        while let Some(piece) = bytes.next().await {
            writer.write(piece?).await?;
        }
    }
    Ok(writer.finish().await?)
}
