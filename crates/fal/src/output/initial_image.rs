//! The error of an image of the input that cannot be used, as fal words it.

use crate::output::problem::Problem;
use latentd_request::{Flaw, IMAGE_FORMATS};
use serde_json::{Value, json};

/// fal's problem for the image of this field; `None` when the cause was erased.
pub(crate) fn problem(field: &[&str], flaw: Option<Flaw>, message: &str) -> Problem {
    let problem = |kind| Problem::at(field, kind, message, &Value::Null);
    match flaw {
        None | Some(Flaw::Unreachable) => problem("file_download_error"),
        Some(Flaw::TooManyBytes(max)) => problem("file_too_large").with("max_size", max),
        Some(Flaw::Unreadable) => problem("image_load_error"),
        Some(Flaw::TooLarge(max)) => {
            problem("image_too_large").with("max_height", max).with("max_width", max)
        }
        Some(Flaw::TooManyPixels(max)) => problem("image_too_large").with("max_pixels", max),
        Some(Flaw::Unsupported) => {
            problem("unsupported_image_format").with("supported_formats", json!(IMAGE_FORMATS))
        }
    }
}
