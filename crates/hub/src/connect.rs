//! Connections to the hub: plain or TLS, directly or through the proxy of `HTTPS_PROXY`.

use crate::error::HubError;
use bytes::Bytes;
use http_body_util::Empty;
use hyper::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tower_service::Service;
use url::Url;

/// Sends requests without a body.
pub(crate) type Http = Client<HttpsConnector<Route>, Empty<Bytes>>;

/// Makes the client; nothing is connected yet.
pub(crate) fn client(endpoint: &Url, connect_timeout: Duration) -> Result<Http, HubError> {
    let config = latentd_egress::tls_config().or_else(|why| match endpoint.scheme() {
        // A mirror in plain HTTP needs no certificates.
        "http" => latentd_egress::tls_config_without_roots(),
        _ => Err(why),
    });
    let host = endpoint.host_str().unwrap_or_default().to_owned();
    let config = config.map_err(|why| HubError::Unreachable { host, why })?;
    let mut direct = HttpConnector::new();
    direct.enforce_http(false);
    direct.set_connect_timeout(Some(connect_timeout));
    let route = Route { direct, proxies: Arc::new(Matcher::from_env()) };
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http()
        .enable_http1()
        .wrap_connector(route);
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

/// Opens the connection under HTTP or TLS.
#[derive(Clone)]
pub(crate) struct Route {
    direct: HttpConnector,
    proxies: Arc<Matcher>,
}

impl Service<Uri> for Route {
    type Response = TokioIo<TcpStream>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.direct.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        // Only TLS can be carried through a proxy unseen; hubs in plain HTTP are mirrors in the same network.
        let proxy = self.proxies.intercept(&uri).filter(|_| uri.scheme_str() == Some("https"));
        let Some(proxy) = proxy else {
            let connecting = self.direct.call(uri);
            return Box::pin(async move { Ok(connecting.await?) });
        };
        let mut tunnel = Tunnel::new(proxy.uri().clone(), self.direct.clone());
        if let Some(auth) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(auth.clone());
        }
        let connecting = tunnel.call(uri);
        Box::pin(async move { Ok(connecting.await?) })
    }
}
