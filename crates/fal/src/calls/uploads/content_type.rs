//! Types that clients give their files: kept where they are one type, and shown by browsers where that is known to be
//! harmless.

/// Type of a file whose sender names none.
const UNKNOWN: &str = "application/octet-stream";

/// Longest type that is kept, its parameters included.
const MAX_LENGTH: usize = 200;

/// What browsers show without running anything in it. SVG is not among them: it has scripts.
const SHOWN: [&str; 25] = [
    "audio/aac",
    "audio/flac",
    "audio/mp4",
    "audio/mpeg",
    "audio/ogg",
    "audio/opus",
    "audio/wav",
    "audio/wave",
    "audio/webm",
    "audio/x-wav",
    "image/apng",
    "image/avif",
    "image/bmp",
    "image/gif",
    "image/heic",
    "image/heif",
    "image/jpeg",
    "image/jxl",
    "image/png",
    "image/tiff",
    "image/webp",
    "video/mp4",
    "video/ogg",
    "video/quicktime",
    "video/webm",
];

/// The type as it was given, if it is exactly one (RFC 9110, 8.3.1).
pub(crate) fn checked(given: Option<&str>) -> String {
    let given = given.unwrap_or_default().trim();
    let mut parts = given.split(';').map(str::trim);
    let is_type = parts
        .next()
        .and_then(|essence| essence.split_once('/'))
        .is_some_and(|(kind, sub)| is_token(kind) && is_token(sub));
    let is_valid = given.len() <= MAX_LENGTH && is_type && parts.all(is_parameter);
    if is_valid { given.to_owned() } else { UNKNOWN.to_owned() }
}

/// May a browser show it? Everything else is saved to a file.
pub(crate) fn is_shown(checked: &str) -> bool {
    let essence = checked.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    SHOWN.contains(&essence.as_str())
}

/// `name=value`, with or without quotes.
fn is_parameter(text: &str) -> bool {
    text.split_once('=').is_some_and(|(name, value)| {
        let bare = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let is_quotable =
            |text: &str| text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && !b"\"\\,".contains(&byte));
        is_token(name) && bare.map_or_else(|| is_token(value), is_quotable)
    })
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_exactly_one() {
        for one in [
            "image/png",
            "text/plain; charset=utf-8",
            "multipart/mixed;boundary=\"a b\"",
            "application/vnd.x+json",
        ] {
            assert_eq!(checked(Some(one)), one);
        }
        for none in [
            None,
            Some(""),
            Some("png"),
            Some("a/b\r\nc: d"),
            Some("/b"),
            Some("image/png, text/html"),
            Some("image/png;, text/html"),
            Some("image/png; a=\",\", text/html"),
            Some("image/png text/html"),
            Some("image/png;charset"),
            Some("image/png/x"),
        ] {
            assert_eq!(checked(none), UNKNOWN, "{none:?}");
        }
    }

    #[test]
    fn only_images_audio_and_video_are_shown_inline() {
        for kind in ["image/png", "IMAGE/JPEG; q=1", "video/mp4", "audio/mpeg"] {
            assert!(is_shown(kind), "{kind}");
        }
        for kind in [
            "text/html",
            "text/plain",
            "image/svg+xml",
            "application/pdf",
            "image/x-unknown",
            "image/png, text/html",
            "",
        ] {
            assert!(!is_shown(kind), "{kind}");
        }
    }
}
