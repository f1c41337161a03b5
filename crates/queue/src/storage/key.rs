//! Names of stored files, and parts of a file.

use std::ops::Range;
use uuid::Uuid;

/// The name of a file: 32 hex digits and an extension. Cannot name anything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileKey(String);

impl FileKey {
    /// A fresh name nobody can guess. The extension is 1 to 8 small letters and digits.
    pub fn fresh(extension: &str) -> Self {
        Self(format!("{}.{extension}", Uuid::new_v4().simple()))
    }

    /// Reads a name that came from outside.
    pub fn parse(text: &str) -> Option<Self> {
        let (stem, extension) = text.split_once('.')?;
        let hex = stem.len() == 32 && stem.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let plain = extension.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
        (hex && plain && (1..=8).contains(&extension.len())).then(|| Self(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// MIME type of a generated image, by extension; `None` for other files.
    pub fn image_type(&self) -> Option<&'static str> {
        match self.0.rsplit('.').next().unwrap_or_default() {
            "jpeg" | "jpg" => Some("image/jpeg"),
            "png" => Some("image/png"),
            "webp" => Some("image/webp"),
            _ => None,
        }
    }
}

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// From the first byte to the last, both included.
    Within(u64, u64),
    /// From a byte to the end.
    From(u64),
    /// So many bytes before the end.
    Last(u64),
}

impl Span {
    /// The bytes meant, in a file of `size` bytes; `None` when it has none of them.
    pub(super) fn of(self, size: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::Within(first, last) => first..last.saturating_add(1).min(size),
            Self::From(first) => first..size,
            Self::Last(count) => size.saturating_sub(count)..size,
        };
        (range.start < range.end).then_some(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_names_parse() {
        let key = FileKey::fresh("png");
        assert_eq!(FileKey::parse(key.as_str()), Some(key));
        let stem = "0123456789abcdef0123456789abcdef";
        assert!(FileKey::parse(&format!("{stem}.txt")).is_some_and(|key| key.image_type().is_none()));
        for name in ["", ".png", "../etc/passwd", "..%2f.png", "a.png", stem] {
            assert_eq!(FileKey::parse(name), None, "{name}");
        }
        for end in [".", ".PNG", ".p/g", ".tar.gz", "#1", ".png#1", ".123456789"] {
            assert_eq!(FileKey::parse(&format!("{stem}{end}")), None, "{end}");
        }
    }
}
