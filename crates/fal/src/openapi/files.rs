//! The calls that take files from clients, and hand files out.

use super::entry::Entry;
use super::parts::{bytes, described, header, json, json_body, media, segment, text, text_in};
use crate::calls::uploads::LIFECYCLE;
use crate::calls::uploads::{
    Accepted, Begun, Destination, FILE_NAME, MAX_PARTS, Nothing, PartList, PartTag, UploadToken,
};
use serde_json::json as value;
use utoipa::ToSchema;
use utoipa::openapi::Required;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};

pub(crate) fn entries() -> Vec<Entry> {
    [rest_host(), cdn_host(), vec![file()]].into_iter().flatten().collect()
}

/// A URL is handed out, and the bytes go there.
fn rest_host() -> Vec<Entry> {
    let initiate = |operation, summary| {
        Entry::of(operation)
            .does("files", summary)
            .takes([kept()])
            .body(description())
            .answers(200, json::<Destination>("Where the bytes go."))
            .refuses(&[400, 401, 408, 413, 422, 429, 500, 503])
    };
    let upload = || segment("upload", "From the `upload_url`.", text_in("uuid"));
    vec![
        initiate("initiateUpload", "Begin a file"),
        initiate("initiateMultipartUpload", "Begin a file in parts"),
        Entry::of("putFile")
            .does("files", "Send a file")
            .takes([upload()])
            .body(bytes())
            .answers(200, json::<Nothing>("The file is there."))
            .refuses(&[400, 404, 408, 410, 413, 500, 503]),
        put_part("putPart", upload()),
        complete("completeUpload", upload()),
    ]
}

/// The bytes go to the host that hands them out.
fn cdn_host() -> Vec<Entry> {
    let upload = || segment("upload", "The `uploadId`.", text_in("uuid"));
    let file = || segment("file", "Anything: the upload alone decides.", text());
    vec![
        Entry::of("createUploadToken")
            .does("files", "Get a token that sends files")
            .answers(200, json::<UploadToken>("A token."))
            .refuses(&[400, 401, 429, 500, 503]),
        Entry::of("sendFile")
            .does("files", "Send a file at once")
            .takes([file_name(), kept()])
            .body(bytes())
            .answers(200, json::<Accepted>("The file is there."))
            .refuses(&[400, 401, 408, 413, 429, 500, 503]),
        Entry::of("beginFile")
            .does("files", "Begin a file in parts, at once")
            .takes([file_name(), kept()])
            .answers(200, json::<Begun>("The parts may come."))
            .refuses(&[400, 401, 429, 500, 503]),
        put_part("sendPart", upload()).takes([file()]),
        complete("completeFile", upload()).takes([file()]),
    ]
}

fn put_part(operation: &str, upload: Parameter) -> Entry {
    let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(MAX_PARTS));
    let etag = HeaderBuilder::new().schema(Some(text())).description(Some("As in the body."));
    Entry::of(operation)
        .does("files", "Send one part of a file")
        .about("Parts come in any order. One that is sent again takes the place of the earlier one.")
        .takes([upload, segment("part", "The part's number.", number)])
        .body(bytes())
        .answers(200, json::<PartTag>("The part is there.").header("etag", etag.build()))
        .refuses(&[400, 404, 408, 410, 413, 500, 503])
}

fn complete(operation: &str, upload: Parameter) -> Entry {
    let example = value!({ "parts": [{ "partNumber": 1, "etag": "…" }] });
    Entry::of(operation)
        .does("files", "Put the parts of a file together")
        .takes([upload])
        .body(json_body(&PartList::name(), example))
        .answers(200, json::<Nothing>("The file is there."))
        .refuses(&[400, 404, 408, 410, 413, 422, 500, 503])
}

/// A file for whoever knows its name.
fn file() -> Entry {
    Entry::of("file")
        .does("files", "Fetch an image or another file")
        .takes([
            segment("file", "From a URL of this server.", text()),
            header("range", "One range of bytes.", text()),
            header("if-none-match", "The `etag` of a copy.", text()),
        ])
        .answers(200, media("*/*", "The file."))
        .answers(206, media("*/*", "The range."))
        .answers(304, described("The copy is good."))
        .refuses(&[400, 403, 404, 416, 500, 503])
}

/// How a client describes a file before it sends it.
fn description() -> RequestBody {
    let text = || ObjectBuilder::new().schema_type(SchemaType::from_iter([Type::String, Type::Null]));
    let body = ObjectBuilder::new()
        .property("content_type", text().description(Some("The MIME type.")))
        .property("file_name", text().description(Some("The name on the client's side.")));
    let example = value!({ "content_type": "image/png", "file_name": "cat.png" });
    let content = ContentBuilder::new().schema(Some(body)).example(Some(example));
    RequestBodyBuilder::new()
        .content("application/json", content.build())
        .required(Some(Required::False))
        .build()
}

fn kept() -> Parameter {
    lifecycle(LIFECYCLE, "How long the file is to be kept; for good where it does not say.")
}

/// How long a file is to be kept: JSON in a header.
pub(crate) fn lifecycle(name: &str, about: &str) -> Parameter {
    let seconds = ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Integer, Type::Null]))
        .minimum(Some(1))
        .maximum(Some(i64::MAX));
    let wish = ObjectBuilder::new().property("expiration_duration_seconds", seconds);
    let content = ContentBuilder::new().schema(Some(wish));
    ParameterBuilder::new()
        .parameter_in(ParameterIn::Header)
        .name(name)
        .description(Some(about))
        .required(Required::False)
        .content("application/json", content)
        .build()
}

fn file_name() -> Parameter {
    header(FILE_NAME, "The name on the client's side.", text())
}
