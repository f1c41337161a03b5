//! Everything that can go wrong between a directory and an image, in messages for users.

use crate::gpu;
use std::fmt;

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
    /// A LoRA adapter of the request cannot be used; the text names it, and lists what does not fit.
    #[error("{why}")]
    Adapter {
        /// Number of the adapter in the request, from 0; `None` where it is all of them together.
        index: Option<usize>,
        /// The text.
        why: String,
    },
    /// The ControlNet of the request cannot be used; the text names it, and lists what does not fit.
    #[error("{0}")]
    ControlNet(String),
    /// The IP-Adapter of the request cannot be used; the text names it, and lists what does not fit.
    #[error("{0}")]
    IpAdapter(String),
    /// The image encoder of the request's IP-Adapter cannot be used; the text names it, and lists what does not fit.
    #[error("{0}")]
    ImageEncoder(String),
    /// The step callback asked to stop.
    #[error("stopped before step {step} of {of}")]
    Stopped {
        /// The 1-based step that was not taken.
        step: usize,
        /// Steps the request asked for.
        of: usize,
    },
    /// A stage computed NaN or infinite numbers, of which no image can be made.
    #[error("{stage} computed numbers that are not finite (NaN or infinite)")]
    NonFinite {
        /// Which.
        stage: Stage,
    },
    /// The device has no memory left for a tensor. It can be used on, and what is freed can be allocated again.
    #[error("the device ran out of memory")]
    OutOfMemory,
    /// A checkpoint file lacks parts that an image needs, and no directory of text encoders was named.
    #[error("{} has no {missing} inside", file.display())]
    MissingParts {
        /// The checkpoint.
        file: std::path::PathBuf,
        /// What it lacks: `CLIP-L and no CLIP-G`.
        missing: String,
        /// The files that have it, and where they are published.
        files: String,
    },
    /// A threshold was set for a safety checker that gives no probabilities.
    #[error(
        "{threshold} is a probability, and the safety checker in {checker} gives none, for it has thresholds of its own"
    )]
    NoProbability {
        /// The threshold.
        threshold: f64,
        /// The checker's folder.
        checker: String,
    },
    /// The device or the model cannot compute in fp8; the text says which and why.
    #[error("{0}")]
    Fp8(String),
    /// The device cannot be used.
    #[error("{0}")]
    Device(String),
    /// A tensor operation failed: a bug of ours or a fault of the device.
    #[error(transparent)]
    Tensor(candle_core::Error),
    /// A file could not be read.
    #[error("{path}: {}", in_words(reason))]
    Io {
        /// The file.
        path: std::path::PathBuf,
        /// What the operating system said. No source, for the message has it.
        reason: std::io::Error,
    },
}

/// A stage of the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The text encoder CLIP-L.
    ClipL,
    /// The text encoder CLIP-G.
    ClipG,
    /// The text encoder T5.
    T5,
    /// The VAE's encoder, of a request's initial image.
    VaeEncoder,
    /// The encoder of an IP-Adapter's image prompt.
    ImageEncoder,
    /// A denoising step of the transformer.
    Step {
        /// 1-based.
        step: usize,
        /// Steps the request asked for.
        of: usize,
    },
    /// The VAE's decoder.
    VaeDecoder,
    /// The classifier of finished images.
    SafetyChecker,
}

impl fmt::Display for Stage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClipL => out.write_str("the text encoder CLIP-L"),
            Self::ClipG => out.write_str("the text encoder CLIP-G"),
            Self::T5 => out.write_str("the text encoder T5"),
            Self::VaeEncoder => out.write_str("the VAE's encoder"),
            Self::ImageEncoder => out.write_str("the image encoder"),
            Self::Step { step, of } => write!(out, "the transformer in step {step} of {of}"),
            Self::VaeDecoder => out.write_str("the VAE's decoder"),
            Self::SafetyChecker => out.write_str("the safety checker"),
        }
    }
}

/// What the operating system said, without its number.
fn in_words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file or directory".into(),
        std::io::ErrorKind::PermissionDenied => "this user is not permitted to read it".into(),
        _ => {
            let text = error.to_string();
            text.split(" (os error ").next().unwrap_or_default().to_owned()
        }
    }
}

/// Untrusted text for a message: at most this many characters, and on one line.
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
            // A stack trace that candle takes along when RUST_BACKTRACE is set; a message is one sentence.
            candle_core::Error::WithBacktrace { inner, .. } => (*inner).into(),
            other if gpu::is_out_of_memory(&other) => Self::OutOfMemory,
            other => Self::Tensor(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untrusted_text_stays_on_a_line() {
        assert_eq!(one_line("é \"a\"\r\n\u{1b}[0m", 100), "é \"a\"\\r\\n\\u{1b}[0m");
        assert_eq!(one_line("abcdef", 3), "abc…");
        assert_eq!(one_line("abc", 3), "abc");
        assert_eq!(one_line("a\n\n", 4), "a\\n…", "what is escaped counts as it is shown");
    }

    #[test]
    fn what_the_system_said_is_said_once_and_without_its_number() {
        let failed = |kind: std::io::ErrorKind| Error::Io { path: "a/b".into(), reason: kind.into() };
        let missing = failed(std::io::ErrorKind::NotFound);
        assert_eq!(missing.to_string(), "a/b: there is no such file or directory");
        assert!(std::error::Error::source(&missing).is_none(), "a chain of causes would say it again");
        let full = Error::Io { path: "a".into(), reason: std::io::Error::from_raw_os_error(5) };
        assert_eq!(full.to_string(), "a: Input/output error");
    }

    #[test]
    fn an_error_comes_back_as_what_it_was() {
        let carried = Error::from(Error::Model("words".into()).carried()).blaming("a file".into());
        assert!(matches!(&carried, Error::Model(words) if words == "words"), "{carried:?}");
        let blamed = Error::from(candle_core::Error::Msg("words".into())).blaming("a file".into());
        assert!(matches!(&blamed, Error::Model(words) if words == "a file: words"), "{blamed:?}");
        let other = candle_core::Error::Io(std::io::ErrorKind::NotFound.into());
        assert!(matches!(Error::from(other), Error::Tensor(candle_core::Error::Io(_))));
        let full = candle_core::Error::from(gpu::OutOfMemory).context("a step");
        assert!(matches!(Error::from(full).blaming("a file".into()), Error::OutOfMemory));
        let backtrace = Box::new(std::backtrace::Backtrace::force_capture());
        let inner = Box::new(candle_core::Error::Msg("words".into()));
        let traced = Error::from(candle_core::Error::WithBacktrace { inner, backtrace });
        assert_eq!(traced.to_string(), "words");
    }
}
