//! `--storage`: a directory, or a bucket of S3 with a prefix and settings.

use super::credentials;
use object_store::ClientConfigKey;
use object_store::aws::AmazonS3ConfigKey;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How a URL of a bucket begins.
pub const SCHEME: &str = "s3://";

/// Whether plain HTTP is permitted.
const ALLOW_HTTP: AmazonS3ConfigKey = AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp);

/// Variables of the environment that a bucket is opened with, as other programs of S3 read them. A file of credentials is
/// named by two more.
const VARIABLES: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ALLOW_HTTP",
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ENDPOINT_URL_STS",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
];

/// Parameters of the URL, which take the place of variables. None is a secret.
const PARAMETERS: &[(&str, AmazonS3ConfigKey)] = &[
    ("region", AmazonS3ConfigKey::Region),
    ("endpoint", AmazonS3ConfigKey::S3Endpoint),
    ("allow-http", ALLOW_HTTP),
    ("virtual-hosted", AmazonS3ConfigKey::VirtualHostedStyleRequest),
    ("checksum", AmazonS3ConfigKey::Checksum),
];

/// Where files are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A local directory.
    Directory(PathBuf),
    /// A bucket.
    S3(S3Location),
}

impl Location {
    /// The directory, if it is one.
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory(path) => Some(path),
            Self::S3(_) => None,
        }
    }

    /// The bucket, if it is one, as in `s3://BUCKET/PREFIX`.
    pub fn bucket(&self) -> Option<String> {
        match self {
            Self::Directory(_) => None,
            Self::S3(bucket) => Some(bucket.name()),
        }
    }
}

/// Shows a directory's path, or the URL of a bucket as it was given: it has no secret.
impl fmt::Display for Location {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(out),
            Self::S3(bucket) => out.write_str(&bucket.url),
        }
    }
}

/// A bucket with a prefix, and how to reach it.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Location {
    /// As it was given.
    url: String,
    /// Name of the bucket.
    pub(super) bucket: String,
    /// What every object's name begins with; may be empty.
    pub(super) prefix: String,
    /// Checked settings, secrets among them.
    pub(super) settings: Vec<(AmazonS3ConfigKey, String)>,
    /// Directory for the parts of uploads until they are sent.
    pub(super) spool: PathBuf,
    /// Without an answer or a byte for so long, a call fails.
    pub stall: Duration,
    /// For so long after its begin a call that failed is made again.
    pub retry: Duration,
}

/// Settings may be secret.
impl fmt::Debug for S3Location {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "S3Location({})", self.url)
    }
}

impl S3Location {
    /// Reads `s3://BUCKET[/PREFIX][?PARAMETER=VALUE&…]`; `variable` is a variable of the environment, if it is set and
    /// not empty, and `spool` a local directory for what is being sent.
    ///
    /// # Errors
    /// What to change.
    pub fn parse(
        url: &str,
        spool: PathBuf,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let rest = url.strip_prefix(SCHEME).ok_or("give s3://BUCKET/PREFIX")?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
        if bucket.is_empty() || !bucket.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) {
            return Err("give s3://BUCKET/PREFIX; keys are given as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, an endpoint as ?endpoint=".into());
        }
        let prefix = prefix.trim_matches('/').to_owned();
        object_store::path::Path::parse(&prefix).map_err(|error| error.to_string())?;
        let mut settings = Vec::new();
        for name in VARIABLES {
            if let Some(value) = variable(name) {
                let key = name.to_ascii_lowercase().parse().map_err(|_| *name)?;
                set(&mut settings, key, value).map_err(|why| format!("{name}: {why}"))?;
            }
        }
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let known = PARAMETERS.iter().find(|(known, _)| *known == name);
            let (_, key) = known.ok_or_else(|| {
                let names: Vec<_> = PARAMETERS.iter().map(|(name, _)| *name).collect();
                format!("there is no parameter `{name}`: there are {}", names.join(", "))
            })?;
            set(&mut settings, *key, value.to_owned()).map_err(|why| format!("{name}: {why}"))?;
        }
        let mut location = Self {
            url: url.to_owned(),
            bucket: bucket.to_owned(),
            prefix,
            settings,
            spool,
            stall: Duration::from_secs(30),
            retry: Duration::from_secs(15),
        };
        location.check()?;
        if let (false, Some(file)) = (location.has_credentials(), variable("AWS_SHARED_CREDENTIALS_FILE")) {
            let profile = variable("AWS_PROFILE").unwrap_or_else(|| credentials::DEFAULT_PROFILE.into());
            location.settings.extend(credentials::read(Path::new(&file), &profile)?);
        }
        Ok(location)
    }

    fn check(&self) -> Result<(), String> {
        let has = |key| self.setting(key).is_some();
        match (has(AmazonS3ConfigKey::AccessKeyId), has(AmazonS3ConfigKey::SecretAccessKey)) {
            (true, false) => return Err("AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not".into()),
            (false, true) => return Err("AWS_SECRET_ACCESS_KEY is set and AWS_ACCESS_KEY_ID is not".into()),
            _ => {}
        }
        let plain = self.endpoint().is_some_and(|endpoint| endpoint.starts_with("http:"));
        if plain && !self.is_on(ALLOW_HTTP) {
            return Err("the endpoint is plain HTTP: set AWS_ALLOW_HTTP=true (or ?allow-http=true) if the network is trusted".into());
        }
        match self.endpoint().is_none_or(|endpoint| endpoint.starts_with("http")) {
            true => Ok(()),
            false => Err("the endpoint (AWS_ENDPOINT_URL or ?endpoint=) must be an HTTP or HTTPS URL".into()),
        }
    }

    /// Where the service is, unless that follows from the region.
    pub(super) fn endpoint(&self) -> Option<&str> {
        self.setting(AmazonS3ConfigKey::S3Endpoint).or(self.setting(AmazonS3ConfigKey::Endpoint))
    }

    pub(super) fn has_credentials(&self) -> bool {
        self.setting(AmazonS3ConfigKey::AccessKeyId).is_some()
    }

    pub(super) fn setting(&self, wanted: AmazonS3ConfigKey) -> Option<&str> {
        self.settings.iter().find(|(key, _)| *key == wanted).map(|(_, value)| value.as_str())
    }

    pub(super) fn is_on(&self, key: AmazonS3ConfigKey) -> bool {
        self.setting(key) == Some("true")
    }

    /// The bucket and the prefix as a URL, without parameters.
    pub(super) fn name(&self) -> String {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        format!("{SCHEME}{}{slash}{}", self.bucket, self.prefix)
    }
}

/// The later of two settings of one name counts. `AWS_REGION` and `AWS_DEFAULT_REGION` are one name.
fn set(
    settings: &mut Vec<(AmazonS3ConfigKey, String)>,
    key: AmazonS3ConfigKey,
    value: String,
) -> Result<(), String> {
    let key = if key == AmazonS3ConfigKey::DefaultRegion { AmazonS3ConfigKey::Region } else { key };
    let value = match key {
        ALLOW_HTTP | AmazonS3ConfigKey::VirtualHostedStyleRequest => is_true(&value)?.to_string(),
        _ => value,
    };
    settings.retain(|(known, _)| *known != key);
    settings.push((key, value));
    Ok(())
}

/// Reads a switch as other programs of S3 do.
fn is_true(value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "true" | "on" | "yes" => Ok(true),
        "0" | "false" | "off" | "no" => Ok(false),
        _ => Err(format!("`{value}` is neither true nor false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str, variables: &[(&str, &str)]) -> Result<S3Location, String> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        S3Location::parse(url, PathBuf::from("/spool"), variable)
    }

    #[test]
    fn a_url_and_variables_are_read() {
        let secret = [("AWS_ACCESS_KEY_ID", "me"), ("AWS_SECRET_ACCESS_KEY", "hidden")];
        let url = "s3://images/of/latentd/?region=eu-north-1&checksum=crc64nvme";
        let found = parse(url, &[&secret[..], &[("AWS_REGION", "x"), ("AWS_DEFAULT_REGION", "y")]].concat());
        let found = found.expect("a location");
        assert_eq!((found.bucket.as_str(), found.prefix.as_str()), ("images", "of/latentd"));
        assert_eq!(found.setting(AmazonS3ConfigKey::Region), Some("eu-north-1"));
        assert_eq!(found.name(), "s3://images/of/latentd");
        assert!(!format!("{found:?} {}", Location::S3(found.clone())).contains("hidden"));
        assert_eq!(found.setting(AmazonS3ConfigKey::SecretAccessKey), Some("hidden"));
        let regions = parse("s3://a", &[("AWS_REGION", "x"), ("AWS_DEFAULT_REGION", "y")]);
        assert_eq!(regions.expect("a location").setting(AmazonS3ConfigKey::Region), Some("x"));
        for on in ["1", "true", "Yes", "on"] {
            let plain = parse("s3://a?endpoint=http://b", &[("AWS_ALLOW_HTTP", on)]).expect("a location");
            assert_eq!(plain.setting(ALLOW_HTTP), Some("true"), "as the client of HTTP reads it");
        }
    }

    #[test]
    fn a_key_of_the_environment_goes_before_one_of_a_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("credentials");
        let profile = |name, key| format!("[{name}]\naws_access_key_id={key}\naws_secret_access_key=s\n");
        std::fs::write(&path, profile("default", "of-file") + &profile("images", "of-profile"))
            .expect("a file");
        let file = ("AWS_SHARED_CREDENTIALS_FILE", path.to_str().expect("text"));
        let environment = [("AWS_ACCESS_KEY_ID", "of-environment"), ("AWS_SECRET_ACCESS_KEY", "s")];
        for (variables, key) in [
            (vec![file], "of-file"),
            (vec![file, ("AWS_PROFILE", "images")], "of-profile"),
            ([&[file], &environment[..]].concat(), "of-environment"),
        ] {
            let found = parse("s3://bucket", &variables).expect("a location");
            assert_eq!(found.setting(AmazonS3ConfigKey::AccessKeyId), Some(key));
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (url, variables, words) in [
            ("s3://", &[][..], "s3://BUCKET"),
            ("s3://key:secret@host/bucket", &[], "AWS_ACCESS_KEY_ID"),
            ("s3://bucket?secret=x", &[], "no parameter `secret`"),
            ("s3://bucket/a/../b", &[], ".."),
            ("s3://bucket", &[("AWS_ACCESS_KEY_ID", "me")], "AWS_SECRET_ACCESS_KEY is not"),
            ("s3://bucket?endpoint=http:/x", &[], "AWS_ALLOW_HTTP"),
            ("s3://bucket?endpoint=http:/x", &[("AWS_ALLOW_HTTP", "0")], "AWS_ALLOW_HTTP"),
            ("s3://bucket?virtual-hosted=perhaps", &[], "virtual-hosted: `perhaps`"),
            ("s3://bucket?endpoint=host:9000", &[], "HTTP or HTTPS URL"),
            ("s3://bucket", &[("AWS_SHARED_CREDENTIALS_FILE", "/no/such")], "AWS_SHARED_CREDENTIALS_FILE"),
        ] {
            let refused = parse(url, variables).expect_err(url);
            assert!(refused.contains(words), "{url}: {refused}");
        }
    }
}
