//! `size`: `WIDTHxHEIGHT` or `auto`, checked against the limits of the model that answers.

use crate::endpoint::Task;
use crate::input::field::of_type;
use crate::input::fields::Fields;
use crate::output::problem::Problem;
use latentd_request::Limits;
use serde_json::Value;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{Schema, Type};

/// Of the field.
pub(crate) const NAME: &str = "size";

const AUTO: &str = "auto";

/// The size for which the published models were trained.
const DEFAULT: (usize, usize) = (1024, 1024);

/// The schema of the field.
pub(crate) fn schema(task: Task) -> RefOr<Schema> {
    let auto = match task {
        Task::TextToImage => "1024x1024",
        Task::ImageToImage | Task::Inpaint => "that of the image, or as much as the model can generate of it",
    };
    let about = format!("Width and height in pixels, such as `1024x768`; `auto` is {auto}.");
    let pattern = format!("^({AUTO}|[1-9][0-9]{{0,4}}x[1-9][0-9]{{0,4}})$");
    of_type(Type::String, &about).default(Some(AUTO.into())).pattern(Some(pattern)).into()
}

/// The size of a generated image where none is asked for.
pub(crate) fn default(limits: &Limits) -> (usize, usize) {
    match limits.check(DEFAULT.0, DEFAULT.1) {
        Ok(()) => DEFAULT,
        Err(_) => (limits.max_side, limits.max_side),
    }
}

/// Width and height, if they are asked for.
pub(crate) fn read(fields: &mut Fields<'_>, limits: &Limits) -> Option<(usize, usize)> {
    let value = fields.value(NAME)?;
    let refuse = |fields: &mut Fields<'_>, kind: &'static str, words: String| {
        fields.refuse(Problem::at(&[NAME], kind, words, value));
        Some((0, 0))
    };
    let Value::String(text) = value else {
        return refuse(fields, "string_type", "Input should be a valid string".into());
    };
    if text == AUTO {
        return None;
    }
    let Some((width, height)) = parse(text) else {
        return refuse(fields, "value_error", "Input should be WIDTHxHEIGHT in pixels, or auto".into());
    };
    match limits.check(width, height) {
        Ok(()) => Some((width, height)),
        Err(beyond) => {
            let words = format!(
                "{text}: Input should be less than or equal to {}, {}",
                beyond.limit(),
                beyond.what()
            );
            refuse(fields, "less_than_equal", words)
        }
    }
}

/// Two numbers of pixels, each with digits alone.
fn parse(text: &str) -> Option<(usize, usize)> {
    let (width, height) = text.split_once('x')?;
    let side = |digits: &str| {
        let is_number = (1..=5).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|side| is_number && *side > 0)
    };
    Some((side(width)?, side(height)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_two_numbers_of_pixels() {
        for (text, size) in [("1024x768", (1024, 768)), ("1x99999", (1, 99_999)), ("0640x480", (640, 480))] {
            assert_eq!(parse(text), Some(size), "{text}");
        }
        for text in [
            "",
            "x",
            "1024",
            "1024x",
            "x1024",
            "0x5",
            "5x0",
            "-1x5",
            "+1x5",
            "1.5x5",
            "1 x5",
            "1024X768",
            "5x5x5",
            "100000x1",
            "99999999999999999999x1",
            "１x１",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
