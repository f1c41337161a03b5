//! `--safety-checker` and its thresholds.

use super::{ConfigError, refuse};
use crate::args::SafetyArgs;
use latentd_models::ClassifierManifest;
use std::path::{Path, PathBuf};

/// The safety checker and its threshold; [`crate::checker`] finds its files.
#[derive(Debug, Clone, PartialEq)]
pub struct SafetyConfig {
    /// What looks.
    pub checker: Checker,
    /// The probability above which an image is unsafe, if one was given.
    pub threshold: Option<f64>,
    /// Requests have no say.
    pub forced: bool,
}

/// A safety checker as flags name it.
#[derive(Debug, Clone, PartialEq)]
pub enum Checker {
    /// The model's own, or else the usual published one.
    Auto,
    /// A published one.
    Published(&'static ClassifierManifest),
    /// None.
    Nobody,
    /// One in this directory.
    Directory(PathBuf),
}

/// What the flags ask for.
pub(crate) fn parse(args: &SafetyArgs) -> Result<SafetyConfig, ConfigError> {
    let SafetyArgs { safety_checker, safety_threshold, force_safety_checker: forced } = args;
    if let Some(threshold) = safety_threshold.filter(|threshold| !(0.0..=1.0).contains(threshold)) {
        return refuse(format!("--safety-threshold {threshold}: give a probability, 0 to 1"));
    }
    let checker = match safety_checker.as_str() {
        "auto" => Checker::Auto,
        "none" if *forced => {
            return refuse("--force-safety-checker needs a checker, and --safety-checker is none".into());
        }
        "none" => Checker::Nobody,
        text => match ClassifierManifest::find(text) {
            Some(manifest) => Checker::Published(manifest),
            None => directory(text)?,
        },
    };
    Ok(SafetyConfig { checker, threshold: *safety_threshold, forced: *forced })
}

fn directory(text: &str) -> Result<Checker, ConfigError> {
    if !Path::new(text).is_dir() {
        let names: Vec<_> =
            ClassifierManifest::all().iter().map(|manifest| format!("`{}`, ", manifest.name)).collect();
        return refuse(format!(
            "--safety-checker {text}: give `auto`, {}`none` or the directory of a classifier, and there is no such directory",
            names.concat()
        ));
    }
    match std::path::absolute(text) {
        Ok(path) => Ok(Checker::Directory(path)),
        Err(error) => refuse(format!("--safety-checker {text}: {error}")),
    }
}

/// The flags that [`parse`] reads as `config`, for another process.
pub(crate) fn flags(config: &SafetyConfig) -> Vec<String> {
    let SafetyConfig { checker, threshold, forced } = config;
    let checker = match checker {
        Checker::Auto => "auto".to_owned(),
        Checker::Published(manifest) => manifest.name.clone(),
        Checker::Nobody => "none".to_owned(),
        Checker::Directory(path) => path.display().to_string(),
    };
    let mut flags = vec!["--safety-checker".to_owned(), checker];
    flags.extend(threshold.iter().flat_map(|value| ["--safety-threshold".to_owned(), value.to_string()]));
    flags.extend(forced.then(|| "--force-safety-checker".to_owned()));
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(checker: &str, threshold: impl Into<Option<f64>>, forced: bool) -> SafetyArgs {
        SafetyArgs {
            safety_checker: checker.into(),
            safety_threshold: threshold.into(),
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
        let again = |args| flags(&parse(&args).expect("options"));
        assert_eq!(
            again(args(folder, 0.25, true)),
            ["--safety-checker", folder, "--safety-threshold", "0.25", "--force-safety-checker"]
        );
        assert_eq!(again(args("none", 1.0, false))[1], "none");
        // By name or repository.
        assert_eq!(again(args("compvis", None, false))[1], "compvis");
        assert_eq!(again(args("Falconsai/nsfw_image_detection", None, false))[1], "falconsai");
    }
}
