//! What calls in the document are put together from: parameters, bodies and answers.

use serde_json::Value;
use std::borrow::Cow;
use utoipa::ToSchema;
use utoipa::openapi::content::{Content, ContentBuilder};
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, SchemaFormat, Type};
use utoipa::openapi::{Header, Ref, Required};

/// A request's name, on every answer.
pub(crate) fn request_id_header() -> Header {
    HeaderBuilder::new().schema(Some(text())).description(Some("Names the request.")).build()
}

/// An answer in JSON.
pub(crate) fn json<T: ToSchema>(about: &str) -> ResponseBuilder {
    json_of(&T::name(), about)
}

/// An answer in JSON, of a schema by name.
pub(crate) fn json_of(schema: &str, about: &str) -> ResponseBuilder {
    let schema = Ref::from_schema_name(schema);
    described(about).content("application/json", Content::new(Some(schema)))
}

/// An answer in server-sent events, of which each carries one of some schemas in JSON.
pub(crate) fn events(about: &str, schemas: &[Cow<'static, str>]) -> ResponseBuilder {
    let one_of =
        schemas.iter().fold(OneOfBuilder::new(), |one_of, name| one_of.item(Ref::from_schema_name(&**name)));
    let data = text().content_media_type("application/json").content_schema(Some(one_of));
    let event = ObjectBuilder::new().property("data", data).required("data");
    described(about).content("text/event-stream", Content::new(Some(event)))
}

/// An answer of another type.
pub(crate) fn media(kind: &str, about: &str) -> ResponseBuilder {
    described(about).content(kind, Content::new(Some(text())))
}

pub(crate) fn described(about: &str) -> ResponseBuilder {
    Response::builder().description(about)
}

/// A body in JSON, of a schema by name, with an example.
pub(crate) fn json_body(schema: &str, example: Value) -> RequestBody {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(schema))).example(Some(example));
    RequestBodyBuilder::new()
        .content("application/json", content.build())
        .required(Some(Required::True))
        .build()
}

/// A body of bytes, whatever they are; none of them are an empty file.
pub(crate) fn bytes() -> RequestBody {
    let content = Content::default();
    RequestBodyBuilder::new()
        .content("application/octet-stream", content)
        .required(Some(Required::True))
        .build()
}

pub(crate) fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

pub(crate) fn text_in(format: &str) -> ObjectBuilder {
    text().format(Some(SchemaFormat::Custom(format.to_owned())))
}

/// A piece of the path.
pub(crate) fn segment(name: &str, about: &str, schema: ObjectBuilder) -> Parameter {
    parameter(ParameterIn::Path, name, about, schema).required(Required::True).build()
}

pub(crate) fn query(name: &str, about: &str, schema: ObjectBuilder) -> Parameter {
    parameter(ParameterIn::Query, name, about, schema).build()
}

pub(crate) fn header(name: &str, about: &str, schema: ObjectBuilder) -> Parameter {
    parameter(ParameterIn::Header, name, about, schema).build()
}

fn parameter(place: ParameterIn, name: &str, about: &str, schema: ObjectBuilder) -> ParameterBuilder {
    ParameterBuilder::new()
        .parameter_in(place)
        .name(name)
        .description(Some(about))
        .required(Required::False)
        .schema(Some(schema))
}
