//! The calls that take files from clients.

use uuid::Uuid;

/// Calls that write files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UploadCall {
    /// A token for the CDN host.
    Token,
    /// A URL to write a file to, at once or in parts.
    Initiate,
    /// A file's bytes, to such a URL.
    Put(Uuid),
    /// A file's bytes, to the CDN host.
    Send,
    /// The CDN host's beginning of a file in parts.
    Begin,
    /// One part.
    Part(Uuid, u32),
    /// The end of a file in parts.
    Complete(Uuid),
}
