//! The span of a call that makes requests. The caller's trace goes on in it, and the worker's spans follow it.

use crate::output::request_id::REQUEST_ID;
use crate::routing::target::Target;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use latentd_trace::{Span, SpanKind};

/// Header by which a caller names its span (W3C Trace Context).
const TRACEPARENT: &str = "traceparent";

/// Begins it; for other calls it is the caller's own span.
pub(crate) fn begin(target: &Target, method: &Method, headers: &HeaderMap) -> Span {
    let traceparent = headers.get(TRACEPARENT).and_then(|value| value.to_str().ok());
    let caller = Span::remote(traceparent);
    let Some(name) = name(target) else { return caller };
    let span = caller.child_of_kind(SpanKind::Server, name);
    span.set("http.request.method", method.as_str().to_owned());
    span
}

fn name(target: &Target) -> Option<&'static str> {
    match target {
        Target::Submit(_) => Some("submit"),
        Target::Run(_) => Some("run"),
        Target::RunStream(_) => Some("stream"),
        Target::Realtime(_) => Some("realtime"),
        Target::OverWebSocket(_) => Some("web socket"),
        Target::GenerateImages => Some("generate images"),
        Target::EditImages => Some("edit images"),
        _ => None,
    }
}

/// Notes how the call was answered; the span ends with the last handle to it, of a stream with its last event.
pub(crate) fn answered(span: &Span, response: &Response) {
    let status = response.status();
    span.set("http.response.status_code", i64::from(status.as_u16()));
    if let Some(id) = response.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()) {
        span.set("latentd.request", id.to_owned());
    }
    if status.is_server_error() {
        span.fail(status.as_str());
    }
}
