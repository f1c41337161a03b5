//! TLS on the port of the API, over real handshakes: HTTP/1.1 and HTTP/2, `https` URLs, certificates that are exchanged while
//! connections are open, and files that cannot be used.

use crate::support::{ENDPOINT, Program, signal, small, within};
use axum::http::{Method, Request, StatusCode, Version};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// The longest that anything takes on a loaded machine.
const LIMIT: Duration = Duration::from_secs(120);

/// A certificate's files in a folder, and the roots of the clients.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    roots: RootCertStore,
}

impl Files {
    fn new(folder: &Path) -> Self {
        let [certificate, key] = ["cert.pem", "key.pem"].map(|name| folder.join(name));
        Self { certificate, key, roots: RootCertStore::empty() }
    }

    /// Writes a new certificate, which clients trust beside the earlier ones.
    fn exchange(&mut self) -> CertificateDer<'static> {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).expect("a certificate");
        std::fs::write(&self.certificate, pem("CERTIFICATE", cert.der())).expect("a file");
        std::fs::write(&self.key, pem("PRIVATE KEY", &signing_key.serialize_der())).expect("a file");
        self.roots.add(cert.der().clone()).expect("a root");
        cert.der().clone()
    }

    fn flags(&self) -> [&str; 4] {
        let [certificate, key] = [&self.certificate, &self.key].map(|path| path.to_str().expect("text"));
        ["--tls-cert", certificate, "--tls-key", key]
    }

    /// A connection that offers a protocol.
    async fn connect(&self, address: &str, protocol: &str) -> TlsStream<TcpStream> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = TcpStream::connect(address).await.expect("a connection");
        let name = ServerName::try_from("localhost").expect("a name");
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol.as_bytes()));
        stream
    }

    /// The certificate that a new connection is shown.
    async fn shown(&self, address: &str) -> CertificateDer<'static> {
        let stream = self.connect(address, "http/1.1").await;
        stream.get_ref().1.peer_certificates().expect("certificates")[0].clone()
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

/// A server that logs to a file.
fn serve(folder: &Path, flags: &[&str]) -> Program {
    let mut command = Program::command(&folder.join("data"), flags);
    command.stderr(File::create(folder.join("log")).expect("a file")).stdin(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the program");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let first = lines.next().expect("a line").expect("text");
    let address = first.split("https://").nth(1).expect("an https URL").trim().to_owned();
    std::thread::spawn(move || lines.for_each(drop));
    Program { child, address }
}

fn request(method: Method, uri: &str, host: &str, body: String) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(uri).header("host", host);
    request.body(Full::from(body)).expect("a request")
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_of_http_are_served_by_https_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut files = Files::new(folder.path());
    files.exchange();
    let server = serve(folder.path(), &files.flags());
    let host = server.address.replace("127.0.0.1", "localhost");

    let stream = TokioIo::new(files.connect(&server.address, "http/1.1").await);
    let (mut sender, connection) = http1::handshake(stream).await.expect("HTTP/1.1");
    tokio::spawn(connection);
    let submit = request(Method::POST, &format!("/queue/{ENDPOINT}"), &host, small().to_string());
    let answer = sender.send_request(submit).await.expect("an answer");
    assert_eq!((answer.status(), answer.version()), (StatusCode::OK, Version::HTTP_11));
    let body = answer.into_body().collect().await.expect("a body").to_bytes();
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    let status_url = body["status_url"].as_str().expect("a URL");
    assert!(status_url.starts_with(&format!("https://{host}/")), "{status_url}");

    let stream = TokioIo::new(files.connect(&server.address, "h2").await);
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    let status = Request::builder().uri(status_url).body(Full::<Bytes>::default()).expect("a request");
    let answer = sender.send_request(status).await.expect("an answer");
    assert!(answer.status().is_success(), "{answer:?}");
    assert_eq!(answer.version(), Version::HTTP_2);

    let (head, body) = server.exchange("GET", "/health/live", &Value::Null);
    assert!(head.starts_with("HTTP/1.1 400") && body.contains("https://"), "plain HTTP: {head} {body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_read_again_at_a_signal_and_connections_stay() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut files = Files::new(folder.path());
    let first = files.exchange();
    let server = serve(folder.path(), &files.flags());
    let stream = TokioIo::new(files.connect(&server.address, "http/1.1").await);
    let (mut sender, connection) = http1::handshake(stream).await.expect("HTTP/1.1");
    tokio::spawn(connection);
    let mut is_served = async || {
        let live = request(Method::GET, "/health/live", "localhost", String::new());
        let answer = sender.send_request(live).await.expect("the connection is open");
        assert_eq!(answer.status(), StatusCode::OK);
        answer.into_body().collect().await.expect("a body");
    };
    is_served().await;
    let second = files.exchange();
    assert_eq!(files.shown(&server.address).await, first, "not before the signal");
    signal("HUP", server.child.id());
    within(LIMIT, async || (files.shown(&server.address).await == second).then_some(())).await;
    is_served().await;

    let log = || std::fs::read_to_string(folder.path().join("log")).expect("text");
    let key = std::fs::read(&files.key).expect("a file");
    for (broken, text, words) in [
        (&files.certificate, "nothing", "--tls-cert"),
        (&files.key, "-----BEGIN PRIVATE KEY-----\nbm8=\n-----END PRIVATE KEY-----\n", "--tls-key"),
    ] {
        let errors = log().matches("the old certificate stays in use").count();
        let before = std::fs::read(broken).expect("a file");
        std::fs::write(broken, text).expect("a file");
        signal("HUP", server.child.id());
        let is_logged =
            || log().matches("the old certificate stays in use").count() > errors && log().contains(words);
        within(LIMIT, async || is_logged().then_some(())).await;
        assert_eq!(files.shown(&server.address).await, second);
        std::fs::write(broken, before).expect("a file");
    }
    // The key of another certificate.
    let third = files.exchange();
    std::fs::write(&files.key, key).expect("a file");
    signal("HUP", server.child.id());
    within(LIMIT, async || log().contains("it does not belong to").then_some(())).await;
    assert!(files.shown(&server.address).await != third);
    is_served().await;
    let fourth = files.exchange();
    signal("HUP", server.child.id());
    within(LIMIT, async || (files.shown(&server.address).await == fourth).then_some(())).await;
    is_served().await;
}

#[tokio::test]
async fn files_that_cannot_be_used_end_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut files = Files::new(folder.path());
    files.exchange();
    let flags = files.flags();
    let refused = |flags: &[&str]| {
        let output = Program::command(&folder.path().join("data"), flags).output().expect("the program");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (flags, words) in [
        (&flags[..2], "--tls-cert: give --tls-key too"),
        (&flags[2..], "--tls-key: give --tls-cert too"),
        (&["--tls-cert", "/no/such", "--tls-key", flags[3]], "--tls-cert /no/such: "),
        (&["--tls-cert", flags[1], "--tls-key", "/no/such"], "--tls-key /no/such: "),
        (&["--tls-cert", flags[3], "--tls-key", flags[3]], "there is no certificate"),
        (&["--tls-cert", flags[1], "--tls-key", flags[1]], "--tls-key "),
    ] {
        let (code, text) = refused(flags);
        assert!(code == Some(2) && text.contains(words), "{flags:?}: {code:?} {text}");
    }
}
