//! `GET /docs`: the document as a page where every call can be tried. Swagger UI is inside the executable, so that the
//! page needs no other host.

use crate::output::error::ApiError;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use flate2::read::GzDecoder;
use std::io::Read;
use std::sync::OnceLock;

/// A file of the page. All who load it share its bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asset {
    name: &'static str,
    content_type: &'static str,
    /// Gzipped.
    packed: &'static [u8],
    /// Unpacked for the first client that does not do that itself.
    plain: OnceLock<Bytes>,
}

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

macro_rules! asset {
    ($name:literal, $content_type:expr) => {
        Asset {
            name: $name,
            content_type: $content_type,
            packed: include_bytes!(concat!(env!("OUT_DIR"), "/docs/", $name, ".gz")),
            plain: OnceLock::new(),
        }
    };
}

static ASSETS: [Asset; 5] = [
    asset!("swagger-ui-bundle.js", SCRIPT),
    asset!("swagger-ui.css", STYLE),
    asset!("start.js", SCRIPT),
    asset!("LICENSE", TEXT),
    asset!("NOTICE", TEXT),
];

impl Asset {
    pub(crate) fn of(name: &str) -> Option<&'static Self> {
        ASSETS.iter().find(|asset| asset.name == name)
    }

    fn plain(&self) -> Result<Bytes, ApiError> {
        if let Some(plain) = self.plain.get() {
            return Ok(plain.clone());
        }
        let mut plain = Vec::new();
        let unpacked = GzDecoder::new(self.packed).read_to_end(&mut plain);
        unpacked.map_err(|error| ApiError::Internal(format!("{} cannot be unpacked: {error}", self.name)))?;
        Ok(self.plain.get_or_init(|| plain.into()).clone())
    }
}

/// The page, for a server at `origin` whose own paths lie below `root`.
pub(crate) fn page(origin: &str, root: &str) -> Response {
    let html = include_str!("docs/page.html").replace("{root}", root);
    // Calls may go to where the operator says that clients reach the server.
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; \
         connect-src 'self' {}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        origin
    );
    let policy = HeaderValue::try_from(policy).expect("an origin is a header value");
    ([(header::CONTENT_SECURITY_POLICY, policy)], NO_SNIFFING, Html(html)).into_response()
}

const NO_SNIFFING: [(HeaderName, HeaderValue); 1] =
    [(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))];

/// A file of the page, packed for those who unpack it.
pub(crate) fn asset(asset: &Asset, headers: &HeaderMap) -> Result<Response, ApiError> {
    let kept = [
        (header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600")),
        (header::VARY, HeaderValue::from_static("accept-encoding")),
    ];
    let accepted =
        headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accepted.contains("gzip") {
        return Ok((kept, NO_SNIFFING, [(header::CONTENT_ENCODING, "gzip")], asset.packed).into_response());
    }
    Ok((kept, NO_SNIFFING, asset.plain()?).into_response())
}
