//! Everything that can go wrong between a directory and a picture, in words a user can act on.

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why loading or generating failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model directory cannot be used; the text names the file and what to change.
    #[error("{0}")]
    Model(String),
    /// The request asks for something this model cannot do; the text names the limit.
    #[error("{0}")]
    Request(String),
    /// The step callback asked to stop.
    #[error("stopped before step {step} of {of}")]
    Stopped {
        /// The 1-based step that was not taken.
        step: usize,
        /// Steps the request asked for.
        of: usize,
    },
    /// A latent became NaN or infinite.
    #[error(
        "non-finite latents after step {step} of {of}: try --dtype f32, and check the weights with `latentd models verify`"
    )]
    NonFinite {
        /// The 1-based step whose result was not finite.
        step: usize,
        /// Steps the request asked for.
        of: usize,
    },
    /// The device cannot be used.
    #[error("{0}")]
    Device(String),
    /// A tensor operation failed: a bug of ours or a fault of the device.
    #[error(transparent)]
    Tensor(candle_core::Error),
    /// A file could not be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: std::path::PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

/// Text that may hold a stranger's words, for a message: at most this many characters, and on one line.
pub(crate) fn one_line(text: &str, most: usize) -> String {
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    let mut short = String::new();
    let mut left = most;
    for c in text.chars() {
        let shown = if breaks(c) { c.escape_default().to_string() } else { c.to_string() };
        let Some(rest) = left.checked_sub(shown.chars().count()) else {
            short.push('…');
            break;
        };
        left = rest;
        short.push_str(&shown);
    }
    short
}

impl Error {
    /// To be returned by what builds layers, whose errors are candle's; [`From`] takes it out again.
    pub(crate) fn carried(self) -> candle_core::Error {
        candle_core::Error::Io(std::io::Error::other(self))
    }

    /// A failed tensor operation, said to be the fault of a file.
    pub(crate) fn blaming(self, file: String) -> Self {
        match self {
            Self::Tensor(error) => Self::Model(format!("{file}: {error}")),
            other => other,
        }
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        match error {
            candle_core::Error::Io(io) => match io.downcast() {
                Ok(carried) => carried,
                Err(io) => Self::Tensor(candle_core::Error::Io(io)),
            },
            other => Self::Tensor(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_words_stay_on_a_line() {
        assert_eq!(one_line("é \"a\"\r\n\u{1b}[0m", 100), "é \"a\"\\r\\n\\u{1b}[0m");
        assert_eq!(one_line("abcdef", 3), "abc…");
        assert_eq!(one_line("abc", 3), "abc");
        assert_eq!(one_line("a\n\n", 4), "a\\n…", "what is escaped counts as it is shown");
    }

    #[test]
    fn an_error_comes_back_as_what_it_was() {
        let carried = Error::from(Error::Model("words".into()).carried()).blaming("a file".into());
        assert!(matches!(&carried, Error::Model(words) if words == "words"), "{carried:?}");
        let blamed = Error::from(candle_core::Error::Msg("words".into())).blaming("a file".into());
        assert!(matches!(&blamed, Error::Model(words) if words == "a file: words"), "{blamed:?}");
        let other = candle_core::Error::Io(std::io::ErrorKind::NotFound.into());
        assert!(matches!(Error::from(other), Error::Tensor(candle_core::Error::Io(_))));
    }
}
