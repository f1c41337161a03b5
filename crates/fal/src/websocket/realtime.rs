//! `wss://fal.run/{application}/realtime`: inputs in, a result for each out, in order, on one connection.
//!
//! A message is msgpack in a binary frame or JSON in a text frame, and its result comes the same way. What is no
//! result is a control message, always JSON in a text frame: an error leaves the connection open for the next input.

mod control;
mod message;

use crate::access::auth;
use crate::calls::run;
use crate::calls::submit;
use crate::calls::wait::{ended, wait};
use crate::output::error::{ApiError, failure_answer};
use crate::output::wire::OutputBody;
use crate::routing::call::Call;
use crate::routing::target::{Application, Target};
use crate::server::memory::AnswerMemory;
use crate::state::Api;
use crate::websocket::socket::{self, End, Frame, MAX_WAITING, SocketOptions, Waiting, Wire};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::response::Response;
use control::Refusal;
use latentd_queue::queue::Outcome;
use message::Framing;
use serde::Serialize;
use std::sync::Arc;
use tungstenite::Message;

/// Inputs that wait when the client does not say how many, fal's recommendation: whoever sends faster than images
/// are generated wants the newest.
const BUFFERING: usize = 2;

/// Field of an input that fal's programs set to be sent bytes in place of data URIs.
const WANTS_BYTES: &str = "_force_msgpack";

/// Opens a connection.
pub(crate) async fn open(
    api: &Arc<Api>,
    call: &Call,
    application: &Application,
    parts: Parts,
) -> Result<Response, ApiError> {
    let max_bytes = submit::admit(api, application).await?;
    let waiting = Waiting::newest(buffering(call)?);
    let lasts = auth::lasts(api, call, &parts.headers);
    let session = Session {
        api: api.clone(),
        call: call.clone(),
        application: application.clone(),
        headers: parts.headers.clone(),
    };
    socket::accept(api, parts, SocketOptions { lasts, waiting, max_bytes }, |wire| session.serve(wire)).await
}

/// Refuses a caller; on the connection itself where a token was brought, so that its client asks for a new one.
pub(crate) async fn refuse(
    api: &Api,
    call: &Call,
    parts: Parts,
    error: ApiError,
) -> Result<Response, ApiError> {
    if !matches!(call.target, Target::Realtime(_)) || !auth::brings_token(call) {
        return Err(error);
    }
    let options = SocketOptions { lasts: None, waiting: Waiting::newest(1), max_bytes: 0 };
    socket::accept(api, parts, options, |wire| part(wire, End::Refused)).await
}

fn buffering(call: &Call) -> Result<usize, ApiError> {
    let Some(text) = call.parameter("max_buffering") else { return Ok(BUFFERING) };
    let count = text.parse().ok().filter(|count| (1..=MAX_WAITING).contains(count));
    count.ok_or_else(|| {
        ApiError::BadRequest(format!("max_buffering must be an integer from 1 to {MAX_WAITING}"))
    })
}

/// Sends why a connection ends, in messages that clients know, and closes it.
async fn part(mut wire: Wire, end: End) {
    let word = match end {
        End::Idle => Some(control::timeout()),
        End::Expired | End::Refused => Some(control::unauthorized()),
        End::CutOff => Some(Refusal::from(ApiError::Closing).message(None)),
        End::Stopping | End::Gone | End::Slow | End::Broken(_) => None,
    };
    if let Some(word) = word
        && wire.send_text(word).await.is_err()
    {
        return;
    }
    wire.close(end).await;
}

/// One client's connection.
struct Session {
    api: Arc<Api>,
    call: Call,
    application: Application,
    headers: HeaderMap,
}

/// An answer of the model, with the name that its client or the queue gave it.
#[derive(Serialize)]
struct ResultBody {
    #[serde(flatten)]
    output: OutputBody,
    request_id: String,
}

impl Session {
    async fn serve(self, mut wire: Wire) {
        let end = loop {
            let frame = match wire.next().await {
                Ok(frame) => frame,
                Err(end) => break end,
            };
            if auth::check(&self.api, &self.call, &self.headers).is_err() {
                break End::Expired;
            }
            let answered = match wire.during(self.answer(frame)).await {
                Ok((answer, _memory)) => wire.send(answer).await,
                Err(end) => Err(end),
            };
            if let Err(end) = answered {
                break end;
            }
        };
        tracing::debug!(?end, "a realtime connection ends");
        part(wire, end).await;
    }

    /// The answer to one input, and the memory that it takes until its client has read it.
    async fn answer(&self, frame: Frame) -> (Message, AnswerMemory) {
        let mut name = None;
        match self.result(frame, &mut name).await {
            Ok(answer) => answer,
            Err(refusal) => (Message::Text(refusal.message(name).into()), AnswerMemory::default()),
        }
    }

    /// The result of one input. `name` becomes the input's, as soon as it has one.
    async fn result(
        &self,
        frame: Frame,
        name: &mut Option<String>,
    ) -> Result<(Message, AnswerMemory), Refusal> {
        let refused = |error: &ApiError| self.api.refusals.count(error);
        let (framing, input) = message::read(&self.api.memory, frame).await.inspect_err(refused)?;
        *name = input.value["request_id"].as_str().map(str::to_owned);
        submit::admit(&self.api, &self.application).await.inspect_err(refused)?;
        let wants_bytes = framing == Framing::Msgpack && input.value.get(WANTS_BYTES).is_some();
        let call = self.call.clone().traced(&self.headers);
        let client = run::open_with(&self.api, &call, &self.application, &self.headers, input).await;
        let client = client.inspect_err(refused)?;
        let request_id = name.get_or_insert_with(|| client.id.to_string()).clone();
        let id = client.id;
        let bytes = wait(&self.api.queue, id).await.map_err(ApiError::from)?;
        client.close();
        let memory = self.api.memory.late_answer(bytes).await;
        let ended = ended(&self.api.queue, id).await.map_err(ApiError::from)?;
        match ended.outcome {
            Outcome::Failed(failure) => Err(Refusal::of(failure_answer(failure))),
            Outcome::Erased => Err(ApiError::Erased.into()),
            Outcome::Output(value) => {
                let output = serde_json::from_value(value).map_err(|error| {
                    ApiError::Internal(format!("a stored output cannot be read: {error}"))
                })?;
                let body = if wants_bytes { OutputBody::with_bytes } else { OutputBody::new };
                let output = body(&self.call.links, output);
                Ok((message::write(framing, &ResultBody { output, request_id })?, memory.made()))
            }
        }
    }
}
