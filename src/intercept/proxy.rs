//! The port as a program's HTTPS proxy: `CONNECT` to fal's names ends here, to others in a tunnel or a refusal.

use super::tunnel;
use axum::Router;
use axum::body::Body;
use axum::http::uri::Authority;
use axum::http::{Method, Request, Response, StatusCode, Uri, header};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::service::{Service, service_fn};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use latentd_egress::Egress;
use latentd_fal::{ClientStream, is_fal};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Mutex;
use tokio::net::TcpStream;

/// The only port on which fal's hosts serve.
const HTTPS: u16 = 443;

/// What connections that begin with an HTTP request find.
pub(super) struct Proxy {
    router: Router,
    /// What other hosts may be reached; `None`: no others.
    tunnels: Option<Egress>,
    address: SocketAddr,
}

/// What a `CONNECT` was granted.
enum Granted {
    /// One of fal's names: TLS with us.
    Fal(OnUpgrade),
    /// Another host, connected to.
    Other(OnUpgrade, TcpStream),
}

/// Why a call is refused: for the status line, which is all that most programs show of a proxy's answer, and its body.
struct Refusal(StatusCode, String);

impl Proxy {
    pub(super) fn new(router: Router, tunnels: Option<Egress>, address: SocketAddr) -> Self {
        Self { router, tunnels, address }
    }

    /// Answers until a `CONNECT` is granted. Hands back the stream behind one to a name of fal's; carries any other's
    /// bytes to its end.
    pub(super) async fn serve(&self, stream: ClientStream) -> Option<TokioIo<Upgraded>> {
        let granted = Mutex::new(None);
        let service = service_fn(async |request| Ok::<_, Infallible>(self.answer(request, &granted).await));
        let connection =
            latentd_fal::builder().serve_connection(TokioIo::new(stream), service).with_upgrades();
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a proxied connection broke");
        }
        match granted.into_inner().ok()?? {
            Granted::Fal(upgrade) => upgrade.await.ok().map(TokioIo::new),
            Granted::Other(upgrade, host) => {
                tunnel::carry(TokioIo::new(upgrade.await.ok()?), host).await;
                None
            }
        }
    }

    async fn answer(&self, request: Request<Incoming>, granted: &Mutex<Option<Granted>>) -> Response<Body> {
        let answered = match (request.method(), request.uri().scheme_str()) {
            (&Method::CONNECT, _) => self.connect(request, granted).await,
            // Some programs have a proxy do the TLS: with fal's hosts there is none to do.
            (_, Some("https")) if request.uri().host().is_some_and(is_fal) => {
                let router = TowerToHyperService::new(self.router.clone());
                Ok(router.call(request).await.unwrap_or_else(|never| match never {}))
            }
            (_, Some(_)) => Err(Refusal(
                StatusCode::FORBIDDEN,
                format!(
                    "latentd is a proxy for https by CONNECT only: set HTTPS_PROXY to http://{}, not HTTP_PROXY",
                    self.address
                ),
            )),
            (_, None) => Err(Refusal(
                StatusCode::BAD_REQUEST,
                format!(
                    "this is the port of latentd serve --intercept: call https://{} or use it as HTTPS_PROXY",
                    self.address
                ),
            )),
        };
        answered.unwrap_or_else(Refusal::into_response)
    }

    async fn connect(
        &self,
        mut request: Request<Incoming>,
        granted: &Mutex<Option<Granted>>,
    ) -> Result<Response<Body>, Refusal> {
        let (host, port) = target(request.uri())?;
        let upgrade = hyper::upgrade::on(&mut request);
        let grant = if is_fal(&host) {
            if port != HTTPS {
                return Err(Refusal(
                    StatusCode::FORBIDDEN,
                    format!("latentd answers for {host} on port 443 only"),
                ));
            }
            Granted::Fal(upgrade)
        } else {
            Granted::Other(upgrade, self.reach(&host, port).await?)
        };
        *granted.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(grant);
        Ok(Response::new(Body::empty()))
    }

    /// Connects to a host that is not fal's.
    async fn reach(&self, host: &str, port: u16) -> Result<TcpStream, Refusal> {
        let Some(egress) = &self.tunnels else {
            return Err(Refusal(
                StatusCode::FORBIDDEN,
                format!(
                    "latentd answers for fal hosts only: {host} needs latentd serve --intercept-tunnel, or NO_PROXY={host}"
                ),
            ));
        };
        tunnel::dial(egress, host, port).await.map_err(|why| {
            Refusal(StatusCode::BAD_GATEWAY, format!("latentd has no tunnel to {host}:{port}: {why}"))
        })
    }
}

/// Host and port of a `CONNECT`.
fn target(uri: &Uri) -> Result<(String, u16), Refusal> {
    let named = uri.authority().filter(|authority| !authority.as_str().contains('@'));
    let parts = |named: &Authority| Some((named.host().to_owned(), named.port_u16()?));
    named.and_then(parts).ok_or_else(|| {
        Refusal(StatusCode::BAD_REQUEST, "CONNECT takes a host and a port, such as fal.run:443".into())
    })
}

impl Refusal {
    fn into_response(self) -> Response<Body> {
        let Self(status, text) = self;
        let mut response = Response::new(Body::from(format!("{text}\n")));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(header::CONNECTION, header::HeaderValue::from_static("close"));
        if let Ok(reason) = ReasonPhrase::try_from(text.into_bytes()) {
            response.extensions_mut().insert(reason);
        }
        response
    }
}
