//! One call in the document, put together in few words.

use super::{NO_SCOPES, refusals};
use serde_json::Value;
use std::borrow::Cow;
use utoipa::ToSchema;
use utoipa::openapi::content::{Content, ContentBuilder};
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, Paths};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, SchemaFormat, Type};
use utoipa::openapi::{Header, Ref, Required, SecurityRequirement};

/// A call: its path, its method, and what is told of it.
pub(crate) struct Entry {
    path: String,
    methods: Vec<HttpMethod>,
    operation: OperationBuilder,
}

impl Entry {
    fn new(method: HttpMethod, path: impl Into<String>) -> Self {
        Self { path: path.into(), methods: vec![method], operation: OperationBuilder::new() }
    }

    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(HttpMethod::Get, path)
    }

    pub(crate) fn post(path: impl Into<String>) -> Self {
        Self::new(HttpMethod::Post, path)
    }

    pub(crate) fn put(path: impl Into<String>) -> Self {
        Self::new(HttpMethod::Put, path)
    }

    pub(crate) fn delete(path: impl Into<String>) -> Self {
        Self::new(HttpMethod::Delete, path)
    }

    fn with(self, change: impl FnOnce(OperationBuilder) -> OperationBuilder) -> Self {
        Self { operation: change(self.operation), ..self }
    }

    /// The call's name in generated programs, its group, and what it does in one line.
    pub(crate) fn named(self, id: &str, tag: &str, summary: &str) -> Self {
        self.with(|operation| operation.operation_id(Some(id)).tag(tag).summary(Some(summary)))
    }

    pub(crate) fn about(self, words: &str) -> Self {
        self.with(|operation| operation.description(Some(words)))
    }

    pub(crate) fn takes(self, parameters: impl IntoIterator<Item = Parameter>) -> Self {
        let add =
            |operation: OperationBuilder| parameters.into_iter().fold(operation, OperationBuilder::parameter);
        self.with(add)
    }

    pub(crate) fn body(self, body: RequestBody) -> Self {
        self.with(|operation| operation.request_body(Some(body)))
    }

    /// An answer; every answer names itself.
    pub(crate) fn answers(self, status: u16, answer: ResponseBuilder) -> Self {
        let answer = answer.header(crate::output::request_id::REQUEST_ID.as_str(), request_id_header());
        self.with(|operation| operation.response(status.to_string(), answer))
    }

    pub(crate) fn refuses(self, statuses: &[u16]) -> Self {
        let add = |operation: OperationBuilder, status: &u16| {
            operation.response(status.to_string(), Ref::from_response_name(refusals::name(*status)))
        };
        self.with(|operation| statuses.iter().fold(operation, add))
    }

    /// Any of these opens the call; none of them: it is open.
    pub(crate) fn opens_to(self, schemes: &[&str]) -> Self {
        let requirement = |scheme: &&str| SecurityRequirement::new(*scheme, NO_SCOPES);
        self.with(|operation| operation.securities(Some(schemes.iter().map(requirement))))
    }

    /// Some may call it without a key, others need one of these.
    pub(crate) fn may_need(self, schemes: &[&str]) -> Self {
        let needed = schemes.iter().map(|scheme| SecurityRequirement::new(*scheme, NO_SCOPES));
        let requirements = std::iter::once(SecurityRequirement::default()).chain(needed);
        self.with(|operation| operation.securities(Some(requirements)))
    }

    pub(crate) fn add_to(self, paths: &mut Paths) {
        paths.add_path_operation(self.path, self.methods, self.operation);
    }
}

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
