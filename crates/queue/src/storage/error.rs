//! Why storage could not do something, and what the operator can change.

use crate::fault::Fault;
use crate::printable::printable;
use std::error::Error;

/// Why storage could not answer.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The store of a directory refused or is gone.
    #[error("file storage: {}", printable(.0))]
    Store(#[from] object_store::Error),
    /// The directory cannot be used.
    #[error("file storage: {0}")]
    Directory(#[from] std::io::Error),
    /// A bucket cannot be used.
    #[error("file storage {place}: {}", printable(.why))]
    Bucket {
        /// As in `s3://BUCKET/PREFIX`.
        place: String,
        /// One line.
        why: String,
        /// The service does not answer or is busy, rather than refuses.
        is_away: bool,
    },
}

impl StorageError {
    /// Whether it is about a service that does not answer or is busy. What a service or a directory refuses, only the
    /// operator can change.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Bucket { is_away: true, .. })
    }
}

impl Fault for StorageError {
    /// Whatever a store refuses, it refuses for reasons of its own: full, no rights, a disk or a service that is gone.
    fn is_machines(&self) -> bool {
        true
    }
}

/// What the operator can do about an error of S3, by the code in the answer.
const ADVICE: &[(&str, &str)] = &[
    ("InvalidAccessKeyId", "the service does not know the access key: check AWS_ACCESS_KEY_ID"),
    ("NotSignedUp", "the service does not know the access key: check AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL"),
    ("SignatureDoesNotMatch", "the secret does not belong to the access key: check AWS_SECRET_ACCESS_KEY"),
    ("InvalidToken", "the session token is not valid: check AWS_SESSION_TOKEN"),
    ("ExpiredToken", "the session token has expired: renew AWS_SESSION_TOKEN"),
    ("RequestTimeTooSkewed", "this machine's clock is wrong"),
    ("NoSuchBucket", "there is no such bucket: create it, or correct --storage"),
    ("PermanentRedirect", "the bucket is in another region: set AWS_REGION, or ?region= in --storage"),
    (
        "AuthorizationHeaderMalformed",
        "the bucket is in another region: set AWS_REGION, or ?region= in --storage",
    ),
    (
        "AccessDenied",
        "access denied: the key of AWS_ACCESS_KEY_ID needs s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload and s3:ListBucket",
    ),
];

/// Codes of a service that is busy or fails.
const AWAY: [&str; 6] = [
    "InternalError",
    "RequestTimeout",
    "ServerBusy",
    "ServiceUnavailable",
    "SlowDown",
    "XMinioServerNotInitialized",
];

/// Whether the service does not answer or is busy: another time the same may succeed.
pub(super) fn is_away(error: &object_store::Error) -> bool {
    use object_store::Error as E;
    let text = error.to_string();
    match element(&text, "Code") {
        Some(code) => AWAY.contains(&code.as_str()),
        // Refused, answered by another service, or without a certificate that is trusted.
        None => {
            matches!(error, E::Generic { .. })
                && !["Received redirect", "169.254.169.254", "certificate"].iter().any(|of| text.contains(of))
        }
    }
}

/// The code of an answer of S3, if the failure is one that has a body.
pub(super) fn code(error: &object_store::Error) -> Option<String> {
    element(&error.to_string(), "Code")
}

/// One line about a failure of S3, without the address that it was about.
pub(super) fn explain(error: &object_store::Error, endpoint: &str, has_credentials: bool) -> String {
    let text = error.to_string();
    if let Some(code) = element(&text, "Code") {
        if let Some((_, advice)) = ADVICE.iter().find(|(known, _)| *known == code) {
            return format!("{advice} ({code})");
        }
        let message = element(&text, "Message").unwrap_or_default();
        return format!("the service answers {code}: {message}");
    }
    match error {
        _ if text.contains("169.254.169.254") && !has_credentials => {
            "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".into()
        }
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            "access denied: check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION".into()
        }
        _ if text.contains("Received redirect") => {
            "the bucket is in another region: set AWS_REGION, or ?region= in --storage".into()
        }
        _ => format!("{endpoint} (AWS_ENDPOINT_URL): {}", innermost(error)),
    }
}

/// The text of the first XML element of a name.
fn element(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (content, _) = rest.split_once("</")?;
    Some(content.trim().to_owned()).filter(|content| !content.is_empty())
}

fn innermost(error: &object_store::Error) -> String {
    let mut last: &dyn Error = error;
    let mut text = String::new();
    while let Some(source) = last.source() {
        last = source;
        // Each wraps the text of the next, or says something of its own.
        let one = last.to_string();
        text = if text.contains(&one) { one } else { [text, one].join(": ") };
    }
    let text = text.trim_start_matches(": ");
    if text.is_empty() { error.to_string() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(text: &str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: text.into() }
    }

    #[test]
    fn a_line_names_what_to_change() {
        let answer = |code: &str| {
            failed(&format!("status code: 403: <Error><Code>{code}</Code><Message>No.</Message></Error>"))
        };
        for (code, variable) in [
            ("InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"),
            ("SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
            ("NoSuchBucket", "--storage"),
            ("PermanentRedirect", "AWS_REGION"),
        ] {
            let line = explain(&answer(code), "endpoint", true);
            assert!(line.contains(variable), "{line}");
        }
        assert_eq!(explain(&answer("Odd"), "endpoint", true), "the service answers Odd: No.");
        let line = explain(&failed("connection refused"), "storage.test:9000", true);
        assert_eq!(line, "storage.test:9000 (AWS_ENDPOINT_URL): connection refused");
    }
}
