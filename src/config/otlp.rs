//! Where traces of requests go, from the flags and from OpenTelemetry's own variables.

use super::{ConfigError, refuse};
use crate::args::{self, OtlpArgs};
use latentd_trace::{CAN_EXPORT, ExportSettings};
use url::Url;

const ENDPOINT: &str = "--otlp-endpoint";
const SERVICE_NAME: &str = "--otlp-service-name";

/// Path below a collector's base URL that takes traces.
const TRACES: &str = "v1/traces";

/// Checks the flags, with the environment of this process; `None`: no traces.
pub(super) fn parse(args: OtlpArgs) -> Result<Option<ExportSettings>, ConfigError> {
    with_environment(args, args::variable)
}

fn with_environment(
    args: OtlpArgs,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<ExportSettings>, ConfigError> {
    let endpoint = match args.otlp_endpoint {
        Some(text) if !CAN_EXPORT => {
            return refuse(format!(
                "{ENDPOINT} {text}: this program was built without OpenTelemetry: use a container image, or build with \
                 `--features otlp`"
            ));
        }
        Some(text) => Some(traces_url(ENDPOINT, &text)?),
        // A variable that is set for all programs is no order to this one, which may be built without.
        None => variable("OTEL_EXPORTER_OTLP_ENDPOINT")
            .filter(|_| CAN_EXPORT)
            .map(|text| traces_url("OTEL_EXPORTER_OTLP_ENDPOINT", &text))
            .transpose()?,
    };
    let service_name = args.otlp_service_name.or_else(|| variable("OTEL_SERVICE_NAME"));
    Ok(endpoint.map(|endpoint| ExportSettings {
        endpoint,
        service_name: service_name.unwrap_or_else(|| "latentd".into()),
        service_version: env!("CARGO_PKG_VERSION"),
    }))
}

/// The URL for traces below a base URL, or the base URL that is one already.
fn traces_url(name: &str, text: &str) -> Result<String, ConfigError> {
    match Url::parse(text.trim()) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() && url.query().is_none() => {
            let base = url.as_str().trim_end_matches('/');
            Ok(if base.ends_with(TRACES) { base.to_owned() } else { format!("{base}/{TRACES}") })
        }
        _ => refuse(format!("{name} {text}: give http://… or https://…")),
    }
}

/// The flags by which a worker has the same settings.
pub(crate) fn flags(settings: Option<&ExportSettings>) -> impl Iterator<Item = (&'static str, String)> {
    let flags = settings.map(|settings| {
        let ExportSettings { endpoint, service_name, service_version: _ } = settings;
        [(ENDPOINT, endpoint.clone()), (SERVICE_NAME, service_name.clone())]
    });
    flags.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(
        flag: Option<&str>,
        variables: &[(&str, &str)],
    ) -> Result<Option<ExportSettings>, ConfigError> {
        let args = OtlpArgs { otlp_endpoint: flag.map(str::to_owned), otlp_service_name: None };
        with_environment(args, |name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn endpoint(flag: Option<&str>, variables: &[(&str, &str)]) -> Option<String> {
        settings(flag, variables).expect("valid settings").map(|settings| settings.endpoint)
    }

    #[test]
    #[cfg(feature = "otlp")]
    fn a_flag_goes_before_opentelemetrys_variables() {
        let standard = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://b:4318/"), ("OTEL_SERVICE_NAME", "images")];
        assert_eq!(endpoint(None, &[]), None);
        assert_eq!(endpoint(None, &standard).as_deref(), Some("http://b:4318/v1/traces"));
        for flag in ["http://a:4318", "http://a:4318/", "http://a:4318/v1/traces"] {
            assert_eq!(endpoint(Some(flag), &standard).as_deref(), Some("http://a:4318/v1/traces"), "{flag}");
        }
        let named = |variables: &[_]| settings(Some("https://a"), variables).expect("valid").expect("some");
        assert_eq!(named(&standard).service_name, "images");
        assert_eq!(named(&[]).service_name, "latentd");
        for wrong in ["a:4318", "ftp://a", "", "http://a/?b"] {
            assert!(settings(Some(wrong), &[]).is_err(), "{wrong}");
        }
    }

    #[test]
    #[cfg(not(feature = "otlp"))]
    fn a_build_without_opentelemetry_refuses_the_flag_and_ignores_the_variable() {
        let refused = settings(Some("http://a:4318"), &[]).expect_err("a refusal").to_string();
        assert!(refused.contains("built without OpenTelemetry"), "{refused}");
        assert_eq!(endpoint(None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://b:4318")]), None);
    }
}
