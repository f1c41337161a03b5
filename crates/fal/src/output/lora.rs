//! The error of a LoRA adapter, a ControlNet or an IP-Adapter that cannot be used, in the form of fal's errors.

use crate::output::names::{ADAPTER_PATH, LORAS};
use crate::output::problem::{Problem, Step};
use latentd_request::{AdapterFlaw, AdapterProblem};
use serde_json::Value;

/// The problem of a LoRA adapter that cannot be used; `found` is `None` when the cause was erased, and then there is
/// `message`.
pub(crate) fn problem(found: Option<AdapterProblem>, message: &str) -> Problem {
    let index = found.as_ref().and_then(|found| found.index);
    of_flaw(found, message, |kind, message| match index {
        None => Problem::at(&[LORAS], kind, message, &Value::Null),
        Some(index) => {
            let within = [LORAS.into(), Step::Item(index)];
            Problem::at(&[ADAPTER_PATH], kind, message, &Value::Null).within(&within)
        }
    })
}

/// The same of another network, whose field this is.
pub(crate) fn network_problem(field: &[&str], found: Option<AdapterProblem>, message: &str) -> Problem {
    of_flaw(found, message, |kind, message| Problem::at(field, kind, message, &Value::Null))
}

fn of_flaw(
    found: Option<AdapterProblem>,
    message: &str,
    problem: impl Fn(&'static str, &str) -> Problem,
) -> Problem {
    let Some(AdapterProblem { flaw, message, .. }) = found else { return problem("value_error", message) };
    match flaw {
        AdapterFlaw::Unreachable => problem("file_download_error", &message),
        AdapterFlaw::TooManyBytes(max) => problem("file_too_large", &message).with("max_size", max),
        AdapterFlaw::Unusable => problem("value_error", &message),
    }
}
