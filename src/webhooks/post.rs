//! One POST to a stranger: within fifteen seconds, without following or reading.

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use latentd_egress::{Client, Egress};
use std::time::Duration;
use url::Url;

/// What a receiver gets for everything: name, connection, answer.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Posts to what the policy permits.
pub(super) struct Poster(Client);

impl Poster {
    pub(super) fn new(egress: Egress) -> Self {
        Self(Client::new(egress, "--webhook-allow"))
    }

    /// Delivered when the receiver answers with any 2xx in time; a redirect is an answer like others.
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

/// The body is left unread: whatever its size, it says nothing to us.
async fn status(answer: Response<Incoming>) -> Result<StatusCode, String> {
    Ok(answer.status())
}
