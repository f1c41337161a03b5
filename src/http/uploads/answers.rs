//! What clients are told about their files.

use serde::Serialize;
use utoipa::ToSchema;

/// A token for the CDN host.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct UploadToken {
    pub(super) token: String,
    /// `Bearer`.
    pub(super) token_type: &'static str,
    /// Where the token is good.
    pub(super) base_url: String,
    #[schema(format = DateTime)]
    pub(super) expires_at: String,
}

/// Where a file goes, and where it will be.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Destination {
    /// Where to PUT the bytes; the URL is the right to do so, once.
    pub(super) upload_url: String,
    pub(super) file_url: String,
}

/// A file that is there.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Accepted {
    pub(super) access_url: String,
}

/// A file whose parts are to come.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Begun {
    pub(super) access_url: String,
    /// Names the upload, and is the right to write it.
    #[serde(rename = "uploadId")]
    pub(super) upload_id: String,
}

/// A part that is there.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct PartTag {
    pub(super) part_number: u32,
    /// To be listed at the end.
    pub(super) etag: String,
}

/// Nothing but success.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Nothing {}
