//! A builder of one call in the document.

use super::parts::request_id_header;
use super::{KEY, NO_SCOPES, TOKEN, UPLOAD_TOKEN, refusals};
use crate::output::request_id::REQUEST_ID;
use crate::routing::table::{Access, Route, Verb};
use utoipa::openapi::path::{HttpMethod, OperationBuilder, Parameter, Paths};
use utoipa::openapi::request_body::RequestBody;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::{Ref, SecurityRequirement};

/// A call: its path, its method, and its description.
pub(crate) struct Entry {
    path: String,
    methods: Vec<HttpMethod>,
    operation: OperationBuilder,
}

impl Entry {
    /// The call of a route, by the name of its operation.
    pub(crate) fn of(operation: &str) -> Self {
        Self::at(operation, "")
    }

    /// The call of a route below an application; `application` is the path of that.
    pub(crate) fn at(operation: &str, application: &str) -> Self {
        let route = Route::of(operation);
        let path = match route.template.strip_prefix("/{application}") {
            Some(below) => format!("{application}{below}"),
            None => format!("{application}{}", route.template),
        };
        let method = match route.verb {
            Verb::Read | Verb::Get | Verb::Any => HttpMethod::Get,
            Verb::Post => HttpMethod::Post,
            Verb::Put => HttpMethod::Put,
            Verb::Delete => HttpMethod::Delete,
        };
        let builder = OperationBuilder::new().operation_id(Some(operation));
        Self { path, methods: vec![method], operation: builder }.opens_to(route.access)
    }

    /// A call that the server makes.
    pub(crate) fn webhook(operation: &str) -> Self {
        let builder = OperationBuilder::new().operation_id(Some(operation));
        Self { path: operation.into(), methods: vec![HttpMethod::Post], operation: builder }
    }

    fn with(self, change: impl FnOnce(OperationBuilder) -> OperationBuilder) -> Self {
        Self { operation: change(self.operation), ..self }
    }

    /// The call's name in generated programs, where it is not that of its route.
    pub(crate) fn named(self, operation: &str) -> Self {
        self.with(|builder| builder.operation_id(Some(operation)))
    }

    /// The call's group, and what it does in one line.
    pub(crate) fn does(self, tag: &str, summary: &str) -> Self {
        self.with(|operation| operation.tag(tag).summary(Some(summary)))
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
        let answer = answer.header(REQUEST_ID.as_str(), request_id_header());
        self.with(|operation| operation.response(status.to_string(), answer))
    }

    pub(crate) fn refuses(self, statuses: &[u16]) -> Self {
        statuses.iter().fold(self, |entry, status| entry.refuses_as(refusals::name(*status), &[*status]))
    }

    /// The same in another API's form: every status has the response of this name.
    pub(crate) fn refuses_as(self, response: &str, statuses: &[u16]) -> Self {
        let add = |operation: OperationBuilder, status: &u16| {
            operation.response(status.to_string(), Ref::from_response_name(response))
        };
        self.with(|operation| statuses.iter().fold(operation, add))
    }

    /// What opens the call, where that is not a key as everywhere; none of several: it is open.
    fn opens_to(self, access: Access) -> Self {
        let requirement = |scheme: &&str| SecurityRequirement::new(*scheme, NO_SCOPES);
        let any_of = |schemes: &[&str]| schemes.iter().map(requirement).collect::<Vec<_>>();
        let requirements = match access {
            Access::Key | Access::Admin => return self,
            Access::Public | Access::File | Access::Upload => vec![],
            Access::KeyOrToken => any_of(&[KEY, TOKEN]),
            Access::UploadToken => any_of(&[UPLOAD_TOKEN, KEY]),
            Access::Metrics => [vec![SecurityRequirement::default()], any_of(&[KEY])].concat(),
        };
        self.with(|operation| operation.securities(Some(requirements)))
    }

    pub(crate) fn add_to(self, paths: &mut Paths) {
        paths.add_path_operation(self.path, self.methods, self.operation);
    }
}
