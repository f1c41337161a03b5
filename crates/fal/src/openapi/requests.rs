//! The calls that a request is made of: submit, status, result, cancel; run and stream; and the webhook.

use super::entry::Entry;
use super::files::lifecycle;
use super::parts::{events, header, json, json_body, json_of, query, segment, text, text_in};
use crate::calls::request_options;
use crate::calls::submit;
use crate::calls::uploads;
use crate::calls::webhook;
use crate::endpoint::Task;
use crate::input;
use crate::output::names::IDEMPOTENCY_KEY;
use crate::output::wire::{Cancelled, StatusBody, Submitted};
use crate::routing::served_endpoint::ServedEndpoint;
use serde_json::json as value;
use utoipa::ToSchema;
use utoipa::openapi::path::Parameter;
use utoipa::openapi::request_body::RequestBody;
use utoipa::openapi::schema::{ObjectBuilder, Type};

/// An endpoint as a document shows it.
pub(crate) struct Shown<'a> {
    pub(crate) route: ServedEndpoint<'a>,
    /// The name of its output's schema.
    pub(crate) output: String,
    /// The suffix of its operations' names.
    pub(crate) suffix: String,
}

/// The calls of the queue, below a path.
pub(crate) fn queued(below: &str, shown: &Shown<'_>) -> Vec<Entry> {
    let application = format!("{below}/{}", shown.route.id());
    vec![
        submit(below, shown),
        Entry::at("status", &application)
            .does("queue", "Ask where a request stands")
            .takes([request_id(), logs()])
            .answers(200, json::<StatusBody>("The request is over, whether it failed or not."))
            .answers(202, json::<StatusBody>("The request waits, or is generated."))
            .refuses(&[400, 401, 404, 500, 503]),
        Entry::at("statusStream", &application)
            .does("queue", "Watch a request")
            .about("An event for every change, until the request is over.")
            .takes([request_id(), logs(), preview()])
            .answers(200, events("One status an event.", &[StatusBody::name()]))
            .refuses(&[400, 401, 404, 500, 503]),
        Entry::at("result", &application)
            .does("queue", "Fetch the result of a request")
            .takes([request_id()])
            .answers(200, json_of(&shown.output, "The output."))
            .refuses(&[400, 401, 404, 422, 499, 500, 503, 504]),
        Entry::at("cancel", &application)
            .does("queue", "Cancel a request")
            .takes([request_id()])
            .answers(200, json::<Cancelled>("It waited, and is gone."))
            .answers(202, json::<Cancelled>("It is being generated, and stops after the current step."))
            .answers(400, json::<Cancelled>("It is over already."))
            .refuses(&[401, 404, 500, 503]),
    ]
}

/// Puts a request into the queue.
pub(crate) fn submit(below: &str, shown: &Shown<'_>) -> Entry {
    Entry::at("submit", &format!("{below}/{}", shown.route.id()))
        .named(&format!("submit{}", shown.suffix))
        .does("queue", "Put a request into the queue")
        .about("Invalid input is accepted too, as on fal: its refusal is the result.")
        .takes(option_headers())
        .takes([query(webhook::PARAMETER, "Where to post the result.", text_in("uri")), max_queue_length()])
        .body(input_body(&shown.route))
        .answers(200, json::<Submitted>("The request waits."))
        .refuses(&[400, 401, 408, 413, 415, 422, 429, 500, 503])
}

/// Why a run is refused; one that is sent again may find that its result is not kept any longer: 404.
const RUN_REFUSALS: [u16; 12] = [400, 401, 404, 408, 413, 415, 422, 429, 499, 500, 503, 504];

/// Runs a request, with the input in a body or in the query.
pub(crate) fn run(below: &str, shown: &Shown<'_>) -> [Entry; 2] {
    let path = format!("{below}/{}", shown.route.id());
    let post = Entry::at("run", &path)
        .named(&format!("run{}", shown.suffix))
        .does("run", "Run a request and wait for its output")
        .about("A client that goes away stops the work.")
        .takes(option_headers())
        .takes([max_queue_length()])
        .body(input_body(&shown.route))
        .answers(200, json_of(&shown.output, "The output."))
        .refuses(&RUN_REFUSALS);
    let get = Entry::at("runByQuery", &path)
        .named(&format!("runByQuery{}", shown.suffix))
        .does("run", "Run a request whose input is in the query")
        .takes(input::in_query(&shown.route))
        .takes(option_headers())
        .takes([max_queue_length()])
        .answers(200, json_of(&shown.output, "The output."))
        .refuses(&RUN_REFUSALS);
    [post, get]
}

/// The calls whose client waits, below a path.
pub(crate) fn waiting(below: &str, shown: &Shown<'_>) -> Vec<Entry> {
    let path = format!("{below}/{}", shown.route.id());
    let events_of_run =
        || events("Statuses, and the output last.", &[StatusBody::name(), shown.output.clone().into()]);
    let [run, run_by_query] = run(below, shown);
    vec![
        run,
        run_by_query,
        Entry::at("runStreamByQuery", &path)
            .does("run", "Watch a request whose input is in the query")
            .takes(input::in_query(&shown.route))
            .takes(option_headers())
            .takes([max_queue_length()])
            .answers(200, events_of_run())
            .refuses(&RUN_REFUSALS),
        Entry::at("runStream", &path)
            .does("run", "Run a request and watch it")
            .about("Where the request fails, its error is the last event, and the connection breaks.")
            .takes(option_headers())
            .takes([max_queue_length()])
            .body(input_body(&shown.route))
            .answers(200, events_of_run())
            .refuses(&[400, 401, 404, 408, 413, 415, 422, 429, 500, 503]),
    ]
}

/// The message to a webhook's receiver.
pub(crate) fn webhook() -> Entry {
    let body = webhook::Body::name();
    let signature = |name, about| header(name, about, text());
    Entry::webhook("requestEnded")
        .does("queue", "A request that asked for it has ended")
        .about("Posted to `fal_webhook`, and tried again over two hours until the answer is a 2xx.")
        .takes([
            signature("x-fal-webhook-request-id", "Names the request; repeats have the same."),
            signature("x-fal-webhook-user-id", "The account: `latentd`."),
            signature("x-fal-webhook-timestamp", "When it was sent, in seconds since 1970."),
            signature("x-fal-webhook-signature", "Ed25519 over the lines above and the body's SHA-256, in hexadecimal."),
            signature("webhook-id", "As in Standard Webhooks."),
            signature("webhook-timestamp", "As in Standard Webhooks."),
            signature("webhook-signature", "As in Standard Webhooks, `v1a`."),
        ])
        .body(json_body(&body, value!({ "request_id": "…", "gateway_request_id": "…", "status": "ERROR", "error": "…", "payload": {} })))
        .answers(200, super::parts::described("Received."))
}

fn input_body(route: &ServedEndpoint<'_>) -> RequestBody {
    let prompt = "a red house on the left of a lake at sunset, two boats";
    let example = match route.task {
        Task::TextToImage => value!({ "prompt": prompt, "image_size": "landscape_4_3" }),
        Task::ImageToImage => value!({ "prompt": prompt, "image_url": "https://example.com/house.jpg" }),
        Task::Inpaint => value!({
            "prompt": prompt,
            "image_url": "https://example.com/house.jpg",
            "mask_image_url": "https://example.com/mask.png",
        }),
    };
    json_body(&route.input_name(), example)
}

/// The headers with options of a request.
fn option_headers() -> Vec<Parameter> {
    let seconds = || {
        let number = ObjectBuilder::new().schema_type(Type::Number);
        number
            .exclusive_minimum(Some(request_options::MIN_SECONDS))
            .maximum(Some(request_options::MAX_SECONDS))
    };
    let [newer, older] = request_options::TIMEOUTS;
    vec![
        header(newer, "Seconds until the request must have started, or fail.", seconds()),
        header(older, "The same, by its older name.", seconds()),
        header(
            request_options::NO_RETRY,
            "Fail where the worker dies, and do not start again.",
            text().enum_values(Some(["1", "true", "yes"])),
        ),
        header(
            request_options::STORE_IO,
            "`0`: keep the input no longer than needed, and the output for an hour.",
            text().enum_values(Some(["0", "1"])),
        ),
        lifecycle(uploads::lifecycle::PREFERENCE, "How long the files of the output are to be kept."),
        header(
            IDEMPOTENCY_KEY,
            "The same key with the same input is the same request.",
            text().pattern(Some("^[!-~]{1,255}$")),
        ),
        header(submit::PRIORITY, "`low` lets others pass.", text().enum_values(Some(["normal", "low"]))),
    ]
}

fn max_queue_length() -> Parameter {
    let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).maximum(Some(i64::MAX));
    query(submit::MAX_QUEUE_LENGTH, "Refuse the request where more than so many wait.", number)
}

pub(crate) fn request_id() -> Parameter {
    let id = text_in("uuid");
    segment("request_id", "What the submit answered.", id)
}

fn preview() -> Parameter {
    let about = "`1`: with previews of the image. Not one of fal's.";
    query("preview", about, ObjectBuilder::new().schema_type(Type::Number))
}

fn logs() -> Parameter {
    query("logs", "`1`: with log lines.", ObjectBuilder::new().schema_type(Type::Number))
}
