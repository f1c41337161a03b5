//! HTTP to the collector over hyper and rustls, as everywhere in latentd: OpenTelemetry's own clients would bring a second
//! TLS library.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;

/// How long one request may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Bytes of the largest answer that is read.
const LARGEST_ANSWER: usize = 64 * 1024;

type Http = HyperClient<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Sends requests, and logs when the collector fails and when it works again.
#[derive(Debug)]
pub(crate) struct Client {
    http: Http,
    /// Requests are made from a thread that has no runtime.
    runtime: Handle,
    endpoint: String,
    is_failing: AtomicBool,
}

impl Client {
    /// Makes connections on the runtime that it is called in.
    pub(crate) fn new(endpoint: &str) -> Result<Self, String> {
        // For plain HTTP this system need not trust any certificate.
        let tls = match endpoint.starts_with("https:") {
            true => latentd_egress::tls_config()?,
            false => latentd_egress::tls_config_without_roots()?,
        };
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        Ok(Self {
            http: HyperClient::builder(TokioExecutor::new()).build(connector),
            runtime: Handle::current(),
            endpoint: endpoint.to_owned(),
            is_failing: AtomicBool::new(false),
        })
    }

    /// Logs a change from working to failing or back, and no more.
    fn note(&self, failure: Option<String>) {
        let endpoint = &self.endpoint;
        match (failure, self.is_failing.load(Ordering::Relaxed)) {
            (Some(why), false) => {
                tracing::warn!(
                    "spans cannot be sent to {endpoint}: {why}: they are dropped until it takes them"
                );
                self.is_failing.store(true, Ordering::Relaxed);
            }
            (None, true) => {
                tracing::info!("spans are sent to {endpoint} again");
                self.is_failing.store(false, Ordering::Relaxed);
            }
            (Some(_), true) | (None, false) => {}
        }
    }
}

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sending = send(self.http.clone(), request.map(Full::new));
        let answer = self.runtime.spawn(async { tokio::time::timeout(LIMIT, sending).await }).await;
        let answer = answer.map_err(HttpError::from).and_then(|it| it.map_err(HttpError::from)).flatten();
        self.note(match &answer {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("it answered {}", answer.status())),
            Err(error) => Some(causes(error.as_ref())),
        });
        answer
    }
}

async fn send(http: Http, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, HttpError> {
    let (parts, body) = http.request(request).await?.into_parts();
    let body = Limited::new(body, LARGEST_ANSWER).collect().await?;
    Ok(Response::from_parts(parts, body.to_bytes()))
}

/// An error with what caused it, in one line.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
