//! `GET /openapi.json`: what is served here, made of the types and tables that serve it. With an `endpoint_id`,
//! fal's document of one endpoint, in fal's form.

mod admin;
mod endpoint;
mod entry;
mod files;
mod openai;
mod operator;
mod parts;
mod refusals;
mod requests;

use crate::access::tokens;
use crate::calls::admin as admin_calls;
use crate::calls::health;
use crate::calls::models;
use crate::calls::payloads;
use crate::calls::uploads;
use crate::calls::webhook;
use crate::input;
use crate::output::error::ApiError;
use crate::output::problem;
use crate::output::wire;
use crate::routing::call::Call;
use crate::routing::served_endpoint::{self, ServedEndpoint};
use crate::state::Api;
use crate::state::documents::ORIGIN;
use axum::response::Response;
use entry::Entry;
use requests::Shown;
use utoipa::openapi::path::Paths;
use utoipa::openapi::schema::{Components, Schema};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{Info, InfoBuilder, License, OpenApi, OpenApiBuilder, RefOr, Server};
use utoipa::{PartialSchema, ToSchema};

/// Asks for one endpoint, in fal's form.
const ENDPOINT_ID: &str = "endpoint_id";

const ABOUT: &str = "Stable Diffusion 3.5 on your own machine, behind the model API of fal.ai.\n\n\
    A request is put into the queue and asked after, or run while its client waits. Paths below `/queue` are those of \
    `queue.fal.run`; paths below `/run`, and the same without it, are those of `fal.run`; the rest is what fal keeps on \
    other hosts. Of the endpoints that are served the first is shown whole; each of the others has the same calls. Ids \
    that end in `/image-to-image` start from an image, those in `/inpaint` also take a mask of what to generate anew. \
    `/api/fal/proxy` takes the calls of \
    fal's clients that are set to use a proxy. Web sockets are not shown: realtime is at `/run/ENDPOINT/realtime`, and \
    run and stream over one at `/ws/ENDPOINT`.\n\n\
    Calls need a key once there is one: `Authorization: Key …`.";

/// Groups of calls, in the order in which they are shown.
const TAGS: [(&str, &str); 7] = [
    ("queue", "Put requests into the queue, and ask after them."),
    ("run", "Run a request while its client waits."),
    ("openai", "OpenAI's image API, on the same queue. The models are at `/v1/models`."),
    ("files", "Images, and files that clients send."),
    ("access", "Tokens for programs that must not see a key, and the keys that check webhooks."),
    ("server", "Health, and these documents."),
    (
        "admin",
        "For keys of administrators, and for everybody while there are no keys. The page at `/admin` makes these calls.",
    ),
];

/// Answers with the document.
pub(crate) fn serve(api: &Api, call: &Call) -> Result<Response, ApiError> {
    let id = call.parameter(ENDPOINT_ID);
    api.documents.answer(id.as_deref(), call.links.origin(), || match &id {
        None => Ok(whole(served_endpoint::all_named(api), ORIGIN)),
        Some(id) => endpoint::document(api, ORIGIN, id),
    })
}

fn whole<'a>(served: impl Iterator<Item = ServedEndpoint<'a>>, origin: &str) -> OpenApi {
    let shown: Vec<Shown<'_>> = served
        .enumerate()
        .map(|(index, route)| Shown {
            output: wire::OutputBody::name().into_owned(),
            suffix: if index == 0 { String::new() } else { route.camel_case() },
            route,
        })
        .collect();
    let (first, others) = shown.split_at(shown.len().min(1));
    let entries = first
        .iter()
        .flat_map(|first| {
            requests::queued("/queue", first).into_iter().chain(requests::waiting("/run", first))
        })
        .chain(others.iter().flat_map(|other| {
            requests::run("/run", other).into_iter().chain([requests::submit("/queue", other)])
        }))
        .chain(openai::entries())
        .chain(files::entries())
        .chain(operator::entries())
        .chain(admin::entries());
    let info = Info::builder().title("latentd").version(env!("CARGO_PKG_VERSION")).description(Some(ABOUT));
    let mut document = document(&shown, info, origin, entries).build();
    if let Some(components) = &mut document.components {
        components.schemas.extend(openai::schemas(&shown));
        components.responses.extend([openai::refused()]);
    }
    OpenApiBuilder::from(document)
        .webhooks(Some(paths([requests::webhook()])))
        .tags(Some(TAGS.map(|(name, about)| TagBuilder::new().name(name).description(Some(about)).build())))
        .build()
}

/// What both documents have in common.
fn document(
    shown: &[Shown<'_>],
    info: InfoBuilder,
    server: &str,
    entries: impl IntoIterator<Item = Entry>,
) -> OpenApiBuilder {
    let license = License::builder().name("MIT OR Apache-2.0").identifier(Some("MIT OR Apache-2.0"));
    let mut components = Components::new();
    components.schemas.extend(inputs(shown));
    components.schemas.extend(outputs(shown));
    components.schemas.extend(schemas());
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
    let token = ApiKeyValue::with_description(crate::access::auth::TOKEN, "A token of `POST /tokens/`.");
    let upload_token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A token of `POST /storage/auth/token`, or a key."));
    [
        (KEY, SecurityScheme::ApiKey(ApiKey::Header(key))),
        (TOKEN, SecurityScheme::ApiKey(ApiKey::Query(token))),
        (UPLOAD_TOKEN, SecurityScheme::Http(upload_token.build())),
    ]
}

/// A schema and its name.
type Named = (String, RefOr<Schema>);

/// A size with sides, where one schema is enough for all endpoints.
const SIZE: &str = "ImageSize";

/// The schemas of the inputs and of their adapters. Models that generate up to another size than the first have a schema of sizes of their own.
fn inputs(shown: &[Shown<'_>]) -> Vec<Named> {
    let first = shown.first().map(|shown| shown.route.limits);
    let both = |Shown { route, .. }: &Shown<'_>| {
        let size = match first == Some(route.limits) {
            true => SIZE.to_owned(),
            false => format!("{}{SIZE}", route.camel_case()),
        };
        let input = input::schema(route, &size);
        [(size, input::size_schema(route.limits).into()), (route.input_name(), input.into())]
    };
    let (loras, controlnets, ip_adapters) = shown.first().map_or_else(Default::default, |shown| {
        (shown.route.lora_names, shown.route.controlnet_names, shown.route.ip_adapter_names)
    });
    let lora = (input::LORA.to_owned(), input::lora_schema(loras).into());
    let controlnet = (input::CONTROLNET.to_owned(), input::controlnet_schema(controlnets).into());
    let ip_adapter = (input::IP_ADAPTER.to_owned(), input::ip_adapter_schema(ip_adapters).into());
    shown.iter().flat_map(both).chain([lora, controlnet, ip_adapter]).collect()
}

/// The schemas of the outputs, which differ in their names alone.
fn outputs(shown: &[Shown<'_>]) -> Vec<Named> {
    let mut schemas = Vec::new();
    wire::OutputBody::schemas(&mut schemas);
    schemas.extend(shown.iter().map(|shown| (shown.output.clone(), wire::OutputBody::schema())));
    schemas
}

/// The schemas that entries of every endpoint refer to, by name.
fn schemas() -> Vec<Named> {
    fn add<T: ToSchema>(schemas: &mut Vec<Named>) {
        schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(schemas);
    }
    let mut schemas = vec![(operator::TOKEN_REQUEST.to_owned(), tokens::schema().into())];
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
    add::<models::ModelList>(&mut schemas);
    add::<health::Liveness>(&mut schemas);
    add::<health::Readiness>(&mut schemas);
    add::<admin_calls::requests::AdminRequests>(&mut schemas);
    add::<admin_calls::workers::AdminWorkers>(&mut schemas);
    add::<admin_calls::keys::AdminKeys>(&mut schemas);
    add::<admin_calls::keys::Revoked>(&mut schemas);
    add::<admin_calls::storage::AdminStorage>(&mut schemas);
    add::<admin_calls::Draining>(&mut schemas);
    schemas
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::{Endpoint, Served};
    use crate::routing::resolve::resolve;
    use crate::routing::table::ROUTES;
    use axum::http::Method;
    use latentd_request::Limits;
    use std::collections::BTreeSet;

    /// The operations of the document, with their methods and paths, of which each name stands for a value.
    fn operations() -> Vec<(String, Method, String)> {
        let endpoints = Endpoint::known(|_| Some(Served::published(Limits::of_model(1024), 38)));
        let ids = ["{request_id}", "{upload}"].map(|name| (name, "0190c1a0-0000-7000-8000-000000000000"));
        let values = [
            ("{model}", "mini"),
            ("{part}", "1"),
            ("{key_id}", "x"),
            ("{file}", "0190c1a0000070008000000000000000.png"),
        ];
        let fill = |path: String, (name, value): (&str, &str)| path.replace(name, value);
        let mut found = Vec::new();
        for (path, item) in whole(served_endpoint::all(&endpoints), "http://test").paths.paths {
            let path = ids.into_iter().chain(values).fold(path, fill);
            let methods = [
                (Method::GET, item.get),
                (Method::POST, item.post),
                (Method::PUT, item.put),
                (Method::DELETE, item.delete),
            ];
            let calls = methods.into_iter().filter_map(|(method, call)| Some((method, call?.operation_id?)));
            found.extend(calls.map(|(method, id)| (id, method, path.clone())));
        }
        found
    }

    #[test]
    fn every_operation_leads_to_the_route_of_its_name() {
        let operations = operations();
        for (id, method, path) in &operations {
            let found = resolve(method, "test", path).expect("a path that is served");
            let route = found.route.operation.expect("a route that is documented");
            // Those of endpoints after the first end in the endpoint's name.
            let suffix =
                id.strip_prefix(route).unwrap_or_else(|| panic!("{method} {path}: {id}, not {route}"));
            assert!(suffix.is_empty() || suffix.starts_with("StableDiffusion"), "{method} {path}: {id}");
        }
        assert!(operations.len() > 30, "{} calls", operations.len());
    }

    #[test]
    fn every_route_that_has_an_operation_is_documented() {
        let operations: BTreeSet<String> = operations().into_iter().map(|(id, ..)| id).collect();
        for operation in ROUTES.iter().filter_map(|route| route.operation) {
            assert!(operations.contains(operation), "{operation} is not in the document");
        }
    }
}
