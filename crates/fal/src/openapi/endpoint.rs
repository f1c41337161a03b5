//! The document of one endpoint, in the form of fal's: the queue's calls, the input and the output.

use super::requests::{self, Shown};
use crate::output::error::ApiError;
use crate::output::wire::StatusBody;
use crate::routing::served_endpoint;
use crate::routing::target::Application;
use crate::state::Api;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema, Type};
use utoipa::openapi::{Info, OpenApi, RefOr};

/// The document of an endpoint that is served here.
pub(crate) fn document(api: &Api, origin: &str, id: &str) -> Result<OpenApi, ApiError> {
    let application = Application::named(id).unwrap_or_default();
    let route = served_endpoint::find(api, &application)?;
    let metadata = json!({
        "endpointId": id,
        "category": route.task.category(),
        "documentationUrl": format!("{origin}/docs"),
    });
    let info = Info::builder()
        .title(format!("Queue OpenAPI for {id}"))
        .version("1.0.0")
        .description(Some(format!("The OpenAPI schema for the {id} queue.")))
        .extensions(Some(Extensions::from_iter([("x-fal-metadata", metadata)])));
    let shown = [Shown { output: route.output_name(), suffix: String::new(), route }];
    let entries = requests::queued("", &shown[0]);
    let mut document = super::document(&shown, info, &format!("{origin}/queue"), entries).build();
    if let Some(components) = &mut document.components {
        components.schemas.values_mut().for_each(show_order);
        if let Some(RefOr::T(Schema::Object(status))) = components.schemas.get_mut(&*StatusBody::name()) {
            status.properties.insert("logs".into(), logs().into());
        }
    }
    Ok(document)
}

/// fal's documents call the list of log lines an object, and programs are made of them.
fn logs() -> ObjectBuilder {
    let any = AdditionalProperties::FreeForm(true);
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .description(Some("The logs."))
        .additional_properties(Some(any))
}

/// fal lists the properties of an object a second time, in their order.
fn show_order(schema: &mut RefOr<Schema>) {
    if let RefOr::T(Schema::Object(object)) = schema
        && !object.properties.is_empty()
    {
        let names: Vec<Value> = object.properties.keys().map(|name| json!(name)).collect();
        let order = Extensions::from_iter([("x-fal-order-properties", names)]);
        object.extensions.get_or_insert_default().merge(order);
    }
}
