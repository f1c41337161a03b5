//! The documents of endpoints beside fal's own, field by field. `fal/*.openapi.json` are those of fal, without their
//! sentences; every place where ours says something else is listed here with the reason.

use crate::support::Server;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Where the documents differ: the beginning of a place, and why. A row that is not needed fails the test. `{Name}` is
/// the endpoint in the names of schemas, `{id}` its id in paths.
type Differences = &'static [(&'static str, &'static str)];

const DIFFERENCES: Differences = &[
    ("openapi", "fal writes the types of 3.1 under the number of 3.0"),
    ("servers", "this server"),
    ("info/x-fal-metadata/documentationUrl", "this server's page"),
    ("info/x-fal-metadata/playgroundUrl", "fal's site"),
    ("components/schemas/{Name}Input/properties/image_offset", "our own: one image of a batch alone"),
    ("components/schemas/{Name}Input/properties/skip_", "our own: skip-layer guidance"),
    ("components/schemas/{Name}Input/properties/prompt/maxLength", "fal has one too and does not say"),
    ("components/schemas/{Name}Input/properties/negative_prompt/maxLength", "as for the prompt"),
    (
        "components/schemas/{Name}Input/x-fal-order-properties",
        "ours are in one order, with what is supported",
    ),
    ("components/schemas/ImageSize/properties/height/maximum", "the model's limit"),
    ("components/schemas/ImageSize/properties/width/maximum", "the model's limit"),
    ("components/schemas/Image/properties/height/minimum", "not negative"),
    ("components/schemas/Image/properties/width/minimum", "not negative"),
    ("components/schemas/Image/properties/content_type", "always there, so without a default and never null"),
    ("components/schemas/Image/required", "the type is always there"),
    ("components/schemas/QueueStatus/properties/error", "why a request failed, which fal has too"),
    ("components/schemas/QueueStatus/properties/metrics/additionalProperties", "open where it says nothing"),
    ("components/schemas/QueueStatus/properties/preview", "our own, where it was asked for"),
    ("components/schemas/QueueStatus/properties/queue_position/minimum", "not negative"),
    ("components/schemas/QueueStatus/x-fal-order-properties", "fal has none for this schema"),
    ("components/schemas/{Name}Output/properties/timings/propertyNames", "what JSON has anyway"),
    ("components/schemas/QueueStatus/required", "the URLs, the logs and the metrics are always there"),
    ("paths/{id}/post/responses/200", "a status with more in it"),
    (
        "paths/{id}~requests~{request_id}~cancel/put/responses/200",
        "`{status}` beside `{success}`, which fal's clients expect",
    ),
];

const OF_LARGE: Differences = &[
    (
        "components/schemas/IPAdapter/properties/mask_",
        "no IP-Adapter of this model has masks, nor do diffusers' have any",
    ),
    ("components/schemas/IPAdapter/x-fal-order-properties", "likewise"),
    ("components/schemas/IPAdapter/properties/scale/m", "fal has none"),
    ("components/schemas/{Name}Input/properties/loras/maxItems", "fal has none"),
    ("components/schemas/{Name}Input/properties/seed/anyOf/0/m", "64 bits are kept, fal does not say"),
];

const OF_MEDIUM: Differences = &[
    ("components/schemas/{Name}Input/properties/loras", "as fal's large model has them"),
    ("components/schemas/{Name}Input/properties/controlnet", "as fal's large model has it"),
    ("components/schemas/{Name}Input/properties/ip_adapter", "as fal's large model has it"),
    ("components/schemas/{Name}Input/properties/seed", "may be null, as fal's large model has it; 64 bits"),
    (
        "components/schemas/{Name}Input/properties/image_size/anyOf/2",
        "may be null, as fal's large model has it",
    ),
    (
        "components/schemas/{Name}Input/properties/image_size/default",
        "said in words, as fal's large model has it",
    ),
];

/// Words that change no value.
const ANNOTATIONS: &[&str] = &["description", "examples", "example", "format"];

#[tokio::test]
async fn the_document_of_the_large_model_is_that_of_fal() {
    let fals = include_str!("fal/sd35-large.openapi.json");
    compare("fal-ai/stable-diffusion-v35-large", "StableDiffusionV35Large", fals, OF_LARGE).await;
}

#[tokio::test]
async fn the_document_of_the_medium_model_is_that_of_fal() {
    let fals = include_str!("fal/sd35-medium.openapi.json");
    compare("fal-ai/stable-diffusion-v35-medium", "StableDiffusionV35Medium", fals, OF_MEDIUM).await;
}

async fn compare(id: &str, name: &str, fals: &str, more: Differences) {
    let server = Server::start().await;
    let ours = server.get(&format!("/api/openapi/queue/openapi.json?endpoint_id={id}")).await.json();
    let fals: Value = serde_json::from_str(fals).expect("fal's document is JSON");
    let path = format!("/{id}").replace('/', "~");
    let place = |row: &str| row.replace("{Name}", name).replace("{id}", &path);
    let rows: Vec<_> = DIFFERENCES.iter().chain(more).map(|(row, why)| (place(row), why)).collect();
    let known: BTreeSet<&String> =
        fals["components"]["schemas"].as_object().expect("schemas").keys().collect();
    let (ours, fals) = (leaves(&ours), leaves(&fals));
    // Our calls are documented further than fal's, and we have schemas of our own; additions to fal's schemas are listed.
    let is_fals_schema = |place: &str| {
        let schema = place.strip_prefix("components/schemas/").and_then(|rest| rest.split('/').next());
        schema.is_some_and(|schema| known.contains(&schema.to_owned()))
    };
    let mut places: BTreeSet<&String> = fals.keys().collect();
    places.extend(ours.keys().filter(|place| is_fals_schema(place)));
    assert!(places.len() > 100, "{} places", places.len());
    let differing: Vec<&&String> =
        places.iter().filter(|place| ours.get(**place) != fals.get(**place)).collect();
    let is_listed = |place: &str| rows.iter().any(|(row, _)| place.starts_with(row));
    let unlisted: Vec<String> = differing
        .iter()
        .filter(|place| !is_listed(place))
        .map(|place| format!("{place}: fal says {:?}, we say {:?}", fals.get(**place), ours.get(**place)))
        .collect();
    assert!(unlisted.is_empty(), "{unlisted:#?}");
    for (row, why) in &rows {
        assert!(differing.iter().any(|place| place.starts_with(row)), "{row} ({why}) does not differ");
    }
}

/// Every plain value by its place. Parameters go by their names, and so do the pieces of a path.
fn leaves(document: &Value) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    walk("", document, &mut found);
    found
}

fn walk(place: &str, value: &Value, found: &mut BTreeMap<String, Value>) {
    let below = |name: &str| match place {
        "" => name.to_owned(),
        _ => format!("{place}/{}", name.replace('/', "~")),
    };
    let is_list_of_words = |list: &[Value]| list.iter().all(Value::is_string);
    match value {
        Value::Object(map) => {
            for (name, value) in map.iter().filter(|(name, value)| says_something(place, name, value)) {
                walk(&below(name), value, found);
            }
        }
        Value::Array(list) if place.ends_with("/parameters") => {
            let by_name: Map<String, Value> = list
                .iter()
                .map(|parameter| (parameter["name"].as_str().expect("a name").to_owned(), parameter.clone()))
                .collect();
            walk(place, &by_name.into(), found);
        }
        Value::Array(list) if place.ends_with("/required") => {
            let names: BTreeSet<&str> = list.iter().filter_map(Value::as_str).collect();
            found.insert(place.to_owned(), names.into_iter().collect());
        }
        Value::Array(list) if !is_list_of_words(list) => {
            for (index, value) in list.iter().enumerate() {
                walk(&below(&index.to_string()), value, found);
            }
        }
        // 1 and 1.0 are the same number.
        Value::Number(number) => {
            found.insert(place.to_owned(), number.as_f64().into());
        }
        _ => {
            found.insert(place.to_owned(), value.clone());
        }
    }
}

/// Sentences say nothing that a program reads, nor do the titles of properties.
fn says_something(place: &str, name: &str, value: &Value) -> bool {
    let is_property = place.ends_with("/properties") || place.ends_with("/parameters");
    let is_title = name == "title" && value.is_string() && place.contains("/properties/");
    is_property || !(ANNOTATIONS.contains(&name) || is_title)
}
