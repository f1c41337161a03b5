//! `GET /admin/keys` and `DELETE /admin/keys/{key_id}`: the keys of the table, without their secrets.

use crate::output::error::ApiError;
use crate::state::Api;
use latentd_queue::keys::Caller;
use latentd_queue::queue::Revocation;
use serde::Serialize;
use std::collections::HashMap;
use utoipa::ToSchema;

/// Keys.
#[derive(Debug, Serialize, ToSchema)]
#[schema(title = "Keys")]
pub(crate) struct AdminKeys {
    /// All that `latentd keys` made, the oldest first.
    keys: Vec<Key>,
}

/// A key.
#[derive(Debug, Serialize, ToSchema)]
#[schema(title = "Key")]
struct Key {
    /// Its public half.
    id: String,
    /// What its owner calls it.
    name: String,
    /// `api`, or `admin`.
    scope: &'static str,
    /// Requests that may run at once; `null`: any number.
    concurrency: Option<u32>,
    /// Requests of it that run.
    running: u64,
    created_at: String,
    /// When a call last came with it, give or take a minute.
    last_used_at: Option<String>,
    /// Since when it opens nothing.
    revoked_at: Option<String>,
    /// This call came with it.
    is_own: bool,
}

/// A key that opens nothing any more.
#[derive(Debug, Serialize, ToSchema)]
#[schema(title = "Revoked")]
pub(crate) struct Revoked {
    id: String,
    /// `revoked`, or `revoked before`.
    status: &'static str,
}

pub(super) async fn list(api: &Api, caller: &Caller) -> Result<AdminKeys, ApiError> {
    let running: HashMap<String, u64> = api.queue.running_by_key().await?.into_iter().collect();
    let keys = api.queue.keys().await?.into_iter().map(|key| Key {
        running: running.get(&key.id).copied().unwrap_or_default(),
        is_own: caller.key.as_ref() == Some(&key.id),
        id: key.id,
        name: key.name,
        scope: key.scope.word(),
        concurrency: key.concurrency,
        created_at: key.created_at.to_string(),
        last_used_at: key.last_used_at.map(|at| at.to_string()),
        revoked_at: key.revoked_at.map(|at| at.to_string()),
    });
    Ok(AdminKeys { keys: keys.collect() })
}

/// This server refuses the key from now on, and others with the same database within a second.
pub(super) async fn revoke(api: &Api, id: &str) -> Result<Revoked, ApiError> {
    let status = match api.queue.revoke_key(id).await? {
        Revocation::Revoked => "revoked",
        Revocation::AlreadyRevoked => "revoked before",
        Revocation::Unknown => return Err(ApiError::UnknownKey),
    };
    api.keys.refresh(&api.queue).await?;
    tracing::warn!(key = id, "an administrator revoked a key");
    Ok(Revoked { id: id.to_owned(), status })
}
