//! The flags that say how long finished requests and clients' files are kept, and how much of them.

use super::{ConfigError, memory, refuse};
use crate::args::RetentionArgs;
use crate::queue::Keep;
use jiff::{Span, SpanRelativeTo};
use std::time::Duration;

const RESULTS: &str = "--keep-results";
const INPUTS: &str = "--keep-inputs";
const LOGS: &str = "--keep-logs";

/// How long results and inputs are kept where no flag says it.
const DEFAULT: Duration = days(365);
const DEFAULT_LOGS: Duration = days(14);

pub(super) fn parse(args: &RetentionArgs) -> Result<Keep, ConfigError> {
    let RetentionArgs {
        keep_requests,
        keep_results,
        keep_inputs,
        keep_logs,
        max_storage,
        keep_days,
        keep_log_days,
    } = args;
    let results = time(RESULTS, keep_results)?;
    let inputs = time(INPUTS, keep_inputs)?;
    let logs = time(LOGS, keep_logs)?;
    exclude("--keep-days", *keep_days, &[(RESULTS, results), (INPUTS, inputs)])?;
    exclude("--keep-log-days", *keep_log_days, &[(LOGS, logs)])?;
    let by_days = |given: &Option<u64>, default| match given {
        None => Some(default),
        Some(0) => None,
        Some(count) => Some(days(*count)),
    };
    let whole = by_days(keep_days, DEFAULT);
    Ok(Keep {
        requests: (*keep_requests > 0).then_some(*keep_requests),
        results: results.unwrap_or(whole),
        inputs: inputs.unwrap_or(whole),
        uploads: inputs.flatten(),
        logs: logs.unwrap_or(by_days(keep_log_days, DEFAULT_LOGS)),
        bytes: bytes(max_storage)?,
    })
}

const fn days(count: u64) -> Duration {
    Duration::from_secs(count.saturating_mul(86_400))
}

/// Refuses an older flag beside those that replaced it.
fn exclude(
    old: &str,
    given: Option<u64>,
    new: &[(&str, Option<Option<Duration>>)],
) -> Result<(), ConfigError> {
    match new.iter().find(|(_, time)| given.is_some() && time.is_some()) {
        None => Ok(()),
        Some((name, _)) => refuse(format!("{old} is an older form of {name}: give one of the two")),
    }
}

/// The time of a flag, if it is given. `Some(None)`: no limit.
fn time(flag: &str, text: &Option<String>) -> Result<Option<Option<Duration>>, ConfigError> {
    let Some(text) = text.as_deref().map(str::trim) else { return Ok(None) };
    if text == "forever" {
        return Ok(Some(None));
    }
    let span = text.parse().and_then(|span: Span| span.to_duration(SpanRelativeTo::days_are_24_hours()));
    let time = span.ok().and_then(|span| Duration::try_from(span).ok());
    match time.filter(|time| !time.is_zero()) {
        Some(time) => Ok(Some(Some(time))),
        None => refuse(format!("{flag} {text}: give a time such as 30d or 12h, or `forever`")),
    }
}

fn bytes(text: &Option<String>) -> Result<Option<u64>, ConfigError> {
    const FLAG: &str = "--max-storage";
    let Some(text) = text.as_deref() else { return Ok(None) };
    match memory::size(FLAG, text)? {
        0 => refuse(format!("{FLAG} {text}: give a size such as 200GiB")),
        bytes => Ok(Some(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        args: RetentionArgs,
    }

    fn keep(flags: &[&str]) -> Result<Keep, String> {
        let args = Flags::parse_from(["test"].iter().chain(flags)).args;
        parse(&args).map_err(|error| error.0)
    }

    #[test]
    fn older_flags_mean_what_they_meant() {
        let by_default = Keep {
            requests: Some(100_000),
            results: Some(days(365)),
            inputs: Some(days(365)),
            uploads: None,
            logs: Some(days(14)),
            bytes: None,
        };
        assert_eq!(keep(&[]), Ok(by_default));
        let old = keep(&["--keep-requests=0", "--keep-days=30", "--keep-log-days=7"]);
        let (results, inputs, logs) = (Some(days(30)), Some(days(30)), Some(days(7)));
        assert_eq!(old, Ok(Keep { requests: None, results, inputs, logs, ..by_default }));
        let none = keep(&["--keep-days=0", "--keep-log-days=0"]);
        assert_eq!(none, Ok(Keep { results: None, inputs: None, logs: None, ..by_default }));
    }

    #[test]
    fn times_and_sizes_are_read_with_their_units() {
        let new =
            keep(&["--keep-results=12h", "--keep-inputs=1w 2d", "--keep-logs=forever", "--max-storage=2GiB"]);
        let new = new.expect("flags");
        assert_eq!((new.results, new.inputs, new.logs), (Some(days(1) / 2), Some(days(9)), None));
        assert_eq!((new.uploads, new.bytes), (Some(days(9)), Some(2 << 30)));
        assert_eq!(keep(&["--keep-inputs=forever"]).expect("flags").uploads, None);
        for wrong in ["0s", "0", "-1d", "1mo", "soon", "30"] {
            let refusal = keep(&[&format!("--keep-results={wrong}")]).expect_err(wrong);
            assert!(refusal.contains("30d"), "{refusal}");
        }
        for wrong in ["0", "much"] {
            assert!(
                keep(&[&format!("--max-storage={wrong}")]).is_err_and(|why| why.contains("--max-storage"))
            );
        }
    }

    #[test]
    fn an_older_flag_beside_the_one_that_replaced_it_is_refused() {
        for (old, new) in [
            ("--keep-days=1", "--keep-results=1d"),
            ("--keep-days=0", "--keep-inputs=forever"),
            ("--keep-log-days=1", "--keep-logs=1d"),
        ] {
            let refusal = keep(&[old, new]).expect_err("both");
            let names = [old, new].map(|flag| flag.split('=').next().unwrap_or_default());
            assert!(names.iter().all(|name| refusal.contains(name)), "{refusal}");
        }
        keep(&["--keep-days=1", "--keep-logs=1d"]).expect("they say different things");
    }
}
