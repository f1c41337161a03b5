//! Where files are stored: `--storage` and the variables of a bucket.

use super::{ConfigError, refuse, secret};
use crate::storage::{Location, S3Location, SCHEME};
use std::collections::BTreeMap;
use std::path::Path;

/// Variables of secrets. With `_FILE` at the end of its name each names a file with the secret in it.
const SECRETS: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// Folder, in the data directory, of the parts of uploads that are on their way to a bucket.
const SPOOL: &str = "spool";

/// Reads the flag; `variable` is a variable of the environment, if it is set and not empty.
pub(super) fn parse(
    text: Option<&str>,
    data_dir: &Path,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Location, ConfigError> {
    let Some(text) = text else { return Ok(Location::Directory(data_dir.join("files"))) };
    if text.starts_with(SCHEME) {
        let secrets = secrets(&variable)?;
        let variable = |name: &str| secrets.get(name).cloned().or_else(|| variable(name));
        let bucket = S3Location::parse(text, data_dir.join(SPOOL), variable);
        return bucket.map(Location::S3).map_err(|why| ConfigError(format!("--storage {text}: {why}")));
    }
    let path = text.strip_prefix("file://").unwrap_or(text);
    if path.is_empty() || path.contains("://") {
        return refuse(format!("--storage {text}: give a directory or s3://BUCKET/PREFIX"));
    }
    let path = std::path::absolute(path);
    path.map(Location::Directory).map_err(|error| ConfigError(format!("--storage {text}: {error}")))
}

/// The secrets that are set, or in files.
fn secrets(variable: impl Fn(&str) -> Option<String>) -> Result<BTreeMap<&'static str, String>, ConfigError> {
    let mut found = BTreeMap::new();
    for name in SECRETS {
        let file_name = format!("{name}_FILE");
        if let Some(secret) = secret::either([name, &file_name], variable(name), variable(&file_name))? {
            found.insert(name, secret);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> (&str, &str) {
        ("AWS_SECRET_ACCESS_KEY_FILE", path)
    }

    #[test]
    fn a_secret_is_read_from_the_file_that_a_variable_names() {
        let folder = tempfile::tempdir().expect("a folder");
        let [good, empty] = ["good", "empty"].map(|name| folder.path().join(name).display().to_string());
        std::fs::write(&good, "hidden\n").expect("a file");
        std::fs::write(&empty, "\n").expect("a file");
        let with = |variables: &[(&str, &str)]| {
            let set: BTreeMap<&str, String> =
                variables.iter().map(|(name, value)| (*name, (*value).into())).collect();
            parse(Some("s3://bucket"), Path::new("/data"), |name| set.get(name).cloned())
        };
        let (id, secret) = (("AWS_ACCESS_KEY_ID", "me"), ("AWS_SECRET_ACCESS_KEY", "hidden"));
        let of_file = with(&[id, file(&good)]).expect("a location");
        assert_eq!(of_file, with(&[id, secret]).expect("a location"));
        for (variables, words) in [
            (vec![id, secret, file(&good)], "AWS_SECRET_ACCESS_KEY and AWS_SECRET_ACCESS_KEY_FILE"),
            (vec![id, file(&empty)], "is empty"),
            (vec![id, file("/no/such/file")], "AWS_SECRET_ACCESS_KEY_FILE /no/such/file"),
        ] {
            let refused = with(&variables).expect_err(words).0;
            assert!(refused.contains(words) && !refused.contains("hidden"), "{refused}");
        }
    }
}
