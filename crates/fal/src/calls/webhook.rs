//! Webhooks on the wire: the parameter of a submit, the signed message, and the keys that check it.

use crate::output::error::{ApiError, ERASED, failure_answer};
use crate::output::links::Links;
use crate::output::wire::OutputBody;
use crate::routing::call::Call;
use crate::state::Api;
use axum::Json;
use axum::http::{Request, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use latentd_queue::queue::{NewWebhook, Outcome, Webhook};
use latentd_queue::signing::SigningKey;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use url::{Position, Url};
use utoipa::ToSchema;

/// Asks for a webhook.
pub(crate) const PARAMETER: &str = "fal_webhook";

/// Bytes of the longest URL that is kept.
const MAX_URL: usize = 2048;

/// fal names the account that sent the request; this server has one.
const USER: &str = "latentd";

/// The body of a message.
#[derive(Serialize, ToSchema)]
#[schema(as = WebhookMessage)]
pub(crate) struct Body {
    request_id: String,
    gateway_request_id: String,
    #[serde(flatten)]
    #[schema(inline)]
    end: End,
}

/// How the request ended.
#[derive(Serialize, ToSchema)]
#[serde(tag = "status")]
enum End {
    #[serde(rename = "OK")]
    Output {
        payload: OutputBody,
        #[schema(value_type = Option<String>)]
        error: Option<()>,
    },
    #[serde(rename = "OK")]
    Unreadable {
        #[schema(value_type = Option<Object>)]
        payload: Option<()>,
        payload_error: String,
    },
    #[serde(rename = "ERROR")]
    Failed { error: String, payload: Value },
}

/// The webhook that a submit asks for, if any.
pub(crate) fn asked(api: &Api, call: &Call) -> Result<Option<NewWebhook>, ApiError> {
    let Some(text) = call.parameter(PARAMETER).filter(|text| !text.is_empty()) else { return Ok(None) };
    let refuse = |why: &str| Err(ApiError::BadRequest(format!("{PARAMETER}: {why}")));
    if text.len() > MAX_URL {
        return refuse(&format!("the URL is longer than {MAX_URL} bytes"));
    }
    let Ok(url) = Url::parse(&text) else { return refuse("give an absolute http:// or https:// URL") };
    if !matches!(url.scheme(), "http" | "https") {
        return refuse("give an absolute http:// or https:// URL");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("the URL holds a user name or password; put a token into its path or query");
    }
    if !api.egress.permits_literal(&url) {
        let host = url.host_str().unwrap_or_default();
        return refuse(&format!(
            "{host} is not on the public internet; the operator can allow it with --webhook-allow {host}"
        ));
    }
    let host = &url[Position::BeforeHost..Position::AfterHost];
    let receiver = format!("{host}:{}", url.port_or_known_default().unwrap_or_default());
    let origin = call.links.origin().to_owned();
    Ok(Some(NewWebhook { url: url.into(), receiver, origin }))
}

/// The message that a request ended, signed as fal's webhooks and as Standard Webhooks.
///
/// # Errors
/// When the URL that was kept is no URL.
pub fn webhook_message(
    key: &SigningKey,
    webhook: &Webhook,
    outcome: Outcome,
) -> Result<Request<Bytes>, String> {
    let id = webhook.request.to_string();
    let body = Body { request_id: id.clone(), gateway_request_id: id.clone(), end: end(webhook, outcome) };
    let body =
        serde_json::to_vec(&body).map_err(|error| format!("the message cannot be written: {error}"))?;
    let at = webhook.at.as_second().to_string();
    let fals = format!("{id}\n{USER}\n{at}\n{}", hex::encode(Sha256::digest(&body)));
    let standard = [format!("{id}.{at}.").as_bytes(), &body].concat();
    Request::post(&webhook.url)
        .header(header::CONTENT_TYPE, "application/json")
        .header("x-fal-webhook-request-id", &id)
        .header("x-fal-webhook-user-id", USER)
        .header("x-fal-webhook-timestamp", &at)
        .header("x-fal-webhook-signature", hex::encode(key.sign(fals.as_bytes())))
        .header("webhook-id", &id)
        .header("webhook-timestamp", &at)
        .header("webhook-signature", format!("v1a,{}", BASE64_STANDARD.encode(key.sign(&standard))))
        .body(Bytes::from(body))
        .map_err(|error| format!("the URL cannot be called: {error}"))
}

fn end(webhook: &Webhook, outcome: Outcome) -> End {
    match outcome {
        Outcome::Output(value) => match serde_json::from_value(value) {
            Ok(output) => {
                let payload = OutputBody::new(&Links::below(webhook.origin.clone()), output);
                End::Output { payload, error: None }
            }
            Err(error) => {
                let payload_error = format!("Response payload is not JSON serializable. {error}");
                End::Unreadable { payload: None, payload_error }
            }
        },
        Outcome::Erased => End::Unreadable { payload: None, payload_error: ERASED.into() },
        Outcome::Failed(failure) => {
            let (status, payload) = failure_answer(failure);
            End::Failed { error: format!("Invalid status code: {}", status.as_u16()), payload }
        }
    }
}

/// Keys that check signatures.
#[derive(Serialize, ToSchema)]
pub(crate) struct KeySet {
    keys: [Jwk; 1],
}

/// A key as RFC 8037 writes it.
#[derive(Serialize, ToSchema)]
struct Jwk {
    kty: &'static str,
    crv: &'static str,
    #[serde(rename = "use")]
    purpose: &'static str,
    alg: &'static str,
    kid: String,
    x: String,
}

/// `GET /.well-known/jwks.json`: what receivers check signatures with.
pub(crate) fn keys(api: &Api) -> Response {
    let x = BASE64_URL_SAFE_NO_PAD.encode(api.signing.public());
    // The thumbprint of RFC 7638: these members, in this order, without spaces.
    let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    let kid = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(members));
    let key = Jwk { kty: "OKP", crv: "Ed25519", purpose: "sig", alg: "EdDSA", kid, x };
    ([(header::CACHE_CONTROL, "public, max-age=3600")], Json(KeySet { keys: [key] })).into_response()
}
