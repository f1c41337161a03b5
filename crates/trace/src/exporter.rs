//! Sends the spans of this process to a collector: in batches, from a thread of its own. What finds the queue of spans full
//! is dropped, so that a collector that is slow or away slows down nothing.

use crate::ExportSettings;
use crate::client::Client;
use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider};
use std::time::Duration;

/// How often spans are sent. A worker that is killed loses those since the last time.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long the end of the process waits for its last spans to be sent.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// The exporter of this process.
#[derive(Debug)]
pub struct Exporter {
    provider: SdkTracerProvider,
}

impl Exporter {
    /// Records the spans that begin from here on, and sends them over the tokio runtime that it is called in. OpenTelemetry's
    /// own variables apply (`OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER`).
    ///
    /// # Errors
    /// A setting or a variable cannot be used, in one line.
    pub fn start(settings: &ExportSettings) -> Result<Self, String> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client::new(&settings.endpoint)?)
            .with_endpoint(&settings.endpoint)
            .with_protocol(Protocol::HttpBinary)
            .build()
            .map_err(|error| error.to_string())?;
        let batches = BatchConfigBuilder::default().with_scheduled_delay(INTERVAL).build();
        let resource = Resource::builder()
            .with_service_name(settings.service_name.clone())
            .with_attribute(KeyValue::new("service.version", settings.service_version))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(batches).build())
            .with_resource(resource)
            .build();
        global::set_tracer_provider(provider.clone());
        Ok(Self { provider })
    }

    /// Sends the spans that have ended, and records none from here on. Waits two seconds at most.
    pub async fn stop(self) {
        // It blocks its thread. What was not sent in time is lost, of which the client has warned.
        let _ = tokio::task::spawn_blocking(move || self.provider.shutdown_with_timeout(STOP_LIMIT)).await;
    }
}
