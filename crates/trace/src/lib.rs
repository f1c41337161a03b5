//! Spans of a request over the processes that it passes, as OpenTelemetry has them: a call to the server begins one, the
//! queue stores its `traceparent` with the request, and the worker goes on from there.
//!
//! Spans are recorded only where an [`Exporter`] runs, which the feature `otlp` has; elsewhere they cost next to nothing.

#[cfg(feature = "otlp")]
mod client;
#[cfg(feature = "otlp")]
mod exporter;
#[cfg(not(feature = "otlp"))]
#[path = "no_exporter.rs"]
mod exporter;
mod span;
mod traceparent;

pub use exporter::Exporter;
pub use opentelemetry::trace::SpanKind;
pub use span::Span;

/// Whether this build can export spans.
pub const CAN_EXPORT: bool = cfg!(feature = "otlp");

/// Where spans are sent, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportSettings {
    /// URL that takes an OTLP request for traces, in protobuf over HTTP.
    pub endpoint: String,
    /// The name of this service.
    pub service_name: String,
    /// The version of this service.
    pub service_version: &'static str,
}
