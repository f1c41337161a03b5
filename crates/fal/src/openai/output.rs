//! The bodies of responses with images, as OpenAI's clients know them.

use crate::endpoint::Task;
use crate::output::error::ERASED;
use crate::output::links::Links;
use crate::output::openai_error::{ErrorBody, Refused};
use axum::http::StatusCode;
use latentd_queue::queue::Outcome;
use latentd_request::{Output, OutputFormat, OutputImage, Place, Seed};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// What a call asks of its response.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) task: Task,
    /// File format of the images.
    pub(crate) format: OutputFormat,
    /// The word for the quality.
    pub(crate) quality: &'static str,
    /// The size that was asked for.
    pub(crate) size: String,
    /// The name of the end user.
    pub(crate) safety_identifier: Option<String>,
}

/// Images that were generated or edited.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ImagesResponse)]
pub(crate) struct ImagesBody {
    /// When the response was made, in seconds since 1970.
    created: i64,
    /// The images, in order, without those that were found unsafe.
    data: Vec<ImageBody>,
    /// `opaque`.
    background: &'static str,
    /// `png`, `jpeg` or `webp`.
    output_format: &'static str,
    /// `low`, `medium`, `high` or `max`.
    quality: &'static str,
    /// Width and height, such as `1024x1024`.
    size: String,
    /// The seed that was used: the call's own, or the one that was drawn for it. Not one of OpenAI's.
    #[schema(value_type = i64)]
    seed: Seed,
    /// The name of the end user that the call gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    safety_identifier: Option<String>,
}

/// One image.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OpenAiImage)]
pub(crate) struct ImageBody {
    /// The file in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    b64_json: Option<String>,
    /// Where the file is, for calls with `response_format` `url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    url: Option<String>,
}

impl Wanted {
    /// The body of the response to a request that ended.
    pub(crate) fn body(&self, links: &Links, created: i64, outcome: Outcome) -> Result<ImagesBody, Refused> {
        let output = self.output(outcome)?;
        let size = output.images.first().map(size).unwrap_or_default();
        let image = |image: OutputImage| match image.place {
            Place::Stored(key) => ImageBody { b64_json: None, url: Some(links.file(&key)) },
            Place::Inline(base64) => ImageBody { b64_json: Some(base64), url: None },
        };
        Ok(ImagesBody {
            created,
            data: output.images.into_iter().map(image).collect(),
            background: OPAQUE,
            output_format: self.format(),
            quality: self.quality,
            size,
            seed: output.seed,
            safety_identifier: self.safety_identifier.clone(),
        })
    }

    /// The images that were generated, and the seed. Unsafe ones are left out; where no other is left, that is the error.
    pub(super) fn output(&self, outcome: Outcome) -> Result<Output, Refused> {
        let value: Value = match outcome {
            Outcome::Output(value) => value,
            Outcome::Failed(failure) => return Err(Refused::failure(failure)),
            Outcome::Erased => return Err(Refused::new(StatusCode::NOT_FOUND, ERASED.into())),
        };
        let mut output: Output = serde_json::from_value(value).map_err(|error| {
            tracing::error!(%error, "a stored output cannot be read");
            Refused::internal()
        })?;
        let is_unsafe = |at: usize| output.flagged.get(at) == Some(&true);
        let safe = output.images.into_iter().enumerate().filter(|(at, _)| !is_unsafe(*at));
        output.images = safe.map(|(_, image)| image).collect();
        if output.images.is_empty() { Err(Refused::unsafe_content()) } else { Ok(output) }
    }

    /// The last part of a response whose status was sent already.
    pub(crate) fn late(&self, links: &Links, created: i64, outcome: Outcome) -> Result<String, ErrorBody> {
        let body = self.body(links, created, outcome).map_err(|refused| refused.body)?;
        serde_json::to_string(&body).map_err(|_| Refused::internal().body)
    }

    /// The word for the file format.
    pub(super) fn format(&self) -> &'static str {
        match self.format {
            OutputFormat::Jpeg => "jpeg",
            OutputFormat::Png => "png",
            OutputFormat::WebP => "webp",
        }
    }
}

/// Images have no transparency.
pub(super) const OPAQUE: &str = "opaque";

/// The size of an image in OpenAI's form.
pub(super) fn size(image: &OutputImage) -> String {
    format!("{}x{}", image.width, image.height)
}
