//! The calls of OpenAI's image API.

use super::Named;
use super::entry::Entry;
use super::parts::{json, json_body, segment, text};
use super::requests::Shown;
use crate::calls::models::OpenAiModel;
use crate::endpoint::Task;
use crate::openai::events::{CompletedImage, PartialImage};
use crate::openai::input;
use crate::openai::output::ImagesBody;
use crate::output::openai_error::ErrorBody;
use crate::routing::served_endpoint::ServedEndpoint;
use serde_json::json as value;
use utoipa::openapi::content::Content;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

/// Names of the schemas of inputs.
const GENERATE: &str = "CreateImageRequest";
const EDIT: &str = "CreateImageEditRequest";

/// Name of the response to a call that fails.
pub(super) const REFUSED: &str = "OpenAiRefused";

const STATUSES: [u16; 12] = [400, 401, 404, 408, 413, 415, 429, 499, 500, 502, 503, 504];

pub(crate) fn entries() -> [Entry; 3] {
    let prompt = "a red house on the left of a lake at sunset, two boats";
    [
        Entry::of("createImage")
            .does("openai", "Generate images")
            .about("A client that goes away stops the work.")
            .body(json_body(GENERATE, value!({ "prompt": prompt, "size": "1024x1024" })))
            .answers(200, images())
            .refuses_as(REFUSED, &STATUSES),
        Entry::of("createImageEdit")
            .does("openai", "Generate images that start from one")
            .about("A client that goes away stops the work.")
            .body(input::form(EDIT))
            .answers(200, images())
            .refuses_as(REFUSED, &STATUSES),
        Entry::of("retrieveModel")
            .does("openai", "Is there this model?")
            .takes([segment("model", "By any of its names.", text())])
            .answers(200, json::<OpenAiModel>("The model that answers."))
            .refuses_as(REFUSED, &[400, 401, 404, 500]),
    ]
}

/// The images, or with `stream` their events.
fn images() -> ResponseBuilder {
    let events = [PartialImage::name(), CompletedImage::name(), ErrorBody::name()];
    let one_of =
        events.iter().fold(OneOfBuilder::new(), |one_of, name| one_of.item(Ref::from_schema_name(&**name)));
    let data = text().content_media_type("application/json").content_schema(Some(one_of));
    let event = ObjectBuilder::new().property("event", text()).property("data", data).required("data");
    json::<ImagesBody>("The images.").content("text/event-stream", Content::new(Some(event)))
}

/// The schemas of inputs, as the first endpoint has them.
fn inputs(shown: &[Shown<'_>]) -> Vec<Named> {
    let Some(Shown { route, .. }) = shown.first() else { return Vec::new() };
    let names: Vec<&str> = shown.iter().map(|shown| shown.route.endpoint.answering()).collect();
    let schema = |task| input::schema(&ServedEndpoint { task, ..*route }, &names).into();
    vec![(GENERATE.to_owned(), schema(Task::TextToImage)), (EDIT.to_owned(), schema(Task::ImageToImage))]
}

/// All schemas of these calls, by name.
pub(crate) fn schemas(shown: &[Shown<'_>]) -> Vec<Named> {
    let mut schemas = inputs(shown);
    for (name, schema) in [
        (ImagesBody::name(), ImagesBody::schema()),
        (PartialImage::name(), PartialImage::schema()),
        (CompletedImage::name(), CompletedImage::schema()),
        (ErrorBody::name(), ErrorBody::schema()),
    ] {
        schemas.push((name.into_owned(), schema));
    }
    ImagesBody::schemas(&mut schemas);
    CompletedImage::schemas(&mut schemas);
    ErrorBody::schemas(&mut schemas);
    schemas
}

/// The response to a call that fails.
pub(crate) fn refused() -> (String, RefOr<Response>) {
    let body = json::<ErrorBody>("The call is refused, or its request failed; the body says why.");
    (REFUSED.to_owned(), body.into())
}
