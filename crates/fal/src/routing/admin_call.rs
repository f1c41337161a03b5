//! The calls of an administrator.

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AdminCall {
    /// Requests that are not over, and those that failed.
    Requests,
    Workers,
    Keys,
    /// Revokes a key, by its id.
    Revoke(String),
    Storage,
    /// Stops the server when what runs is over.
    Drain,
}
