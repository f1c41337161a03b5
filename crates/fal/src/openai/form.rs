//! The form (`multipart/form-data`) of a call that edits an image: its fields as JSON, its image and its mask.

use crate::input::body;
use crate::output::error::ApiError;
use crate::output::problem::Problem;
use crate::server::memory::{ConnectionMemory, Reservation};
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream;
use latentd_request::{MAX_INLINE_BYTES, Source};
use multer::Multipart;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::convert::Infallible;

/// Parts of a form at most. A valid one has some twenty.
const MAX_PARTS: usize = 64;

/// The field that holds the image. Clients that could send several write `image[]` or `image[0]`.
const IMAGE: &str = "image";

/// The field that holds the mask.
const MASK: &str = "mask";

/// A form that was read.
pub(super) struct Form {
    /// The fields that are text.
    pub(super) fields: Map<String, Value>,
    /// The image, if there is one.
    pub(super) image: Option<Source>,
    /// The mask, if there is one.
    pub(super) mask: Option<Source>,
    /// The memory that the form holds.
    pub(super) memory: Reservation,
}

/// Reads a form of at most so many bytes.
pub(super) async fn read(
    memory: &ConnectionMemory,
    headers: &HeaderMap,
    body: Body,
    max: usize,
) -> Result<Form, ApiError> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let boundary = multer::parse_boundary(content_type.unwrap_or_default()).map_err(|_| {
        let words = "the body must be a form with a file and a prompt: send multipart/form-data with the fields \
                     image and prompt, not JSON, URLs or ids of files";
        ApiError::BadRequest(words.into())
    })?;
    let (bytes, memory) = {
        let (bytes, mut reservation) = body::read(memory, body, max).await?;
        memory.handle(&mut reservation, bytes.len()).await;
        (bytes, reservation)
    };
    let Parts { mut fields, images, mask } = parts(bytes, boundary).await?;
    let image = match images.as_slice() {
        [] => None,
        [image] => Some(file(&mut fields, IMAGE, image)?),
        several => {
            let words =
                format!("{} images were sent, and this model edits one: send a call for each", several.len());
            return Err(invalid(IMAGE, "too_many_images", words));
        }
    };
    let mask = mask.map(|mask| file(&mut fields, MASK, &mask)).transpose()?;
    Ok(Form { fields, image, mask, memory })
}

/// A file of the form, as the source that a request has.
fn file(fields: &mut Map<String, Value>, name: &'static str, bytes: &Bytes) -> Result<Source, ApiError> {
    if bytes.is_empty() {
        return Err(invalid(name, "missing", "The file is empty".into()));
    }
    if ["https:", "http:", "data:"].iter().any(|scheme| bytes.starts_with(scheme.as_bytes())) {
        let words = "Input should be a file: send the bytes of the image in place of its URL";
        return Err(invalid(name, "value_error", words.into()));
    }
    if bytes.len() as u64 > MAX_INLINE_BYTES {
        let words = format!("The file is larger than {MAX_INLINE_BYTES} bytes");
        return Err(invalid(name, "file_too_large", words));
    }
    // An idempotency key stands for the input, of which this is a part.
    fields.insert(name.into(), hex::encode(Sha256::digest(bytes)).into());
    Ok(Source::Inline(STANDARD.encode(bytes)))
}

/// What a form consists of.
#[derive(Default)]
struct Parts {
    fields: Map<String, Value>,
    images: Vec<Bytes>,
    mask: Option<Bytes>,
}

/// The text fields and the files. Of a field that is there twice, the last counts; an empty one is as good as none, since a
/// form has no null.
async fn parts(bytes: Bytes, boundary: String) -> Result<Parts, ApiError> {
    let mut form = Multipart::new(stream::iter([Ok::<_, Infallible>(bytes)]), boundary);
    let mut parts = Parts::default();
    for count in 0.. {
        let Some(part) = form.next_field().await.map_err(broken)? else { break };
        if count == MAX_PARTS {
            return Err(ApiError::BadRequest(format!("the form has more than {MAX_PARTS} parts")));
        }
        let Some(name) = part.name().map(str::to_owned) else {
            return Err(ApiError::BadRequest("a part of the form has no name".into()));
        };
        let is_file = part.file_name().is_some();
        let content = part.bytes().await.map_err(broken)?;
        if without_index(&name) == IMAGE {
            parts.images.push(content);
        } else if name == MASK && is_file {
            parts.mask = Some(content);
        } else if is_file {
            parts.fields.insert(name, "a file".into());
        } else {
            let text = String::from_utf8(content.into())
                .map_err(|_| ApiError::BadRequest(format!("the field {name:?} of the form is not UTF-8")))?;
            if !text.is_empty() {
                parts.fields.insert(name, text.into());
            }
        }
    }
    Ok(parts)
}

/// `image` of `image[]` and `image[0]`, `svg` of `svg[model]`.
pub(super) fn without_index(name: &str) -> &str {
    name.split_once('[').map_or(name, |(name, _)| name)
}

fn broken(error: multer::Error) -> ApiError {
    ApiError::BadRequest(format!("the form cannot be read: {error}"))
}

fn invalid(field: &str, kind: &'static str, words: String) -> ApiError {
    ApiError::Invalid(vec![Problem::at(&[field], kind, words, &Value::Null)])
}
