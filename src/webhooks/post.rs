//! One POST to an untrusted URL: within fifteen seconds, without following redirects or reading the body.

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use latentd_egress::{Client, Egress};
use std::time::Duration;
use url::Url;

/// Limit for name resolution, connection and response together.
pub(super) const TIMEOUT: Duration = Duration::from_secs(15);

/// Posts to addresses that the egress policy permits.
pub(super) struct Poster(Client);

impl Poster {
    pub(super) fn new(egress: Egress) -> Self {
        Self(Client::new(egress, "--webhook-allow"))
    }

    /// Succeeds when the receiver answers with any 2xx in time; a redirect is a failure.
    pub(super) async fn post(&self, url: &str, request: Request<Bytes>) -> Result<(), String> {
        let url = Url::parse(url).map_err(|error| format!("the URL cannot be called: {error}"))?;
        let answered = tokio::time::timeout(TIMEOUT, self.0.exchange(&url, request, status)).await;
        let status = answered.map_err(|_| format!("no answer within {} seconds", TIMEOUT.as_secs()))??;
        match status.is_success() {
            true => Ok(()),
            false => Err(format!("the receiver answered {}", status.as_u16())),
        }
    }
}

/// The body is not read: nothing depends on it, and it may be of any size.
async fn status(answer: Response<Incoming>) -> Result<StatusCode, String> {
    Ok(answer.status())
}
