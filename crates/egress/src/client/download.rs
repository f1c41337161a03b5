//! Downloads of the file at an untrusted URL: bounded in size and time; redirects are followed where the policy permits.

use super::{Client, Opened, broken};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{ACCEPT, ACCEPT_ENCODING, HeaderMap, HeaderValue, LOCATION};
use hyper::{Request, Response, StatusCode};
use std::time::Duration;
use url::Url;

/// Bytes of the largest file that is downloaded, as on fal.
pub const MAX_DOWNLOAD_BYTES: u64 = 50 * 1024 * 1024;

/// Bound of a whole download: names, connections, redirects and all bytes.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Redirects followed at most.
const MAX_REDIRECTS: usize = 5;

/// Why a file cannot be downloaded.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DownloadError {
    /// It is larger than this.
    #[error("the file is larger than {0} bytes")]
    TooLarge(u64),
    /// Anything else, for people.
    #[error("{0}")]
    Failed(String),
}

impl From<String> for DownloadError {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

impl Client {
    /// Downloads a file.
    ///
    /// # Errors
    /// When it is too large, comes too slowly, or lies where the policy permits nothing.
    pub async fn download(&self, url: &str) -> Result<Vec<u8>, DownloadError> {
        let late = |_| DownloadError::Failed(format!("it did not come within {} seconds", TIMEOUT.as_secs()));
        tokio::time::timeout(TIMEOUT, self.download_all(url)).await.map_err(late)?
    }

    async fn download_all(&self, url: &str) -> Result<Vec<u8>, DownloadError> {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("image/*, */*;q=0.1"))]);
        let Opened { response, connection: _connection } = self.follow(url, &headers).await?;
        read(response).await
    }

    /// Sends a GET with these headers and follows redirects to the last response.
    pub(super) async fn follow(&self, url: &str, headers: &HeaderMap) -> Result<Opened, String> {
        let mut url = http_url(Url::parse(url))?;
        for _ in 0..=MAX_REDIRECTS {
            let request = Request::get("/").body(Bytes::new());
            let mut request = request.map_err(|error| error.to_string())?;
            request.headers_mut().clone_from(headers);
            // A compressed file could not be bounded in size.
            request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            let opened = self.open(&url, request).await?;
            match redirect(&opened.response) {
                None => return Ok(opened),
                Some(location) => url = http_url(url.join(&String::from_utf8_lossy(location.as_bytes())))?,
            }
        }
        Err(format!("it is redirected more than {MAX_REDIRECTS} times"))
    }
}

/// Where a response redirects to, if it does.
fn redirect(answer: &Response<Incoming>) -> Option<HeaderValue> {
    answer.headers().get(LOCATION).filter(|_| is_redirect(answer.status())).cloned()
}

/// The URL, if it is one of HTTP.
fn http_url(url: Result<Url, url::ParseError>) -> Result<Url, String> {
    let url = url.map_err(|error| format!("the URL cannot be called: {error}"))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(format!("{other} is neither http nor https")),
    }
}

/// # Errors
/// The server answered that there is no file.
pub(super) fn check_status(answer: &Response<Incoming>) -> Result<(), String> {
    let status = answer.status();
    if status.is_success() { Ok(()) } else { Err(format!("the server answered {}", status.as_u16())) }
}

async fn read(answer: Response<Incoming>) -> Result<Vec<u8>, DownloadError> {
    check_status(&answer)?;
    let mut body = answer.into_body();
    let announced = body.size_hint().lower();
    if announced > MAX_DOWNLOAD_BYTES {
        return Err(DownloadError::TooLarge(MAX_DOWNLOAD_BYTES));
    }
    let (mut bytes, mut left) = (Vec::with_capacity(announced as usize), MAX_DOWNLOAD_BYTES);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(broken)?;
        let data = frame.data_ref().map_or(&[][..], |data| data);
        left = left.checked_sub(data.len() as u64).ok_or(DownloadError::TooLarge(MAX_DOWNLOAD_BYTES))?;
        bytes.extend_from_slice(data);
    }
    Ok(bytes)
}

fn is_redirect(status: StatusCode) -> bool {
    use StatusCode as S;
    [S::MOVED_PERMANENTLY, S::FOUND, S::SEE_OTHER, S::TEMPORARY_REDIRECT, S::PERMANENT_REDIRECT]
        .contains(&status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Egress;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    /// The paused clock advances to the next timer whenever every task waits.
    #[tokio::test(start_paused = true)]
    async fn a_slow_download_times_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.expect("a client");
            let _ = client.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await;
            while client.write_all(b"a").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let error = Client::new(Egress::new(true), "--flag").download(&url).await.expect_err("too slow");
        assert_eq!(error, DownloadError::Failed("it did not come within 60 seconds".into()));
    }
}
