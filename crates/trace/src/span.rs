//! One span, which ends when the last handle to it is dropped.

use crate::traceparent;
use opentelemetry::trace::{SpanBuilder, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue, Value, global};
use std::time::SystemTime;

/// The instrumentation scope of all spans.
const SCOPE: &str = "latentd";

/// A handle to a span. By default it is part of no trace, and its children begin one.
#[derive(Debug, Clone, Default)]
pub struct Span(Context);

impl Span {
    /// The span of another process that `traceparent` names; without one, or where it is not valid, that of no trace.
    pub fn remote(traceparent: Option<&str>) -> Self {
        let context = traceparent.and_then(traceparent::parse);
        Self(context.map(|context| Context::new().with_remote_span_context(context)).unwrap_or_default())
    }

    /// Begins a child.
    pub fn child(&self, name: &'static str) -> Self {
        self.child_of_kind(SpanKind::Internal, name)
    }

    /// Begins a child of another kind than [`SpanKind::Internal`].
    pub fn child_of_kind(&self, kind: SpanKind, name: &'static str) -> Self {
        self.begin(SpanBuilder::from_name(name).with_kind(kind))
    }

    /// A child that began at a time in the past.
    pub fn child_since(&self, began: SystemTime, name: &'static str) -> Self {
        // The clock of the machine that took the time may be ahead.
        let began = began.min(SystemTime::now());
        self.begin(SpanBuilder::from_name(name).with_start_time(began))
    }

    fn begin(&self, builder: SpanBuilder) -> Self {
        Self(self.0.with_span(global::tracer(SCOPE).build_with_context(builder, &self.0)))
    }

    /// Sets an attribute.
    pub fn set(&self, key: &'static str, value: impl Into<Value>) {
        self.0.span().set_attribute(KeyValue::new(key, value));
    }

    /// Marks what the span stands for as failed.
    pub fn fail(&self, message: &str) {
        self.0.span().set_status(Status::error(message.to_owned()));
    }

    /// Ends the span although there are other handles to it.
    pub fn end(&self) {
        self.0.span().end();
    }

    /// The text by which another process continues the trace ([`Self::remote`]); `None` where there is no trace.
    pub fn traceparent(&self) -> Option<String> {
        traceparent::render(self.0.span().span_context())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_exporter_a_trace_passes_through() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let child = Span::remote(Some(text)).child("a").child_since(SystemTime::now(), "b");
        assert_eq!(child.traceparent().as_deref(), Some(text));
        assert_eq!(Span::remote(Some("text")).child("a").traceparent(), None);
    }
}
