//! The responses about clients' files.

use serde::Serialize;
use utoipa::ToSchema;

/// A token for the CDN host.
#[derive(Serialize, ToSchema)]
pub(crate) struct UploadToken {
    pub(crate) token: String,
    /// `Bearer`.
    pub(crate) token_type: &'static str,
    /// Where the token is good.
    pub(crate) base_url: String,
    #[schema(format = DateTime)]
    pub(crate) expires_at: String,
}

/// Where a file goes, and where it will be.
#[derive(Serialize, ToSchema)]
pub(crate) struct Destination {
    /// Where to PUT the bytes; the URL is the right to do so, once.
    pub(crate) upload_url: String,
    pub(crate) file_url: String,
}

/// A file that is there.
#[derive(Serialize, ToSchema)]
pub(crate) struct Accepted {
    pub(crate) access_url: String,
}

/// A file whose parts are to come.
#[derive(Serialize, ToSchema)]
pub(crate) struct Begun {
    pub(crate) access_url: String,
    /// Names the upload, and is the right to write it.
    #[serde(rename = "uploadId")]
    pub(crate) upload_id: String,
}

/// A part that is there.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PartTag {
    pub(crate) part_number: u32,
    /// To be listed at the end.
    pub(crate) etag: String,
}

/// Nothing but success.
#[derive(Serialize, ToSchema)]
pub(crate) struct Nothing {}
