//! Web sockets to a server that listens, and what tests ask of them.

use crate::support::{ENDPOINT, Scripted, Server, StepControl, small_with};
use futures_util::{SinkExt, StreamExt};
use latentd::engine::Engine;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// A server with a socket.
pub(crate) struct Listening {
    pub(crate) server: Server,
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    done: JoinHandle<()>,
    drain: watch::Sender<bool>,
}

impl Listening {
    pub(crate) async fn start() -> Self {
        Self::over(Server::start().await).await
    }

    pub(crate) async fn over(server: Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let until = async move { drop(stopped.await) };
        let done = tokio::spawn(latentd_fal::listen(listener, server.router.clone(), until));
        Self { server, address, stop, done, drain: watch::channel(false).0 }
    }

    /// Has a worker generate whatever comes, for as long as the server lives.
    pub(crate) async fn generate(self) -> Self {
        self.work(Scripted::grey()).await;
        self
    }

    pub(crate) async fn work(&self, engine: impl Engine + 'static) {
        let mut worker = self.server.worker("w", engine).await;
        let drain = self.drain.subscribe();
        tokio::spawn(async move { worker.run(drain).await });
    }

    /// Connects to a path below the application.
    pub(crate) async fn connect(&self, below: &str) -> Socket {
        self.try_connect(&format!("/{ENDPOINT}{below}"), &[]).await.expect("a web socket")
    }

    pub(crate) async fn try_connect(
        &self,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Socket, Error> {
        let mut request = format!("ws://{}{path}", self.address).into_client_request().expect("a URL");
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().expect("a header"));
        }
        Ok(Socket(connect_async(request).await?.0))
    }

    /// The status that refuses a handshake.
    pub(crate) async fn refused(&self, path: &str, headers: &[(&'static str, &str)]) -> u16 {
        match self.try_connect(path, headers).await {
            Err(Error::Http(response)) => response.status().as_u16(),
            Err(other) => panic!("{path}: {other}"),
            Ok(_) => panic!("{path} opened"),
        }
    }

    /// Stops as the server does once its workers are gone.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        self.done.await.expect("no panic");
    }
}

/// An input of many steps, for a test that ends it early.
pub(crate) fn long() -> Value {
    small_with("num_inference_steps", 50)
}

/// Takes steps until the work in hand is given up: the worker goes on with another request, and the first left no file.
pub(crate) async fn is_stopped(server: &Server, control: &StepControl) {
    let next = server.submit(&long()).await;
    for _ in 0..49 {
        control.allow_step();
        tokio::time::sleep(Duration::from_millis(100)).await;
        if server.status(&next).await["status"] == "IN_PROGRESS" {
            assert_eq!(server.files(), Vec::<String>::new());
            return;
        }
    }
    panic!("the work goes on");
}

/// The client's end.
pub(crate) struct Socket(pub(crate) WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    pub(crate) async fn send(&mut self, message: impl Into<Message>) {
        self.0.send(message.into()).await.expect("a connection");
    }

    pub(crate) async fn json(&mut self, value: &Value) {
        self.send(value.to_string()).await;
    }

    pub(crate) async fn msgpack(&mut self, value: &Value) {
        self.send(rmp_serde::to_vec(value).expect("msgpack")).await;
    }

    /// The next message but for pings.
    pub(crate) async fn next(&mut self) -> Message {
        loop {
            match self.0.next().await.expect("an open connection").expect("a message") {
                Message::Ping(_) | Message::Pong(_) => {}
                other => return other,
            }
        }
    }

    /// A JSON value in a text frame.
    pub(crate) async fn text(&mut self) -> Value {
        match self.next().await {
            Message::Text(text) => serde_json::from_str(&text).expect("JSON"),
            other => panic!("{other:?}"),
        }
    }

    /// The code with which the other side closes.
    pub(crate) async fn code(&mut self) -> u16 {
        match self.next().await {
            Message::Close(Some(frame)) => CloseCode::into(frame.code),
            other => panic!("{other:?}"),
        }
    }

    /// Returns when the server has read everything sent so far.
    pub(crate) async fn read_by_server(&mut self) {
        self.send(Message::Ping(Vec::from("read?").into())).await;
        loop {
            if let Message::Pong(_) = self.0.next().await.expect("open").expect("a message") {
                return;
            }
        }
    }
}
