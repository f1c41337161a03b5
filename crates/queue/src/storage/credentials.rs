//! The key of a bucket in a file of profiles, as `AWS_SHARED_CREDENTIALS_FILE` names one.

use object_store::aws::AmazonS3ConfigKey;
use std::path::Path;

/// The profile where none is named.
pub(super) const DEFAULT_PROFILE: &str = "default";

/// Names in the file and the settings that they are.
const NAMES: &[(&str, AmazonS3ConfigKey)] = &[
    ("aws_access_key_id", AmazonS3ConfigKey::AccessKeyId),
    ("aws_secret_access_key", AmazonS3ConfigKey::SecretAccessKey),
    ("aws_session_token", AmazonS3ConfigKey::Token),
];

/// Reads the key of a profile. Errors contain no value of the file.
pub(super) fn read(path: &Path, profile: &str) -> Result<Vec<(AmazonS3ConfigKey, String)>, String> {
    let place = format!("AWS_SHARED_CREDENTIALS_FILE {}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| format!("{place}: {error}"))?;
    let found = parse(&text, profile).ok_or_else(|| format!("{place} has no profile [{profile}]"))?;
    for (name, wanted) in &NAMES[..2] {
        if !found.iter().any(|(key, _)| key == wanted) {
            return Err(format!("{place} has no {name} in [{profile}]"));
        }
    }
    Ok(found)
}

/// The settings of a profile; `None` when the file has no such profile. Other names are those of other programs.
fn parse(text: &str, profile: &str) -> Option<Vec<(AmazonS3ConfigKey, String)>> {
    let mut section = None;
    let mut found = None;
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = Some(name.trim());
        }
        if section != Some(profile) {
            continue;
        }
        let settings: &mut Vec<_> = found.get_or_insert_default();
        let Some((name, value)) = line.split_once('=') else { continue };
        let known = NAMES.iter().find(|(known, _)| name.trim().eq_ignore_ascii_case(known));
        if let (Some((_, key)), value @ [_, ..]) = (known, value.trim().as_bytes()) {
            settings.push((*key, String::from_utf8_lossy(value).into_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# ours\n[default]\nregion = eu\naws_access_key_id = first\n\n[ other ]\r
aws_access_key_id=second\r\naws_secret_access_key = a=b \n; not = this\naws_session_token =\n";

    #[test]
    fn a_profile_is_read_and_no_other() {
        let key = |value: &str| (AmazonS3ConfigKey::AccessKeyId, value.to_owned());
        assert_eq!(parse(FILE, "default"), Some(vec![key("first")]));
        let secret = (AmazonS3ConfigKey::SecretAccessKey, "a=b".to_owned());
        assert_eq!(parse(FILE, "other"), Some(vec![key("second"), secret]));
        assert_eq!(parse(FILE, "third"), None);
        assert_eq!(parse("", "default"), None);
    }

    #[test]
    fn what_is_missing_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("credentials");
        assert!(read(&path, "default").expect_err("no file").contains("AWS_SHARED_CREDENTIALS_FILE"));
        std::fs::write(&path, FILE).expect("a file");
        assert!(read(&path, "third").expect_err("no profile").ends_with("has no profile [third]"));
        let half = read(&path, "default").expect_err("no secret");
        assert!(half.ends_with("has no aws_secret_access_key in [default]") && !half.contains("first"));
        assert_eq!(read(&path, "other").map(|found| found.len()), Ok(2));
    }
}
