//! A server on a socket, spoken to in bytes.

use crate::support::Server;
use axum::http::StatusCode;
use latentd_fal::listen;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Serves on a free port of this machine until the test ends.
pub(crate) async fn serve(server: &Server) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(listen(listener, server.router.clone(), std::future::pending()));
    address
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    /// Everything, as it came.
    pub(crate) text: String,
}

/// Sends bytes and reads until the server closes.
pub(crate) async fn exchange(address: SocketAddr, bytes: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    // A server that has heard enough may stop listening before everything is sent.
    let _ = stream.write_all(bytes).await;
    reply(stream).await
}

/// Reads an answer to its end.
pub(crate) async fn reply(mut stream: TcpStream) -> Reply {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let version = text.strip_prefix("HTTP/1.1 ").or_else(|| text.strip_prefix("HTTP/1.0 "));
    let status = version.and_then(|rest| rest.get(..3)?.parse().ok());
    Reply { status: status.unwrap_or_else(|| panic!("no answer: {text:?}")), text }
}

/// A POST of JSON as text, to be followed by the end of the connection.
pub(crate) fn post(path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: inside:1\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n{headers}\r\n{body}"
    )
}
