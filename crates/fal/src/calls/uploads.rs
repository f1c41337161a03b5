//! Files that clients send. The REST host hands out a URL to write to, the CDN host takes the
//! bytes at once; here both end in the same place.
//!
//! A ticket in a URL is the right to write one file, once: whoever holds it needs no key.

mod answers;
pub(crate) mod content_type;
pub(crate) mod lifecycle;
mod name;
mod parts;
mod receive;
mod repeat;

pub(crate) use answers::{Accepted, Begun, Destination, Nothing, PartTag, UploadToken};
use lifecycle::Wish;
pub(crate) use lifecycle::{Access, LIFECYCLE};
pub(crate) use parts::{List as PartList, MAX_PARTS};

use crate::access::auth;
use crate::input::body::{self, Sent};
use crate::output::error::ApiError;
use crate::output::links::Links;
use crate::routing::call::Call;
use crate::routing::upload_call::UploadCall;
use crate::state::Api;
use axum::Json;
use axum::body::Body;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use latentd_queue::queue::{NewUpload, TICKET_LIFE};
use latentd_queue::storage::FileKey;
use latentd_queue::sweep;
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The client's name for its file, on the CDN host.
pub(crate) const FILE_NAME: &str = "x-fal-file-name";

/// Bytes of the largest description of a file: its name and its type.
const MAX_DESCRIPTION: usize = 64 * 1024;

/// Serves a call.
pub(crate) async fn serve(
    api: &Api,
    call: &Call,
    upload: &UploadCall,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    match upload {
        UploadCall::Token => token(api, call).await,
        UploadCall::Initiate => initiate(api, call, headers, body).await,
        UploadCall::Put(ticket) => put(api, *ticket, headers, body).await,
        UploadCall::Send => send(api, &call.links, headers, body).await,
        UploadCall::Begin => begin(api, &call.links, headers).await,
        UploadCall::Part(ticket, number) => parts::put(api, *ticket, *number, headers, body).await,
        UploadCall::Complete(ticket) => parts::complete(api, *ticket, body).await,
    }
}

/// A token opens the CDN host only, and not for long: programs may hand it on where no key must go.
async fn token(api: &Api, call: &Call) -> Result<Response, ApiError> {
    let token = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    let end = api.queue.add_upload_token(&digest(&token), call.caller.key.as_deref(), TICKET_LIFE).await?;
    let end = end.map_err(ApiError::TooManyUploads)?;
    // The offset is spelled out: older Pythons do not read `Z`.
    let expires_at = end.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string();
    let base_url = call.links.file_origin().to_owned();
    Ok(Json(UploadToken { token, token_type: "Bearer", base_url, expires_at }).into_response())
}

/// Passes with a key of the API, or with a token; returns the id of the key, which the file belongs to.
async fn check_token(api: &Api, headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let refused = match auth::by_key(api, headers) {
        Ok(caller) => return Ok(caller.key),
        Err(refused) => refused,
    };
    let sent = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let token = sent.split_once(' ').map_or("", |(_, token)| token.trim());
    api.queue.upload_token_owner(&digest(token)).await?.ok_or(refused)
}

fn digest(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

/// Answers with a URL to write to and the URL that the file will have.
async fn initiate(api: &Api, call: &Call, headers: &HeaderMap, body: Body) -> Result<Response, ApiError> {
    let wish = body::json(&api.memory, Sent::Stream(body), MAX_DESCRIPTION).await?.value;
    if !wish.is_object() {
        return Err(ApiError::BadRequest(
            "the body must be an object with content_type and file_name".into(),
        ));
    }
    let text = |field: &str| match &wish[field] {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        other => Err(ApiError::BadRequest(format!("{field} must be a string, not {other}"))),
    };
    let (content_type, file_name) = (text("content_type")?, text("file_name")?);
    let owner = call.caller.key.clone();
    let new = open(api, owner, headers, content_type.as_deref(), file_name.as_deref()).await?;
    let answer =
        Destination { upload_url: call.links.upload(new.ticket), file_url: call.links.file(&new.key) };
    Ok(Json(answer).into_response())
}

/// Takes the bytes of a file to whose URL they were sent. A sender whose answer was lost may send them again.
async fn put(api: &Api, ticket: Uuid, headers: &HeaderMap, mut body: Body) -> Result<Response, ApiError> {
    match whole(api, ticket).await? {
        Some(object) if repeat::is_same(api, &object, &mut body).await? => {}
        Some(_) => return Err(used()),
        None => {
            writable(api, ticket).await?;
            receive_whole(api, ticket, headers, body).await?;
        }
    }
    Ok(Json(Nothing {}).into_response())
}

/// Where a file lies that is whole already.
async fn whole(api: &Api, ticket: Uuid) -> Result<Option<FileKey>, ApiError> {
    let Some(known) = api.queue.ticket(ticket).await?.filter(|known| known.is_whole) else { return Ok(None) };
    let file = api.queue.uploaded(&known.key).await?;
    Ok(file.and_then(|file| FileKey::parse(&file.object)))
}

/// Takes the bytes of a file on the CDN host.
async fn send(api: &Api, links: &Links, headers: &HeaderMap, body: Body) -> Result<Response, ApiError> {
    let owner = check_token(api, headers).await?;
    let new = open_described(api, owner, headers).await?;
    if let Err(error) = receive_whole(api, new.ticket, headers, body).await {
        api.queue.forget_upload(new.ticket).await?;
        return Err(error);
    }
    Ok(Json(Accepted { access_url: links.file(&new.key) }).into_response())
}

async fn begin(api: &Api, links: &Links, headers: &HeaderMap) -> Result<Response, ApiError> {
    let owner = check_token(api, headers).await?;
    let new = open_described(api, owner, headers).await?;
    let answer = Begun { access_url: links.file(&new.key), upload_id: new.ticket.simple().to_string() };
    Ok(Json(answer).into_response())
}

/// On the CDN host headers describe the file.
async fn open_described(
    api: &Api,
    owner: Option<String>,
    headers: &HeaderMap,
) -> Result<NewUpload, ApiError> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let file_name = headers.get(FILE_NAME).map(|value| String::from_utf8_lossy(value.as_bytes()));
    open(api, owner, headers, content_type, file_name.as_deref()).await
}

async fn open(
    api: &Api,
    owner: Option<String>,
    headers: &HeaderMap,
    content_type: Option<&str>,
    file_name: Option<&str>,
) -> Result<NewUpload, ApiError> {
    let Wish { lifetime, access } = lifecycle::wish(headers)?;
    if access.is_some() && api.keys.is_open() {
        let words = "initial_acl needs keys here: without them everybody is the owner; `latentd keys create` makes one";
        return Err(ApiError::BadRequest(words.into()));
    }
    let file_name = file_name.and_then(name::clean);
    let content_type = content_type::checked(content_type);
    let extension = name::extension(file_name.as_deref(), &content_type);
    let new = NewUpload {
        ticket: Uuid::new_v4(),
        key: FileKey::fresh(&extension).as_str().to_owned(),
        content_type,
        file_name,
        lifetime,
        access: access.map(|access| access.word().to_owned()),
        api_key: owner,
    };
    api.queue.open_upload(&new, api.max_open_uploads).await?.map_err(ApiError::TooManyUploads)?;
    Ok(new)
}

/// The bytes are durable before the row counts them as received.
async fn receive_whole(api: &Api, ticket: Uuid, headers: &HeaderMap, body: Body) -> Result<(), ApiError> {
    let object = receive::object();
    let bytes = receive::receive(api, &object, headers, body, api.max_upload).await?;
    close(api, ticket, &object, bytes).await
}

/// Names the object of a whole file, unless somebody else was first.
async fn close(api: &Api, ticket: Uuid, object: &FileKey, bytes: u64) -> Result<(), ApiError> {
    if api.queue.close_upload(ticket, object.as_str(), bytes).await? {
        return Ok(());
    }
    sweep::discard(&api.queue, &api.storage, object).await?;
    Err(used())
}

/// Passes while a ticket can be used.
async fn writable(api: &Api, ticket: Uuid) -> Result<(), ApiError> {
    match api.queue.ticket(ticket).await? {
        None => Err(ApiError::UnknownPath("of this upload".into())),
        Some(known) if known.is_whole => Err(used()),
        Some(known) if !known.is_writable => {
            Err(ApiError::Gone("the upload URL has expired: ask for another"))
        }
        Some(_) => Ok(()),
    }
}

fn used() -> ApiError {
    ApiError::Gone("the upload URL was used already: ask for another")
}
