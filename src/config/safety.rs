//! `--safety-checker` and its like: what looks for unsafe pictures.

use super::{ConfigError, refuse};
use crate::args::SafetyArgs;
use latentd_models::{SafetyOptions, SafetySource};
use std::path::Path;

/// What the flags ask for; an empty value, which a variable may have, is `auto`.
pub(crate) fn parse(args: &SafetyArgs) -> Result<SafetyOptions, ConfigError> {
    let SafetyArgs { safety_checker, safety_threshold: threshold, force_safety_checker: forced } = args;
    if !(0.0..=1.0).contains(threshold) {
        return refuse(format!("--safety-threshold {threshold}: give a probability, 0 to 1"));
    }
    let source = match safety_checker.as_str() {
        "auto" | "" => SafetySource::Own,
        "none" if *forced => {
            return refuse("--force-safety-checker needs a checker, and --safety-checker is none".into());
        }
        "none" => SafetySource::Nobody,
        text => directory(text)?,
    };
    Ok(SafetyOptions { source, threshold: Some(*threshold), forced: *forced })
}

fn directory(text: &str) -> Result<SafetySource, ConfigError> {
    if !Path::new(text).is_dir() {
        return refuse(format!(
            "--safety-checker {text}: give `auto`, `none` or the directory of a classifier, and there is no such directory"
        ));
    }
    match std::path::absolute(text) {
        Ok(path) => Ok(SafetySource::Directory(path)),
        Err(error) => refuse(format!("--safety-checker {text}: {error}")),
    }
}

/// The flags that [`parse`] reads as `options`, for another process.
pub(crate) fn flags(options: &SafetyOptions) -> Vec<String> {
    let SafetyOptions { source, threshold, forced } = options;
    let source = match source {
        SafetySource::Own => "auto".to_owned(),
        SafetySource::Nobody => "none".to_owned(),
        SafetySource::Directory(path) => path.display().to_string(),
    };
    let mut flags = vec!["--safety-checker".to_owned(), source];
    flags.extend(threshold.iter().flat_map(|value| ["--safety-threshold".to_owned(), value.to_string()]));
    flags.extend(forced.then(|| "--force-safety-checker".to_owned()));
    flags
}

/// What to tell whoever expected a checker and has none.
pub(crate) fn warning(options: &SafetyOptions, has_checker: bool) -> Option<&'static str> {
    (!has_checker && options.source == SafetySource::Own).then_some(
        "no safety checker: the model has none of its own, so no picture is flagged; give --safety-checker DIR, or `none` to be content with that",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(checker: &str, threshold: f64, forced: bool) -> SafetyArgs {
        SafetyArgs {
            safety_checker: checker.into(),
            safety_threshold: threshold,
            force_safety_checker: forced,
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (args, words) in [
            (args("auto", 1.5, false), "--safety-threshold 1.5: give"),
            (args("auto", -0.1, false), "--safety-threshold -0.1: give"),
            (args("auto", f64::NAN, false), "--safety-threshold NaN: give"),
            (args("none", 0.5, true), "--force-safety-checker needs"),
            (args("no/such/folder", 0.5, false), "--safety-checker no/such/folder: give"),
        ] {
            let refusal = parse(&args).expect_err("a refusal").to_string();
            assert!(refusal.contains(words), "{refusal}");
        }
    }

    #[test]
    fn flags_say_what_was_read() {
        let folder = tempfile::tempdir().expect("a directory");
        let folder = folder.path().to_str().expect("UTF-8");
        assert_eq!(
            flags(&parse(&args("", 0.5, false)).expect("auto")),
            ["--safety-checker", "auto", "--safety-threshold", "0.5"]
        );
        assert_eq!(
            flags(&parse(&args(folder, 0.25, true)).expect("a directory")),
            ["--safety-checker", folder, "--safety-threshold", "0.25", "--force-safety-checker"]
        );
        assert_eq!(flags(&parse(&args("none", 1.0, false)).expect("none"))[1], "none");
    }

    #[test]
    fn only_who_did_not_choose_is_warned() {
        let warned =
            |checker, has| warning(&parse(&args(checker, 0.5, false)).expect("options"), has).is_some();
        assert!(warned("auto", false) && !warned("auto", true) && !warned("none", false));
    }
}
