//! Authentication: the holder of a key, or of a token that a key's holder created.

use crate::access::tokens;
use crate::output::error::ApiError;
use crate::routing::call::Call;
use crate::routing::table::Access;
use crate::state::Api;
use axum::http::{HeaderMap, header};
use latentd_queue::keys::Caller;
use latentd_queue::queue::Scope;
use std::time::Duration;

/// Carries a token where a client cannot send a header: in event sources and web sockets.
pub(crate) const TOKEN: &str = "fal_jwt_token";

/// Whether the call needs no key, or its handler checks what opens it.
pub(crate) fn is_open(api: &Api, call: &Call) -> bool {
    match call.access {
        Access::Public | Access::File | Access::Upload | Access::UploadToken => true,
        Access::Metrics => api.metrics_open,
        Access::Key | Access::KeyOrToken | Access::Admin => false,
    }
}

/// Passes with a key, with a token where tokens count, and always while the server has no keys.
pub(crate) fn check(api: &Api, call: &Call, headers: &HeaderMap) -> Result<Caller, ApiError> {
    by_key(api, headers).or_else(|refused| by_token(api, call).ok_or(refused))
}

/// Passes with a key, sent as `Key …` or `Bearer …`, and always while the server has no keys.
pub(crate) fn by_key(api: &Api, headers: &HeaderMap) -> Result<Caller, ApiError> {
    if api.keys.is_open() {
        return Ok(Caller::operator());
    }
    let sent = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (scheme, key) = sent.split_once(' ').unwrap_or_default();
    let known_scheme = scheme.eq_ignore_ascii_case("key") || scheme.eq_ignore_ascii_case("bearer");
    let holder = known_scheme.then(|| api.keys.holder(key.trim(), api.queue.now())).flatten();
    holder.ok_or(ApiError::Unauthorized)
}

/// Passes with a key of an administrator.
pub(crate) fn admin(call: &Call) -> Result<(), ApiError> {
    if call.caller.scope == Scope::Admin { Ok(()) } else { Err(ApiError::NotAdmin) }
}

/// `true` when the call has a token, valid or not.
pub(crate) fn brings_token(call: &Call) -> bool {
    call.parameter(TOKEN).is_some()
}

/// How long the right lasts with which a call was let in; `None`: as long as its key.
pub(crate) fn lasts(api: &Api, call: &Call, headers: &HeaderMap) -> Option<Duration> {
    if by_key(api, headers).is_ok() {
        return None;
    }
    tokens::life_left(api, &call.parameter(TOKEN)?)
}

/// Nothing but a run that its client waits for opens to a token: not the queue, the files or other tokens.
fn by_token(api: &Api, call: &Call) -> Option<Caller> {
    let application = call.target.running().filter(|_| call.access == Access::KeyOrToken)?;
    tokens::holder(api, &call.parameter(TOKEN)?, application)
}
