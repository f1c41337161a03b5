//! Where `--model` says that a model is.

use latentd_models::ModelSource;
use std::fmt;

/// The place of a model, before anything is downloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelLocation {
    /// Inside the program, or on disk.
    Local(ModelSource),
    /// A repository of the Hugging Face hub, whose files are in the cache or have to be downloaded.
    Hub {
        /// `owner/name`.
        repository: String,
        /// Branch, tag or commit.
        revision: String,
    },
}

impl ModelLocation {
    /// What the model is loaded from, if its place is here.
    pub fn local(&self) -> Option<&ModelSource> {
        match self {
            Self::Local(source) => Some(source),
            Self::Hub { .. } => None,
        }
    }
}

/// As the command line takes it.
impl fmt::Display for ModelLocation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(source) => source.fmt(out),
            Self::Hub { repository, .. } => out.write_str(repository),
        }
    }
}
