//! The headers of a submit or run with options apart from the input.

use crate::calls::uploads::lifecycle;
use crate::output::error::ApiError;
use axum::http::HeaderMap;
use latentd_queue::queue::RequestOptions;
use std::time::Duration;

/// Both mean the time until processing starts; the newer name is first.
pub(crate) const TIMEOUTS: [&str; 2] = ["x-fal-request-start-timeout", "x-fal-request-timeout"];

/// A time to start must be longer than this many seconds.
pub(crate) const MIN_SECONDS: f64 = 0.1;

/// And no longer than this many: thirty years.
pub(crate) const MAX_SECONDS: f64 = 1e9;

pub(crate) const NO_RETRY: &str = "x-fal-no-retry";

/// `0`: do not keep the input and the output.
pub(crate) const STORE_IO: &str = "x-fal-store-io";

/// Time to fetch a result that is not kept; fal's own.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);

/// Reads the options; what cannot be read is refused by the header's name.
pub(crate) fn read(headers: &HeaderMap) -> Result<RequestOptions, ApiError> {
    let forget = forget(headers)?;
    let longest = if forget { FORGOTTEN_AFTER } else { Duration::MAX };
    let result_life = Some(lifecycle::lifetime_of_results(headers)?.unwrap_or(Duration::MAX).min(longest));
    Ok(RequestOptions {
        start_within: start_within(headers)?,
        no_retry: no_retry(headers),
        result_life: result_life.filter(|life| *life < Duration::MAX),
        forget,
    })
}

fn forget(headers: &HeaderMap) -> Result<bool, ApiError> {
    let Some(value) = headers.get(STORE_IO) else { return Ok(false) };
    match value.to_str().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "0" | "false" => Ok(true),
        "1" | "true" | "" => Ok(false),
        _ => Err(ApiError::BadRequest(format!("{STORE_IO}: expected 0 or 1"))),
    }
}

fn start_within(headers: &HeaderMap) -> Result<Option<Duration>, ApiError> {
    let Some((name, value)) = TIMEOUTS.iter().find_map(|name| Some((name, headers.get(*name)?))) else {
        return Ok(None);
    };
    let seconds = value.to_str().ok().and_then(|text| text.trim().parse::<f64>().ok());
    match seconds.filter(|seconds| *seconds > MIN_SECONDS && *seconds <= MAX_SECONDS) {
        Some(seconds) => Ok(Some(Duration::from_secs_f64(seconds))),
        None => {
            let words = format!(
                "{name}: expected a number of seconds greater than {MIN_SECONDS}, at most {MAX_SECONDS}"
            );
            Err(ApiError::BadRequest(words))
        }
    }
}

fn no_retry(headers: &HeaderMap) -> bool {
    let word = headers.get(NO_RETRY).and_then(|value| value.to_str().ok()).unwrap_or_default();
    ["1", "true", "yes"].iter().any(|yes| word.trim().eq_ignore_ascii_case(yes))
}
