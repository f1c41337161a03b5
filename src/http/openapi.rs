//! `GET /openapi.json`: what is served here, told by the types and tables that serve it. With an `endpoint_id`, what
//! fal tells of one endpoint, in fal's form.

mod endpoint;
mod entry;
mod files;
mod operator;
mod refusals;
mod requests;

use super::Api;
use super::call::Call;
use super::error::ApiError;
use super::input::Task;
use super::{health, input, payloads, problem, tokens, uploads, webhook, wire};
use crate::request::Limits;
use axum::Json;
use axum::response::{IntoResponse, Response};
use entry::Entry;
use utoipa::ToSchema;
use utoipa::openapi::path::Paths;
use utoipa::openapi::schema::{Components, Schema};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{Info, InfoBuilder, License, OpenApi, OpenApiBuilder, RefOr, Server};

/// Asks for one endpoint, in fal's form.
const ENDPOINT_ID: &str = "endpoint_id";

const ABOUT: &str = "Stable Diffusion 3.5 on your own machine, behind the model API of fal.ai.\n\n\
    A request is put into the queue and asked after, or run while its client waits. Paths below `/queue` are those of \
    `queue.fal.run`; paths below `/run`, and the same without it, are those of `fal.run`; the rest is what fal keeps on \
    other hosts. With `/turbo` after the endpoint's name the model is the same; with `/image-to-image` it begins from a \
    picture (`/openapi.json?endpoint_id=fal-ai/stable-diffusion-v35-large/image-to-image` tells of its input). \
    `/api/fal/proxy` takes the calls of \
    fal's clients that are set to use a proxy. Web sockets are not shown: realtime is at `/run/ENDPOINT/realtime`, and \
    run and stream over one at `/ws/ENDPOINT`.\n\n\
    Calls need a key once there is one: `Authorization: Key …`.";

/// Groups of calls, in the order in which they are shown.
const TAGS: [(&str, &str); 5] = [
    ("queue", "Put requests into the queue, and ask after them."),
    ("run", "Run a request while its client waits."),
    ("files", "Pictures, and files that clients send."),
    ("access", "Tokens for programs that must not see a key, and the keys that check webhooks."),
    ("server", "Health, and these documents."),
];

/// Answers with the document.
pub(super) fn serve(api: &Api, call: &Call) -> Result<Response, ApiError> {
    let document = match call.parameter(ENDPOINT_ID) {
        Some(id) => endpoint::document(api, &call.links, &id)?,
        None => whole(&api.limits, call.links.origin()),
    };
    Ok(Json(document).into_response())
}

fn whole(limits: &Limits, origin: &str) -> OpenApi {
    let groups = [
        requests::queued("/queue", requests::ENDPOINT, Task::TextToImage),
        requests::run("/run", requests::ENDPOINT, Task::TextToImage),
        files::entries(),
        operator::entries(),
    ];
    let info = Info::builder().title("latentd").version(env!("CARGO_PKG_VERSION")).description(Some(ABOUT));
    document(Task::TextToImage, limits, info, origin, groups.into_iter().flatten())
        .webhooks(Some(paths([requests::webhook()])))
        .tags(Some(TAGS.map(|(name, about)| TagBuilder::new().name(name).description(Some(about)).build())))
        .build()
}

/// What both documents have in common.
fn document(
    task: Task,
    limits: &Limits,
    info: InfoBuilder,
    server: &str,
    entries: impl IntoIterator<Item = Entry>,
) -> OpenApiBuilder {
    let license = License::builder().name("MIT OR Apache-2.0").identifier(Some("MIT OR Apache-2.0"));
    let mut components = Components::new();
    components.schemas.extend(schemas(task, limits));
    components.responses.extend(refusals::responses());
    components.add_security_schemes_from_iter(security_schemes());
    OpenApiBuilder::new()
        .info(info.license(Some(license.build())))
        .servers(Some([Server::new(server)]))
        .paths(paths(entries))
        .components(Some(components))
        .security(Some([SecurityRequirement::new(KEY, NO_SCOPES)]))
}

fn paths(entries: impl IntoIterator<Item = Entry>) -> Paths {
    let mut paths = Paths::new();
    for entry in entries {
        entry.add_to(&mut paths);
    }
    paths
}

/// Names of the security schemes.
const KEY: &str = "apiKeyAuth";
const TOKEN: &str = "tokenAuth";
const UPLOAD_TOKEN: &str = "uploadTokenAuth";

const NO_SCOPES: [&str; 0] = [];

fn security_schemes() -> [(&'static str, SecurityScheme); 3] {
    let key =
        ApiKeyValue::with_description("Authorization", "`Key`, a space, and the key. `Bearer` is read too.");
    let token = ApiKeyValue::with_description(super::auth::TOKEN, "A token of `POST /tokens/`.");
    let upload_token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A token of `POST /storage/auth/token`, or a key."));
    [
        (KEY, SecurityScheme::ApiKey(ApiKey::Header(key))),
        (TOKEN, SecurityScheme::ApiKey(ApiKey::Query(token))),
        (UPLOAD_TOKEN, SecurityScheme::Http(upload_token.build())),
    ]
}

/// The schemas that entries refer to, by name.
fn schemas(task: Task, limits: &Limits) -> Vec<(String, RefOr<Schema>)> {
    fn add<T: ToSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(schemas);
    }
    let mut schemas = vec![
        (requests::input_name(task).to_owned(), input::schema(task, limits).into()),
        ("ImageSize".to_owned(), input::size_schema(limits).into()),
        (operator::TOKEN_REQUEST.to_owned(), tokens::schema().into()),
    ];
    add::<wire::OutputBody>(&mut schemas);
    add::<wire::Submitted>(&mut schemas);
    add::<wire::StatusBody>(&mut schemas);
    add::<wire::Cancelled>(&mut schemas);
    add::<webhook::Body>(&mut schemas);
    add::<webhook::KeySet>(&mut schemas);
    add::<problem::Problems>(&mut schemas);
    add::<problem::Refusal>(&mut schemas);
    add::<uploads::UploadToken>(&mut schemas);
    add::<uploads::Destination>(&mut schemas);
    add::<uploads::Accepted>(&mut schemas);
    add::<uploads::Begun>(&mut schemas);
    add::<uploads::PartTag>(&mut schemas);
    add::<uploads::PartList>(&mut schemas);
    add::<uploads::Nothing>(&mut schemas);
    add::<payloads::Erased>(&mut schemas);
    add::<health::Liveness>(&mut schemas);
    add::<health::Readiness>(&mut schemas);
    schemas
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::target::{self, Target};
    use crate::http::uploads::UploadCall;
    use axum::http::Method;

    /// The call that a target is. A new target is not complete without one.
    fn operation(target: &Target, method: &Method, path: &str) -> &'static str {
        match target {
            Target::Submit(_) => "submit",
            Target::Run(_) if *method == Method::GET => "runByQuery",
            Target::Run(_) => "run",
            Target::RunStream(_) if *method == Method::GET => "runStreamByQuery",
            Target::RunStream(_) => "runStream",
            Target::Status(_) => "status",
            Target::StatusStream(_) => "statusStream",
            Target::Result(_) => "result",
            Target::Cancel(_) => "cancel",
            Target::File(_) => "file",
            Target::SigningKeys => "signingKeys",
            Target::Upload(UploadCall::Token) => "createUploadToken",
            Target::Upload(UploadCall::Initiate) if path.ends_with("multipart") => "initiateMultipartUpload",
            Target::Upload(UploadCall::Initiate) => "initiateUpload",
            Target::Upload(UploadCall::Put(_)) => "putFile",
            Target::Upload(UploadCall::Send) => "sendFile",
            Target::Upload(UploadCall::Begin) => "beginFile",
            Target::Upload(UploadCall::Part(..)) if path.starts_with("/files") => "sendPart",
            Target::Upload(UploadCall::Part(..)) => "putPart",
            Target::Upload(UploadCall::Complete(_)) if path.starts_with("/files") => "completeFile",
            Target::Upload(UploadCall::Complete(_)) => "completeUpload",
            Target::Tokens => "createToken",
            Target::Payloads(_) => "erasePayloads",
            Target::Live => "live",
            Target::Ready if path == "/health" => "health",
            Target::Ready => "ready",
            Target::Document if path == "/openapi.json" => "openapi",
            Target::Document => "endpointOpenapi",
            Target::Docs => "docs",
            // Pages' own, and the way of other calls.
            Target::Playground(_) | Target::DocsAsset(_) | Target::Proxy => "",
            // OpenAPI has no form for web sockets.
            Target::Realtime(_) | Target::OverWebSocket(_) => "",
        }
    }

    #[test]
    fn every_path_leads_to_the_call_that_it_says() {
        let document = whole(&Limits { max_side: 1024 }, "http://test");
        let mut calls = 0;
        for (path, item) in document.paths.paths {
            let methods = [
                (Method::GET, item.get),
                (Method::POST, item.post),
                (Method::PUT, item.put),
                (Method::DELETE, item.delete),
            ];
            for (method, call) in methods.into_iter().filter_map(|(method, call)| Some((method, call?))) {
                let ids =
                    ["{request_id}", "{upload}"].map(|name| (name, "0190c1a0-0000-7000-8000-000000000000"));
                let values = [("{part}", "1"), ("{file}", "0190c1a0000070008000000000000000.png")];
                let fill = |path: String, (name, value): (&str, &str)| path.replace(name, value);
                let filled = ids.into_iter().chain(values).fold(path.clone(), fill);
                let (target, _) = target::resolve(&method, "test", &filled).expect("a path that is served");
                assert_eq!(
                    call.operation_id.as_deref(),
                    Some(operation(&target, &method, &path)),
                    "{method} {path}"
                );
                calls += 1;
            }
        }
        assert!(calls > 20, "{calls} calls");
    }
}
