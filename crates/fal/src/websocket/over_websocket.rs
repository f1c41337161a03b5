//! `wss://ws.fal.run/{application}`: run and stream over one connection, one after the other.
//!
//! A message is the body of a POST. Its answer is a text that begins it, the body in one message or several, and a
//! text that ends it.

use crate::access::auth;
use crate::calls::run;
use crate::calls::run_stream;
use crate::calls::submit;
use crate::input::body::Sent;
use crate::output::error::ApiError;
use crate::output::request_id::REQUEST_ID;
use crate::output::request_id::id_header;
use crate::routing::call::Call;
use crate::routing::target::Application;
use crate::state::Api;
use crate::websocket::socket::{self, End, Frame, SocketOptions, Waiting, Wire};
use axum::body::Bytes;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Instant;
use tungstenite::{Message, Utf8Bytes};

/// Opens a connection.
pub(crate) async fn open(
    api: &Arc<Api>,
    call: &Call,
    application: &Application,
    parts: Parts,
) -> Result<Response, ApiError> {
    let streamed = application.streamed();
    let is_streamed = streamed.is_some();
    let application = streamed.unwrap_or_else(|| application.clone());
    let max_bytes = submit::admit(api, &application).await?;
    let lasts = auth::lasts(api, call, &parts.headers);
    let session = Session {
        api: api.clone(),
        call: call.clone().posted(),
        application,
        is_streamed,
        headers: parts.headers.clone(),
    };
    let options = SocketOptions { lasts, waiting: Waiting::all(), max_bytes };
    socket::accept(api, parts, options, |wire| session.serve(wire)).await
}

/// One client's connection.
struct Session {
    api: Arc<Api>,
    call: Call,
    application: Application,
    is_streamed: bool,
    headers: HeaderMap,
}

impl Session {
    async fn serve(self, mut wire: Wire) {
        let end = loop {
            let served = match wire.next().await {
                Ok(frame) => self.exchange(&mut wire, frame).await,
                Err(end) => break end,
            };
            if let Err(end) = served {
                break end;
            }
        };
        wire.close(end).await;
    }

    /// One call and its answer.
    async fn exchange(&self, wire: &mut Wire, frame: Frame) -> Result<(), End> {
        let started = Instant::now();
        let (parts, mut body) = wire.during(self.respond(frame)).await?.into_parts();
        let waited = started.elapsed().as_secs_f64();
        let mut status = parts.status.as_u16();
        let headers = headers(&parts.headers);
        let id = headers[REQUEST_ID.as_str()].clone();
        let start = json!({ "type": "start", "request_id": id, "status": status, "headers": headers });
        wire.send_text(start.to_string()).await?;
        while let Some(piece) = wire.during(body.frame()).await? {
            match piece.map(|frame| frame.into_data()) {
                Ok(Ok(data)) => wire.send(message(data)).await?,
                Ok(Err(_)) => {}
                Err(_) => {
                    // A stream breaks where its request failed; the error was its last event.
                    status = StatusCode::INTERNAL_SERVER_ERROR.as_u16();
                    break;
                }
            }
        }
        let end = json!({
            "type": "end", "request_id": id, "status": status, "time_to_first_byte_seconds": waited
        });
        wire.send_text(end.to_string()).await
    }

    async fn respond(&self, frame: Frame) -> Response {
        let mut response = self.run(frame).await.unwrap_or_else(|error| {
            self.api.refusals.count(&error);
            error.into_response()
        });
        response.headers_mut().entry(REQUEST_ID).or_insert_with(|| id_header(uuid::Uuid::new_v4()));
        response
    }

    async fn run(&self, frame: Frame) -> Result<Response, ApiError> {
        let Self { api, call, application, headers, .. } = self;
        auth::check(api, call, headers)?;
        let call = &call.clone().traced(headers);
        let sent = match frame {
            Frame::Text(text, reservation) => Sent::Whole(text.into(), reservation),
            Frame::Binary(bytes, reservation) => Sent::Whole(bytes, reservation),
            Frame::Refused(error) => return Err(error),
        };
        match self.is_streamed {
            true => run_stream::run(api, call, application, headers, sent).await,
            false => run::run(api, call, application, headers, sent).await,
        }
    }
}

fn headers(headers: &HeaderMap) -> Map<String, Value> {
    let text = |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value).into())).collect()
}

/// Text where it is text, so that a page can read it as it comes.
fn message(data: Bytes) -> Message {
    match Utf8Bytes::try_from(data.clone()) {
        Ok(text) => Message::Text(text),
        Err(_) => Message::Binary(data),
    }
}
