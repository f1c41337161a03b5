//! Downloads of large files at untrusted URLs, handed on as they arrive, and only if they have changed.

use super::download::check_status;
use super::{Client, DownloadError, Opened, broken};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Body;
use hyper::header::{
    ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long a download takes at most, names, connections and redirects included, besides a second for each [`RATE`] bytes.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes a second below which a download is given up.
const RATE: u64 = 256 * 1024;

/// Bytes of the longest validator that is kept.
const MAX_VALIDATOR: usize = 1024;

/// What a server says of a version of a file, to be asked whether it has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Validators {
    /// `ETag`.
    pub etag: Option<String>,
    /// `Last-Modified`.
    pub modified: Option<String>,
}

/// How a download ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Streamed {
    /// All of the file was handed on.
    File(Validators),
    /// It is the version that was asked about.
    NotModified,
}

/// What takes a file as it arrives.
pub trait Sink: Send {
    /// Why it takes no more of it.
    type Error: From<String> + From<DownloadError> + Send;

    /// Called first, with the size of the file if its server says it.
    ///
    /// # Errors
    /// It takes no such file.
    fn begin(&mut self, size: Option<u64>) -> Result<(), Self::Error>;

    /// Called with the next bytes.
    ///
    /// # Errors
    /// It takes no more.
    fn take(&mut self, bytes: Bytes) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

impl Client {
    /// Downloads a file of at most `max` bytes, unless it is still the version with these validators.
    ///
    /// # Errors
    /// It is too large, comes too slowly, lies where the policy permits nothing, or `sink` returns an error.
    pub async fn stream<S: Sink>(
        &self,
        url: &str,
        known: &Validators,
        max: u64,
        sink: &mut S,
    ) -> Result<Streamed, S::Error> {
        let (started, received) = (Instant::now(), AtomicU64::new(0));
        let mut download = std::pin::pin!(self.stream_untimed(url, known, max, sink, &received));
        loop {
            let deadline = |received: u64| started + TIMEOUT + Duration::from_secs(received / RATE);
            let then = received.load(Ordering::Relaxed);
            if let Ok(done) = timeout_at(deadline(then), &mut download).await {
                return done;
            }
            let now = received.load(Ordering::Relaxed);
            if deadline(now) <= Instant::now() {
                let seconds = started.elapsed().as_secs();
                return Err(format!("it comes too slowly: {now} bytes in {seconds} seconds").into());
            }
        }
    }

    async fn stream_untimed<S: Sink>(
        &self,
        url: &str,
        known: &Validators,
        max: u64,
        sink: &mut S,
        received: &AtomicU64,
    ) -> Result<Streamed, S::Error> {
        let headers = conditions(known);
        let Opened { response, connection: _connection } = self.follow(url, &headers).await?;
        if response.status() == StatusCode::NOT_MODIFIED && !headers.is_empty() {
            return Ok(Streamed::NotModified);
        }
        check_status(&response)?;
        let validators = validators(response.headers());
        let mut body = response.into_body();
        let announced = body.size_hint();
        if announced.lower() > max {
            return Err(DownloadError::TooLarge(max).into());
        }
        sink.begin(announced.exact())?;
        while let Some(frame) = body.frame().await {
            let Ok(bytes) = frame.map_err(broken)?.into_data() else { continue };
            let before = received.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            if before + bytes.len() as u64 > max {
                return Err(DownloadError::TooLarge(max).into());
            }
            sink.take(bytes).await?;
        }
        Ok(Streamed::File(validators))
    }
}

/// The headers that ask for a file only if it is another version.
fn conditions(Validators { etag, modified }: &Validators) -> HeaderMap {
    let header = |name: HeaderName, value: &Option<String>| {
        Some((name, HeaderValue::from_str(value.as_deref()?).ok()?))
    };
    // A server that is asked by both ignores the date.
    let found = header(IF_NONE_MATCH, etag).or_else(|| header(IF_MODIFIED_SINCE, modified));
    found.into_iter().collect()
}

fn validators(headers: &HeaderMap) -> Validators {
    let text = |name: HeaderName| {
        let text = headers.get(name)?.to_str().ok()?;
        (text.len() <= MAX_VALIDATOR).then(|| text.to_owned())
    };
    Validators { etag: text(ETAG), modified: text(LAST_MODIFIED) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Egress;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A server that answers one request with these bytes; then it sends one byte a second, if it is to go on.
    async fn serve(answer: &'static [u8], goes_on: bool) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/a?b", listener.local_addr().expect("an address"));
        tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.expect("a client");
            let mut request = [0; 1024];
            let length = client.read(&mut request).await.expect("a request");
            let asked = String::from_utf8_lossy(&request[..length]).contains("if-none-match: \"v1\"");
            let _ = client.write_all(if asked { b"HTTP/1.1 304 Not Modified\r\n\r\n" } else { answer }).await;
            while goes_on && client.write_all(b"a").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        url
    }

    /// What has arrived.
    #[derive(Default)]
    struct Bin(Vec<u8>);

    impl Sink for Bin {
        type Error = DownloadError;

        fn begin(&mut self, _size: Option<u64>) -> Result<(), DownloadError> {
            Ok(())
        }

        async fn take(&mut self, bytes: Bytes) -> Result<(), DownloadError> {
            self.0.extend_from_slice(&bytes);
            Ok(())
        }
    }

    /// What arrived of at most 100 bytes, and how it ended.
    async fn stream(url: &str, known: &Validators) -> (Vec<u8>, Result<Streamed, DownloadError>) {
        let mut bin = Bin::default();
        let ended = Client::new(Egress::new(true), "--flag").stream(url, known, 100, &mut bin).await;
        (bin.0, ended)
    }

    #[tokio::test]
    async fn a_file_is_handed_on_unless_it_is_the_known_version() {
        let answer = b"HTTP/1.1 200 OK\r\netag: \"v1\"\r\ncontent-length: 2\r\n\r\nhi";
        let (found, ended) = stream(&serve(answer, false).await, &Validators::default()).await;
        let known = Validators { etag: Some("\"v1\"".into()), modified: None };
        assert_eq!((found.as_slice(), ended), (&b"hi"[..], Ok(Streamed::File(known.clone()))));
        let (found, ended) = stream(&serve(answer, false).await, &known).await;
        assert_eq!((found.len(), ended), (0, Ok(Streamed::NotModified)));
        let (_, ended) =
            stream(&serve(b"HTTP/1.1 304 Not Modified\r\n\r\n", false).await, &Validators::default()).await;
        assert_eq!(ended, Err(DownloadError::Failed("the server answered 304".into())), "it was not asked");
    }

    #[tokio::test]
    async fn too_many_bytes_are_not_read() {
        let announced = b"HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n";
        let (found, ended) = stream(&serve(announced, true).await, &Validators::default()).await;
        assert_eq!((found.len(), ended), (0, Err(DownloadError::TooLarge(100))));
        let unsaid = [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &[b'a'; 101]].concat().leak();
        let (found, ended) = stream(&serve(unsaid, true).await, &Validators::default()).await;
        assert_eq!((found.len() <= 100, ended), (true, Err(DownloadError::TooLarge(100))));
    }

    /// The paused clock advances to the next timer whenever every task waits.
    #[tokio::test(start_paused = true)]
    async fn a_slow_file_and_a_silent_server_are_given_up() {
        for (answer, goes_on) in [(&b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n"[..], true), (b"", false)]
        {
            let (found, ended) = stream(&serve(answer, goes_on).await, &Validators::default()).await;
            match ended {
                Err(DownloadError::Failed(why)) if goes_on => {
                    assert!(why.starts_with("it comes too slowly") && found.len() > 1, "{why}");
                }
                ended => assert!(!goes_on && ended.is_err(), "{ended:?}"),
            }
        }
    }
}
