//! The calls about the server itself: tokens, keys, health, and these documents.

use super::ENDPOINT_ID;
use super::entry::Entry;
use super::openai;
use super::parts::{described, json, json_body, media, query, text};
use super::requests::request_id;
use crate::calls::health::{Liveness, Readiness};
use crate::calls::models::{self, ModelList};
use crate::calls::payloads::Erased;
use crate::calls::webhook::KeySet;
use serde_json::json as value;
use utoipa::openapi::content::Content;
use utoipa::openapi::schema::{ObjectBuilder, Type};

/// Name of the schema of a token request.
pub(crate) const TOKEN_REQUEST: &str = "TokenRequest";

pub(crate) fn entries() -> Vec<Entry> {
    vec![
        Entry::of("createToken")
            .does("access", "Get a token for a program that must not see a key")
            .body(json_body(TOKEN_REQUEST, value!({ "allowed_apps": ["stable-diffusion-v35-large"] })))
            .answers(200, described("A token.").content("application/json", Content::new(Some(text()))))
            .refuses(&[400, 401, 408, 413, 422, 500, 503]),
        open("signingKeys", "access", "The keys that check webhooks").answers(200, json::<KeySet>("Keys.")),
        open("live", "server", "Does the server answer?").answers(200, json::<Liveness>("It does.")),
        Entry::of("erasePayloads")
            .does("access", "Erase what a request brought and made")
            .about("For keys of administrators, while there are keys; where keys are isolated, for the request's own key too.")
            .takes([request_id()])
            .answers(200, json::<Erased>("It is gone."))
            .refuses(&[400, 401, 403, 404, 500, 503]),
        Entry::of("models")
            .does("server", "Which endpoints are served?")
            .takes([
                query(models::ENDPOINT_ID, "Only this endpoint; may be given several times.", text()),
                query(models::CATEGORY, "Only endpoints of this task.", text()),
                query(models::WORD, "Only endpoints in whose id or name this is.", text()),
            ])
            .answers(200, json::<ModelList>("All of them, on one page."))
            .refuses_as(openai::REFUSED, &[400, 401, 500]),
        ready("ready"),
        ready("health"),
        Entry::of("metrics")
            .does("server", "What there is to watch, for Prometheus")
            .about("Needs no key where the operator says so.")
            .answers(200, media("text/plain", "Metrics in Prometheus' text format 0.0.4."))
            .refuses(&[400, 401, 500, 503]),
        document("openapi"),
        document("endpointOpenapi"),
        open("docs", "server", "This document as a page").answers(200, media("text/html", "A page.")),
    ]
}

fn open(operation: &str, tag: &str, summary: &str) -> Entry {
    Entry::of(operation).does(tag, summary).refuses(&[400, 500])
}

fn ready(operation: &str) -> Entry {
    open(operation, "server", "Can the server generate images?")
        .answers(200, json::<Readiness>("It can."))
        .answers(503, json::<Readiness>("It cannot, yet or any more."))
}

fn document(operation: &str) -> Entry {
    let any = ObjectBuilder::new().schema_type(Type::Object);
    open(operation, "server", "This document")
        .takes([query(ENDPOINT_ID, "Describe this endpoint alone, in fal's form.", text())])
        .answers(200, described("A document.").content("application/json", Content::new(Some(any))))
        .refuses(&[404])
}
