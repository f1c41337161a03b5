//! The file at a client's URL: within a size and a time, wherever redirects lead that the policy permits.

use super::{Outgoing, broken};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{ACCEPT, ACCEPT_ENCODING, HeaderValue, LOCATION};
use hyper::{Request, Response, StatusCode};
use std::time::Duration;
use url::Url;

/// Bytes of the largest file that is fetched, fal's own limit.
pub const MAX_BYTES: u64 = 50 * 1024 * 1024;

/// What a file gets for everything: names, connections, redirects and all its bytes.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Redirects that are followed.
const MAX_REDIRECTS: usize = 5;

/// Why a file cannot be had.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DownloadError {
    /// It is larger than [`MAX_BYTES`].
    #[error("the file is larger than {MAX_BYTES} bytes")]
    TooLarge,
    /// Anything else, for people.
    #[error("{0}")]
    Failed(String),
}

impl From<String> for DownloadError {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

/// An answer of a server.
enum Answer {
    File(Vec<u8>),
    Elsewhere(HeaderValue),
}

impl Outgoing {
    /// Fetches a file.
    ///
    /// # Errors
    /// When it is too large, comes too slowly, or lies where the policy permits nothing.
    pub async fn download(&self, url: &str) -> Result<Vec<u8>, DownloadError> {
        let late = |_| DownloadError::Failed(format!("it did not come within {} seconds", TIMEOUT.as_secs()));
        tokio::time::timeout(TIMEOUT, self.follow(url)).await.map_err(late)?
    }

    async fn follow(&self, url: &str) -> Result<Vec<u8>, DownloadError> {
        let mut url = called(Url::parse(url))?;
        for _ in 0..=MAX_REDIRECTS {
            let request = Request::get("/")
                .header(ACCEPT, "image/*, */*;q=0.1")
                // What is packed could not be bounded in size.
                .header(ACCEPT_ENCODING, "identity")
                .body(Bytes::new())
                .map_err(|error| error.to_string())?;
            match self.exchange(&url, request, read).await? {
                Answer::File(bytes) => return Ok(bytes),
                Answer::Elsewhere(place) => {
                    url = called(url.join(&String::from_utf8_lossy(place.as_bytes())))?
                }
            }
        }
        Err(format!("it is redirected more than {MAX_REDIRECTS} times").into())
    }
}

/// A URL that can be called.
fn called(url: Result<Url, url::ParseError>) -> Result<Url, String> {
    let url = url.map_err(|error| format!("the URL cannot be called: {error}"))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(format!("{other} is neither http nor https")),
    }
}

async fn read(answer: Response<Incoming>) -> Result<Answer, DownloadError> {
    let status = answer.status();
    if let Some(place) = answer.headers().get(LOCATION).filter(|_| leads_elsewhere(status)) {
        return Ok(Answer::Elsewhere(place.clone()));
    }
    if !status.is_success() {
        return Err(format!("the server answered {}", status.as_u16()).into());
    }
    let mut body = answer.into_body();
    let announced = body.size_hint().lower();
    if announced > MAX_BYTES {
        return Err(DownloadError::TooLarge);
    }
    let (mut bytes, mut left) = (Vec::with_capacity(announced as usize), MAX_BYTES);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(broken)?;
        let data = frame.data_ref().map_or(&[][..], |data| data);
        left = left.checked_sub(data.len() as u64).ok_or(DownloadError::TooLarge)?;
        bytes.extend_from_slice(data);
    }
    Ok(Answer::File(bytes))
}

fn leads_elsewhere(status: StatusCode) -> bool {
    use StatusCode as S;
    [S::MOVED_PERMANENTLY, S::FOUND, S::SEE_OTHER, S::TEMPORARY_REDIRECT, S::PERMANENT_REDIRECT]
        .contains(&status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::Egress;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    /// The clock jumps to the next timer as soon as everybody waits.
    #[tokio::test(start_paused = true)]
    async fn a_file_that_trickles_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.expect("a client");
            let _ = client.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await;
            while client.write_all(b"a").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let error = Outgoing::new(Egress::new(true), "--flag").download(&url).await.expect_err("too slow");
        assert_eq!(error, DownloadError::Failed("it did not come within 60 seconds".into()));
    }
}
