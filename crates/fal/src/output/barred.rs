//! Why a server without keys refuses a call: its host name, the page that it comes from, or the type of its body.

use axum::http::StatusCode;
use std::fmt;

/// Why a call to a server without keys is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Barred {
    /// The client calls the server by a name that is not its own.
    Host(String),
    /// A page of this origin calls; `None`: the browser sends only that it is another site's.
    Origin(Option<String>),
    /// A browser could send this body for any page.
    ContentType,
}

impl Barred {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Host(_) => StatusCode::MISDIRECTED_REQUEST,
            Self::Origin(_) => StatusCode::FORBIDDEN,
            Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }

    /// The word that operators count.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Host(_) => "unknown_host",
            Self::Origin(_) => "foreign_origin",
            Self::ContentType => "content_type",
        }
    }
}

impl fmt::Display for Barred {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => write!(
                out,
                "this server has no keys and does not know the host name {host:?}: start it with --allow-host or \
                 --public-url, or with a key"
            ),
            Self::Origin(origin) => write!(
                out,
                "this server has no keys and is not for web pages of {}: start it with --allow-origin, or with a key",
                origin.as_deref().unwrap_or("other sites")
            ),
            Self::ContentType => out.write_str(
                "a web page must send JSON as application/json, and files with PUT to an upload URL",
            ),
        }
    }
}
