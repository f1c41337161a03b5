//! Names that clients give their files: kept to be shown again, never trusted.

/// Longest name that is kept.
const MAX_NAME: usize = 200;

/// Extensions for types whose files come without one.
const EXTENSIONS: &[(&str, &str)] = &[
    ("image/png", "png"),
    ("image/jpeg", "jpg"),
    ("image/webp", "webp"),
    ("image/gif", "gif"),
    ("text/plain", "txt"),
    ("application/json", "json"),
    ("application/zip", "zip"),
    ("audio/mpeg", "mp3"),
    ("video/mp4", "mp4"),
];

/// The last piece of a path, without control characters; `None` when nothing is left.
pub(crate) fn clean(name: &str) -> Option<String> {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let kept: String = last.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect();
    let kept = kept.trim();
    (!kept.trim_matches('.').is_empty()).then(|| kept.to_owned())
}

/// The extension of the public name: the file's own, else one for its type.
pub(crate) fn extension(file_name: Option<&str>, content_type: &str) -> String {
    let own = file_name.and_then(|name| name.rsplit_once('.')).map(|(_, end)| end.to_ascii_lowercase());
    let is_plain = |end: &String| {
        (1..=8).contains(&end.len())
            && end.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    let for_type =
        EXTENSIONS.iter().find(|(of, _)| of.eq_ignore_ascii_case(kind)).map_or("bin", |(_, end)| end);
    own.filter(is_plain).unwrap_or_else(|| for_type.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_never_paths() {
        assert_eq!(clean("../../etc/passwd").as_deref(), Some("passwd"));
        assert_eq!(clean("C:\\x\\a b.png").as_deref(), Some("a b.png"));
        assert_eq!(clean("a\r\nb").as_deref(), Some("ab"));
        for nothing in ["", "..", "/", "a/..", "\n"] {
            assert_eq!(clean(nothing), None, "{nothing:?}");
        }
    }

    #[test]
    fn an_extension_is_plain() {
        let cases = [
            (Some("a.PNG"), "x/y", "png"),
            (Some("a.p#1"), "image/png", "png"),
            (Some("a"), "text/plain; charset=utf-8", "txt"),
            (None, "x/y", "bin"),
            (Some("a.verylongend"), "x/y", "bin"),
        ];
        for (name, kind, expected) in cases {
            assert_eq!(extension(name, kind), expected, "{name:?}");
        }
    }
}
