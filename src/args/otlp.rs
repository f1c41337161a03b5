//! Flags of traces.

use clap::Args;

/// Where traces of requests go.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Traces")]
pub struct OtlpArgs {
    /// Base URL of an OpenTelemetry collector that takes OTLP over HTTP, such as `http://localhost:4318`: spans of requests
    /// are sent there [default: `OTEL_EXPORTER_OTLP_ENDPOINT`; without either there are none]. The container images have
    /// this, and builds with the feature `otlp`.
    #[arg(long, env = "LATENTD_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// Name of this service in its traces [default: `OTEL_SERVICE_NAME`, else `latentd`].
    #[arg(long, env = "LATENTD_OTLP_SERVICE_NAME", value_name = "NAME")]
    pub otlp_service_name: Option<String>,
}
