//! The error of a LoRA adapter that cannot be used, in the form of fal's errors.

use crate::output::names::{LORA_PATH, LORAS};
use crate::output::problem::{Problem, Step};
use latentd_request::{LoraFlaw, LoraProblem};
use serde_json::Value;

/// The problem of an adapter that cannot be used; `found` is `None` when the cause was erased, and then there is `message`.
pub(crate) fn problem(found: Option<LoraProblem>, message: &str) -> Problem {
    let problem = |index: Option<usize>, kind, message: &str| match index {
        None => Problem::at(&[LORAS], kind, message, &Value::Null),
        Some(index) => {
            let within = [LORAS.into(), Step::Item(index)];
            Problem::at(&[LORA_PATH], kind, message, &Value::Null).within(&within)
        }
    };
    let Some(LoraProblem { index, flaw, message }) = found else {
        return problem(None, "value_error", message);
    };
    match flaw {
        LoraFlaw::Unreachable => problem(index, "file_download_error", &message),
        LoraFlaw::TooManyBytes(max) => problem(index, "file_too_large", &message).with("max_size", max),
        LoraFlaw::Unusable => problem(index, "value_error", &message),
    }
}
