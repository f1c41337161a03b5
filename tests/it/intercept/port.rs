//! A running port, ways to call it, and TLS: which names it has a certificate for, and which URLs its answers hold.

use crate::support::{ENDPOINT, Server, small};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use latentd::config::InterceptConfig;
use latentd::intercept::Interceptor;
use latentd_egress::Egress;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// A server with a port that answers for fal; it stops when it is dropped.
pub(super) struct Port {
    pub(super) server: Server,
    pub(super) address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

impl Port {
    pub(super) async fn start() -> Self {
        Self::with(None).await
    }

    pub(super) async fn with(tunnel: Option<Egress>) -> Self {
        Self::of(Server::start().await, tunnel).await
    }

    pub(super) async fn of(server: Server, tunnel: Option<Egress>) -> Self {
        let config = InterceptConfig { listen: local(), tunnel };
        let interceptor =
            Interceptor::open(server.directory.path(), config, false).await.expect("a port that listens");
        let address = interceptor.address();
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(interceptor.run(server.router.clone(), Arc::default(), async { drop(stopped.await) }));
        Self { server, address, _stop: stop }
    }

    /// Sends bytes and reads until the other side closes.
    pub(super) async fn say(&self, bytes: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.expect("a connection");
        stream.write_all(bytes.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer
    }

    /// A stream behind a granted `CONNECT`.
    pub(super) async fn tunnel(&self, target: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.expect("a connection");
        let head = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.expect("the head of an answer"));
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
        stream
    }

    /// TLS that trusts the port's authority and nothing else.
    pub(super) async fn tls(&self, name: &str, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        connector(&self.folder()).connect(name, stream).await
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.server.directory.path().join("intercept")
    }

    async fn direct(&self, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
        self.tls(name, TcpStream::connect(self.address).await.expect("a connection")).await
    }
}

/// Clients that speak nothing else are offered HTTP/2, and others what they ask for.
#[tokio::test]
async fn the_port_speaks_the_version_that_its_client_offers() {
    let port = Port::start().await;
    for (offered, chosen) in [
        (&["h2"][..], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&["http/1.1", "h2"], Some("h2")),
        (&[], None),
    ] {
        let mut config = config(&port.folder());
        config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(port.address).await.expect("a connection");
        let name = ServerName::try_from("fal.run").expect("a name");
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("TLS");
        assert_eq!(stream.get_ref().1.alpn_protocol(), chosen.map(str::as_bytes));
        if chosen == Some("h2") {
            let executor = hyper_util::rt::TokioExecutor::new();
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(executor, TokioIo::new(stream)).await.expect("HTTP/2");
            tokio::spawn(connection);
            let submit = Request::post(format!("https://queue.fal.run/{ENDPOINT}"));
            let submit = submit.body(Full::<Bytes>::from(small().to_string())).expect("a request");
            let answer = sender.send_request(submit).await.expect("an answer");
            let body = answer.into_body().collect().await.expect("a body").to_bytes();
            let body: Value = serde_json::from_slice(&body).expect("JSON");
            let url = body["status_url"].as_str().expect("a URL");
            assert!(url.starts_with(&format!("https://queue.fal.run/{ENDPOINT}/requests/")), "{url}");
        }
    }
}

pub(super) fn local() -> SocketAddr {
    "127.0.0.1:0".parse().expect("an address")
}

pub(super) fn roots(folder: &Path) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("ca.pem")).expect("a certificate")).expect("a root");
    roots
}

fn connector(folder: &Path) -> TlsConnector {
    TlsConnector::from(Arc::new(config(folder)))
}

fn config(folder: &Path) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("TLS")
        .with_root_certificates(roots(folder))
        .with_no_client_auth()
}

/// One call on a stream; the answer is JSON.
pub(super) async fn call(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    host: &str,
    path: &str,
    body: &Value,
) -> (StatusCode, Value) {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
    let connection = tokio::spawn(connection);
    let method = if body.is_null() { "GET" } else { "POST" };
    let bytes = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    let request = Request::builder().method(method).uri(path).header("host", host).body(Full::new(bytes));
    let answer = sender.send_request(request.expect("a request")).await.expect("an answer");
    let status = answer.status();
    let bytes = answer.into_body().collect().await.expect("a whole body").to_bytes();
    drop(sender);
    let _ = connection.await;
    (status, serde_json::from_slice(&bytes).expect("JSON"))
}

#[tokio::test]
async fn through_a_proxy_fals_own_urls_work_and_come_back() {
    let port = Port::start().await;
    let stream = port.tls("queue.fal.run", port.tunnel("queue.fal.run:443").await).await.expect("trusted");
    let (status, body) = call(stream, "queue.fal.run", &format!("/{ENDPOINT}"), &small()).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let url = body["response_url"].as_str().expect("a URL");
    let path = url.strip_prefix("https://queue.fal.run").expect(url).to_owned();
    port.server.generate_all().await;

    let stream = port.tls("queue.fal.run", port.tunnel("queue.fal.run:443").await).await.expect("trusted");
    let (_, result) = call(stream, "queue.fal.run", &path, &Value::Null).await;
    let url = result["images"][0]["url"].as_str().expect("a URL");
    assert!(url.starts_with("https://v3.fal.media/files/"), "{url}");

    let stream = port.tls("rest.alpha.fal.ai", port.tunnel("rest.alpha.fal.ai:443").await).await;
    let name = json!({ "file_name": "a.txt", "content_type": "text/plain" });
    let path = "/storage/upload/initiate";
    let (_, upload) = call(stream.expect("trusted"), "rest.alpha.fal.ai", path, &name).await;
    assert!(upload["upload_url"].as_str().expect("a URL").starts_with("https://rest.alpha.fal.ai/storage/"));
    assert!(upload["file_url"].as_str().expect("a URL").starts_with("https://v3.fal.media/files/"));
}

#[tokio::test]
async fn a_public_url_is_for_those_who_did_not_call_fals_names() {
    let public = "https://images.example".parse().expect("a URL");
    let server = Server::with(|api| api.public_url = Some(public)).await;
    let port = Port::of(server, None).await;
    for (name, base) in
        [("fal.run", "https://queue.fal.run/"), ("localhost", "https://images.example/queue/")]
    {
        let stream = port.direct(name).await.expect("trusted");
        let (host, path) = match name {
            "fal.run" => ("queue.fal.run", format!("/{ENDPOINT}")),
            _ => ("localhost", format!("/queue/{ENDPOINT}")),
        };
        let (_, body) = call(stream, host, &path, &small()).await;
        assert!(body["status_url"].as_str().expect("a URL").starts_with(base), "{body}");
    }
}

#[tokio::test]
async fn without_a_proxy_the_port_is_a_host_like_others() {
    let port = Port::start().await;
    // An address is no name: the client says none.
    let host = port.address.to_string();
    let stream = port.direct("127.0.0.1").await.expect("trusted");
    let (_, body) = call(stream, &host, &format!("/queue/{ENDPOINT}"), &small()).await;
    let url = body["status_url"].as_str().expect("a URL");
    assert!(url.starts_with(&format!("https://{host}/queue/{ENDPOINT}/requests/")), "{url}");
    for name in ["localhost", "fal.run", "ws.fal.run", "v3.fal.media", "queue.falrun.com", "rest.fal.ai"] {
        assert!(port.direct(name).await.is_ok(), "{name}");
    }
    for name in ["example.com", "fal.run.example.com", "notfal.run", "127.0.0.2"] {
        assert!(port.direct(name).await.is_err(), "{name}");
    }
    assert!(port.tls("example.com", port.tunnel("fal.run:443").await).await.is_err());
}

#[tokio::test]
async fn keys_count_here_as_they_do_there() {
    let port = Port::of(Server::with_key("id:secret").await, None).await;
    let stream = port.direct("fal.run").await.expect("trusted");
    let (status, _) = call(stream, "fal.run", &format!("/{ENDPOINT}"), &small()).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}
