//! `GET /` and `GET /admin`, and what these pages load: one generates images in a browser, the other administers the server,
//! both by the API alone.
//!
//! The pages are public, for they hold no secret: the calls they make are checked like any client's.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

/// One file of the pages.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asset {
    name: &'static str,
    content_type: &'static str,
    text: &'static str,
}

macro_rules! asset {
    ($name:literal, $content_type:expr) => {
        Asset { name: $name, content_type: $content_type, text: include_str!(concat!("playground/", $name)) }
    };
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

static PAGE: Asset = asset!("index.html", HTML);

static ADMIN: Asset = asset!("admin.html", HTML);

/// The files of the pages below `/playground/`.
static PARTS: [Asset; 54] = [
    asset!("base.css", CSS),
    asset!("page.css", CSS),
    asset!("admin.css", CSS),
    asset!("admin.js", JS),
    asset!("admin-rows.js", JS),
    asset!("admin-words.js", JS),
    asset!("commands.js", JS),
    asset!("api.js", JS),
    asset!("builtin.js", JS),
    asset!("code-view.js", JS),
    asset!("code.js", JS),
    asset!("compare.js", JS),
    asset!("confirm.js", JS),
    asset!("deletions.js", JS),
    asset!("dom.js", JS),
    asset!("drop.js", JS),
    asset!("file-settings.js", JS),
    asset!("form.js", JS),
    asset!("gallery.css", CSS),
    asset!("gallery.js", JS),
    asset!("history.js", JS),
    asset!("icon.svg", "image/svg+xml"),
    asset!("image-actions.js", JS),
    asset!("image-field.js", JS),
    asset!("initial-image.js", JS),
    asset!("key-dialog.js", JS),
    asset!("limits.js", JS),
    asset!("loras.js", JS),
    asset!("main.js", JS),
    asset!("mask.css", CSS),
    asset!("mask.js", JS),
    asset!("mask-editor.js", JS),
    asset!("mask-painting.js", JS),
    asset!("models.js", JS),
    asset!("network-fields.js", JS),
    asset!("network.js", JS),
    asset!("networks.js", JS),
    asset!("notice.js", JS),
    asset!("numbers.js", JS),
    asset!("restore.js", JS),
    asset!("result.css", CSS),
    asset!("result.js", JS),
    asset!("server-status.js", JS),
    asset!("session.js", JS),
    asset!("shell.css", CSS),
    asset!("skip-layers.js", JS),
    asset!("store.js", JS),
    asset!("tabs.js", JS),
    asset!("thumbnail.js", JS),
    asset!("viewer.css", CSS),
    asset!("viewer.js", JS),
    asset!("watch.js", JS),
    asset!("words.js", JS),
    asset!("zoom.js", JS),
];

/// A page runs its own files and talks to this server alone; it cannot be framed, and no text becomes markup.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
);

/// The file at a path, if it is a page's.
pub(crate) fn at(segments: &[&str]) -> Option<&'static Asset> {
    match segments {
        [] => Some(&PAGE),
        ["admin"] => Some(&ADMIN),
        ["playground", name] => PARTS.iter().find(|asset| asset.name == *name),
        _ => None,
    }
}

/// Serves a file; a browser that has it asks whether it is still the same.
pub(crate) fn get(asset: &Asset, headers: &HeaderMap) -> Response {
    let etag = format!("\"{}\"", hex::encode(&Sha256::digest(asset.text)[..16]));
    let etag = HeaderValue::try_from(etag).expect("hex digits are a header value");
    let same = headers.get(header::IF_NONE_MATCH).is_some_and(|known| *known == etag);
    let mut response =
        if same { StatusCode::NOT_MODIFIED.into_response() } else { asset.text.into_response() };
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    out.insert(header::ETAG, etag);
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    out.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    out.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    out.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let opener = HeaderName::from_static("cross-origin-opener-policy");
    out.insert(opener, HeaderValue::from_static("same-origin"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the pages' files name is served, and what is served is named.
    #[test]
    fn the_files_are_those_that_the_pages_name() {
        let all: String = PARTS.iter().chain([&PAGE, &ADMIN]).map(|asset| asset.text).collect();
        for asset in &PARTS {
            let by_page = format!("\"playground/{}\"", asset.name);
            let by_module = format!("\"./{}\"", asset.name);
            assert!(all.contains(&by_page) || all.contains(&by_module), "{} is never loaded", asset.name);
        }
        for module in all.split("from \"./").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(at(&["playground", module]).is_some(), "{module} is not served");
        }
    }
}
