//! `--isolate-keys`: each key reads, cancels and deletes its own requests and files alone. What is another's is answered as
//! what is not there. Keys of administrators see everything.
//!
//! A file's URL is a permission of its own, as on fal: its name has 122 random bits, and only the file's owner is told it. So
//! a page shows an image without a key. A call that brings a key gets its own files alone, and files whose upload asked for
//! `hide` or `forbid` need the owner's key.

use crate::access::auth;
use crate::output::error::ApiError;
use crate::routing::call::Call;
use crate::routing::target::Target as T;
use crate::state::Api;
use axum::http::HeaderMap;
use latentd_queue::keys::Caller;
use latentd_queue::planted::{self, Bug};
use latentd_queue::queue::{RequestId, Scope};
use latentd_queue::storage::FileKey;
use latentd_request::{ImageRequest, Source};

/// Refuses a call about something of another key. Every target is decided here.
pub(crate) async fn check(api: &Api, call: &Call, headers: &HeaderMap) -> Result<(), ApiError> {
    if !api.isolate_keys {
        return Ok(());
    }
    match &call.target {
        T::Status(id) | T::StatusStream(id) | T::Result(id) | T::Payloads(id) => {
            request(api, call, *id, ApiError::UnknownRequest).await
        }
        T::Cancel(id) => request(api, call, *id, ApiError::UnknownCancel).await,
        T::File(key) => file(api, key, headers).await,
        // What they make is the caller's; an idempotency key finds requests of the same API key alone.
        T::Submit(_) | T::Run(_) | T::RunStream(_) | T::Realtime(_) | T::OverWebSocket(_) | T::Tokens => {
            Ok(())
        }
        T::GenerateImages | T::EditImages => Ok(()),
        // Whoever knows an upload may write it, and nobody reads it there.
        T::Upload(_) => Ok(()),
        // They leave other keys out.
        T::Metrics => Ok(()),
        // Administrators see everything.
        T::Admin(_) => Ok(()),
        // The same for everybody.
        T::SigningKeys | T::Playground(_) | T::Models | T::Model(_) | T::Live | T::Ready => Ok(()),
        T::Document | T::Docs | T::DocsAsset(_) | T::Proxy => Ok(()),
    }
}

/// May the caller see what belongs to this key, or to the operator?
fn may_see(caller: &Caller, owner: Option<&str>) -> bool {
    let is_own = caller.key.as_deref() == owner || planted::has(Bug::OwnerIgnored);
    caller.scope == Scope::Admin || is_own
}

async fn request(api: &Api, call: &Call, id: RequestId, unknown: ApiError) -> Result<(), ApiError> {
    match api.queue.request_owner(id).await? {
        Some(owner) if may_see(&call.caller, owner.as_deref()) => Ok(()),
        _ => Err(unknown),
    }
}

/// A call without a key has the URL, which is enough.
async fn file(api: &Api, key: &FileKey, headers: &HeaderMap) -> Result<(), ApiError> {
    let Ok(caller) = auth::by_key(api, headers) else { return Ok(()) };
    match owns(api, &caller, key.as_str()).await? {
        true => Ok(()),
        false => Err(ApiError::UnknownPath(format!("/files/{}", key.as_str()))),
    }
}

async fn owns(api: &Api, caller: &Caller, file: &str) -> Result<bool, ApiError> {
    if caller.scope == Scope::Admin {
        return Ok(true);
    }
    let owner = api.queue.file_owner(file).await?;
    Ok(owner.is_some_and(|owner| may_see(caller, owner.as_deref())))
}

/// Keeps a request from reading files of another key: it reads some that are not there, and ends as with any such file.
pub(crate) async fn restrict_sources(
    api: &Api,
    caller: &Caller,
    request: &mut ImageRequest,
) -> Result<(), ApiError> {
    if !api.isolate_keys {
        return Ok(());
    }
    for source in request.files_mut() {
        if let Source::Stored(file) = source
            && !owns(api, caller, file).await?
        {
            *file = FileKey::fresh("bin").as_str().to_owned();
        }
    }
    Ok(())
}

/// May the caller see numbers of this key?
pub(crate) fn may_count(api: &Api, caller: &Caller, key: &str) -> bool {
    !api.isolate_keys || may_see(caller, Some(key))
}
