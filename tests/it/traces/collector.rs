//! A collector of traces: what it gets by OTLP over HTTP, it keeps.

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

/// A span with the name of the service that sent it.
#[derive(Debug, Clone)]
pub(super) struct Received {
    pub(super) service: String,
    pub(super) span: Span,
    /// Texts and integers.
    pub(super) attributes: BTreeMap<String, String>,
}

/// A running collector.
pub(super) struct Collector {
    pub(super) url: String,
    spans: Arc<Mutex<Vec<Received>>>,
}

impl Collector {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let spans = Arc::new(Mutex::new(Vec::new()));
        let kept = spans.clone();
        let take = move |headers: HeaderMap, body: Bytes| async move {
            assert_eq!(headers["content-type"], "application/x-protobuf");
            let request = ExportTraceServiceRequest::decode(body).expect("an export request");
            kept.lock().expect("no panic").extend(received(request));
            StatusCode::OK
        };
        let router = Router::new().route("/v1/traces", post(take));
        tokio::spawn(async move { axum::serve(listener, router).await.expect("a server") });
        Self { url, spans }
    }

    /// The spans of one trace, by the time of their begin.
    pub(super) fn trace(&self, trace_id: &[u8]) -> Vec<Received> {
        let mut spans = self.spans.lock().expect("no panic").clone();
        spans.retain(|received| received.span.trace_id == trace_id);
        spans.sort_by_key(|received| received.span.start_time_unix_nano);
        spans
    }

    /// Every span of this name.
    pub(super) fn named(&self, name: &str) -> Vec<Received> {
        let spans = self.spans.lock().expect("no panic");
        spans.iter().filter(|received| received.span.name == name).cloned().collect()
    }
}

fn received(request: ExportTraceServiceRequest) -> Vec<Received> {
    let mut all = Vec::new();
    for resource_spans in request.resource_spans {
        let resource = attributes(resource_spans.resource.unwrap_or_default().attributes);
        for span in resource_spans.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let attributes = attributes(span.attributes.clone());
            all.push(Received { service: resource["service.name"].clone(), span, attributes });
        }
    }
    all
}

fn attributes(pairs: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Option<AnyValue>| match value?.value? {
        Value::StringValue(text) => Some(text),
        Value::IntValue(number) => Some(number.to_string()),
        _ => None,
    };
    pairs.into_iter().filter_map(|pair| Some((pair.key, text(pair.value)?))).collect()
}
