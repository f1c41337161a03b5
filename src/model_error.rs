//! An error of the model code with advice: what an operator can change, in this program's flags and commands.

use latentd_models::Error;
use std::fmt;

/// Result of what reads or runs a model.
pub type Result<T> = std::result::Result<T, ModelError>;

/// An error of the model code. Its text ends with the advice, if there is some.
#[derive(Debug)]
pub struct ModelError(pub Error);

impl From<Error> for ModelError {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl fmt::Display for ModelError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match advice(&self.0) {
            Some(advice) => write!(out, "{}: {advice}", self.0),
            None => self.0.fmt(out),
        }
    }
}

impl std::error::Error for ModelError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

fn advice(error: &Error) -> Option<String> {
    match error {
        Error::NonFinite { .. } => {
            Some("check the model's files with `latentd models verify`, or run it in f32".into())
        }
        Error::OutOfMemory => Some("ask for fewer or smaller images, or free memory of the device".into()),
        Error::MissingParts { files, .. } => Some(format!("give --text-encoders DIR with {files}")),
        Error::NoProbability { threshold, .. } => Some(format!("leave `--safety-threshold {threshold}` out")),
        Error::Fp8(_) => Some("give --dtype bf16".into()),
        Error::Model(_)
        | Error::Request(_)
        | Error::Adapter { .. }
        | Error::ControlNet(_)
        | Error::IpAdapter(_)
        | Error::ImageEncoder(_)
        | Error::Stopped { .. }
        | Error::Device(_)
        | Error::Tensor(_)
        | Error::Io { .. } => None,
    }
}

/// Adds the advice to an error of the model code; any other error stays what it is.
pub(crate) fn with_advice(error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<Error>() {
        Ok(error) => ModelError(error).into(),
        Err(other) => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_ends_with_what_to_do() {
        let error = || Error::Fp8("fp8 needs a Hopper GPU".into());
        assert_eq!(ModelError(error()).to_string(), "fp8 needs a Hopper GPU: give --dtype bf16");
        assert_eq!(with_advice(error().into()).to_string(), ModelError(error()).to_string());
        assert_eq!(with_advice(anyhow::anyhow!("words")).to_string(), "words");
        assert_eq!(ModelError(Error::Model("words".into())).to_string(), "words");
    }
}
