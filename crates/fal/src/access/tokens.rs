//! `POST rest.fal.ai/tokens/`: tokens that run some applications for a short time, for programs that
//! must not see a key, such as a page in a browser.
//!
//! A token is a JWT signed with HMAC-SHA-256. Nothing is stored: a restart keeps tokens alive, and
//! revoking the key that asked for one ends it.

use crate::input::body::{self, Sent};
use crate::input::field::{Field, Ranged, object};
use crate::input::fields::Fields;
use crate::output::error::ApiError;
use crate::output::problem::Problem;
use crate::routing::call::Call;
use crate::routing::target::Application;
use crate::state::Api;
use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use latentd_queue::keys::Caller;
use ring::hmac;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, Type};

/// The only header that is issued and accepted: who sends a token does not choose how it is checked.
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// Separates this secret from others that are derived from the server's key.
const PURPOSE: &str = "tokens";

const SECONDS: Ranged<i64> = Ranged {
    name: "token_expiration",
    about: "Seconds that the token lives.",
    default: 120,
    range: 1..=3600,
};

/// Bytes of the largest request for a token: a hundred names of applications.
const MAX_BYTES: usize = 64 * 1024;

/// The purpose of a token.
const APPS: Apps = Apps { name: "allowed_apps", most: 100 };

/// The claims of a token, under the names that JWTs or fal use.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    /// Id of the key that asked for it, if it is one of the table.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    sub: Option<String>,
    allowed_apps: Vec<String>,
    /// In seconds since 1970.
    exp: i64,
}

/// Answers with a token: a JSON string, as clients expect.
pub(crate) async fn create(api: &Api, call: &Call, body: Body) -> Result<Response, ApiError> {
    let input = body::json(&api.memory, Sent::Stream(body), MAX_BYTES).await?;
    let (allowed_apps, seconds) = read(&input.value).map_err(ApiError::Invalid)?;
    let exp = api.queue.now().as_second() + seconds;
    let claims = Claims { sub: call.caller.key.clone(), allowed_apps, exp };
    // The key was there when the call was let in; it may just have been revoked.
    let secret = secret(api, &call.caller).ok_or(ApiError::Unauthorized)?;
    let signed = format!("{}.{}", encode(HEADER), encode(json!(claims).to_string()));
    let tag = hmac::sign(&secret, signed.as_bytes());
    Ok(Json(format!("{signed}.{}", encode(tag))).into_response())
}

/// Who asked for a token; `None` when it does not open the application.
pub(crate) fn holder(api: &Api, token: &str, application: &Application) -> Option<Caller> {
    let (signed, tag) = token.rsplit_once('.')?;
    let (header, payload) = signed.split_once('.')?;
    if header != encode(HEADER) {
        return None;
    }
    let claims = claims(payload)?;
    let caller = Caller::user(claims.sub);
    let secret = secret(api, &caller)?;
    hmac::verify(&secret, signed.as_bytes(), &URL_SAFE_NO_PAD.decode(tag).ok()?).ok()?;
    let is_named = |app: &String| app == application.alias() || names(app, application);
    let opens = claims.exp > api.queue.now().as_second() && claims.allowed_apps.iter().any(is_named);
    opens.then_some(caller)
}

/// How long a token lives that was let in before.
pub(crate) fn life_left(api: &Api, token: &str) -> Option<Duration> {
    let end = claims(token.split('.').nth(1)?)?.exp.saturating_mul(1000);
    let left = end.saturating_sub(api.queue.now().as_millisecond());
    Some(Duration::from_millis(u64::try_from(left).unwrap_or(0)))
}

fn claims(payload: &str) -> Option<Claims> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

/// Does the name mean the application, or a path of it such as the one that token providers of pages are given?
fn names(app: &str, application: &Application) -> bool {
    let segments: Vec<&str> = app.split('/').collect();
    Application::of(&segments).is_some_and(|named| named.id == application.id)
}

/// Every key's tokens have a secret of their own, which goes with the key.
fn secret(api: &Api, caller: &Caller) -> Option<hmac::Key> {
    let seal = api.keys.seal(caller)?;
    let server = hmac::Key::new(hmac::HMAC_SHA256, &api.signing.derive(PURPOSE));
    Some(hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&server, &seal).as_ref()))
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The schema of the body.
pub(crate) fn schema() -> ObjectBuilder {
    object(&[&APPS, &SECONDS])
}

fn read(body: &Value) -> Result<(Vec<String>, i64), Vec<Problem>> {
    let Value::Object(map) = body else {
        return Err(vec![Problem::at(&[], "dict_type", "Input should be a valid dictionary", body)]);
    };
    let mut fields = Fields::new(map);
    let apps = APPS.read(&mut fields);
    let seconds = SECONDS.read(&mut fields);
    fields.finish((apps, seconds))
}

/// A list of applications, which must be there.
struct Apps {
    name: &'static str,
    most: usize,
}

impl Apps {
    fn read(&self, fields: &mut Fields<'_>) -> Vec<String> {
        let Self { name, most } = *self;
        let text = |item: &Value| item.as_str().filter(|app| !app.is_empty()).map(str::to_owned);
        let items = match fields.value(name) {
            None => {
                fields.refuse(fields.problem(name, "missing", "Field required"));
                return Vec::new();
            }
            Some(value) => value.as_array(),
        };
        let apps: Option<Vec<String>> = items.and_then(|items| items.iter().map(text).collect());
        match apps.filter(|apps| (1..=most).contains(&apps.len())) {
            Some(apps) => apps,
            None => {
                let words = format!("Input should be a list of 1 to {most} application names");
                fields.refuse(fields.problem(name, "list_type", words));
                Vec::new()
            }
        }
    }
}

impl Field for Apps {
    fn name(&self) -> &'static str {
        self.name
    }

    fn schema(&self) -> RefOr<Schema> {
        let app = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1));
        let words = "The applications that the token runs, with or without their namespace.";
        ArrayBuilder::new()
            .items(app)
            .min_items(Some(1))
            .max_items(Some(self.most))
            .description(Some(words))
            .into()
    }

    fn is_required(&self) -> bool {
        true
    }
}
