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
    Tensor(#[from] candle_core::Error),
    /// A file could not be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: std::path::PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}
