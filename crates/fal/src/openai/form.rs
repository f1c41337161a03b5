//! The form (`multipart/form-data`) of a call that edits an image: its fields as JSON, and its image.

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

/// Fields that hold the image. Clients that could send several write `image[]`.
const IMAGE: [&str; 3] = ["image", "image[]", "image[0]"];

/// A form that was read.
pub(super) struct Form {
    /// The fields that are text.
    pub(super) fields: Map<String, Value>,
    /// The image, if there is one.
    pub(super) image: Option<Source>,
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
        ApiError::BadRequest("the body must be multipart/form-data with an image and a prompt".into())
    })?;
    let (bytes, mut memory) = {
        let (bytes, mut reservation) = body::read(memory, body, max).await?;
        memory.handle(&mut reservation, bytes.len()).await;
        (bytes, reservation)
    };
    let (fields, images) = parts(bytes, boundary).await?;
    let mut form = Form { fields, image: None, memory: std::mem::take(&mut memory) };
    match images.as_slice() {
        [] => {}
        [image] => form.add_image(image)?,
        several => {
            let words = format!("{} images were sent: this server edits one at a time", several.len());
            return Err(invalid("too_many_images", words));
        }
    }
    Ok(form)
}

impl Form {
    fn add_image(&mut self, image: &Bytes) -> Result<(), ApiError> {
        if image.is_empty() {
            return Err(invalid("missing", "The file is empty".into()));
        }
        if image.len() as u64 > MAX_INLINE_BYTES {
            return Err(invalid(
                "file_too_large",
                format!("The file is larger than {MAX_INLINE_BYTES} bytes"),
            ));
        }
        // An idempotency key stands for the input, of which this is a part.
        self.fields.insert(IMAGE[0].into(), hex::encode(Sha256::digest(image)).into());
        self.image = Some(Source::Inline(STANDARD.encode(image)));
        Ok(())
    }
}

/// The text fields and the images. Of a field that is there twice, the last counts; an empty one is as good as none, since a
/// form has no null.
async fn parts(bytes: Bytes, boundary: String) -> Result<(Map<String, Value>, Vec<Bytes>), ApiError> {
    let mut form = Multipart::new(stream::iter([Ok::<_, Infallible>(bytes)]), boundary);
    let (mut fields, mut images) = (Map::new(), Vec::new());
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
        if IMAGE.contains(&name.as_str()) {
            images.push(content);
        } else if is_file {
            fields.insert(name, "a file".into());
        } else {
            let text = String::from_utf8(content.into())
                .map_err(|_| ApiError::BadRequest(format!("the field {name:?} of the form is not UTF-8")))?;
            if !text.is_empty() {
                fields.insert(name, text.into());
            }
        }
    }
    Ok((fields, images))
}

fn broken(error: multer::Error) -> ApiError {
    ApiError::BadRequest(format!("the form cannot be read: {error}"))
}

fn invalid(kind: &'static str, words: String) -> ApiError {
    ApiError::Invalid(vec![Problem::at(&[IMAGE[0]], kind, words, &Value::Null)])
}
