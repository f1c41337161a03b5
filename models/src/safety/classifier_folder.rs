//! Where a classifier's files are.

use super::config::Config;
use crate::config::read;
use crate::content::Directory;
use crate::files::{ModelFiles, SAFETY_CHECKER};
use crate::target::Target;
use crate::vision::{Processing, ProcessorConfig};
use crate::weights::Weights;
use crate::{Error, Result};
use std::path::Path;

/// Where pipelines keep how images are preprocessed for the checker in the next folder.
const PROCESSOR: &str = "feature_extractor";

/// A folder with a classifier.
pub(super) struct ClassifierFolder {
    files: ModelFiles,
    part: String,
}

impl ClassifierFolder {
    /// The folder of the model's own.
    pub(super) fn of_model(model: &ModelFiles) -> Self {
        Self { files: model.clone(), part: SAFETY_CHECKER.into() }
    }

    /// Any folder.
    pub(super) fn directory(dir: &Path) -> Result<Self> {
        let path = dir.canonicalize().map_err(|reason| Error::Io { path: dir.to_path_buf(), reason })?;
        match (path.parent(), path.file_name().and_then(|name| name.to_str())) {
            (Some(parent), Some(name)) if path.is_dir() => {
                Ok(Self { files: ModelFiles::Directory(Directory::new(parent)), part: name.into() })
            }
            _ => Err(Error::Model(format!("{} is not a directory of a classifier", dir.display()))),
        }
    }

    /// What the classifier is, and what it wants done to images.
    pub(super) fn configs(&self) -> Result<(Config, Processing)> {
        let wrong = |path: &str, why| Error::Model(format!("{}: {why}", self.files.display(path)));
        let path = self.path("config.json");
        let config = Config::parse(&self.files.read(&path)?).map_err(|why| wrong(&path, why))?;
        let path = self.processor();
        let file: ProcessorConfig = read(&self.files, &path)?;
        let processing =
            Processing::new(&file, config.kind(), config.image()).map_err(|why| wrong(&path, why))?;
        Ok((config, processing))
    }

    pub(super) fn weights(&self, target: &Target) -> Result<Weights> {
        Weights::open(&self.files, &self.part, "model", target)
    }

    /// The folder, for messages.
    pub(super) fn display(&self) -> String {
        self.files.display(&self.part)
    }

    /// Its `config.json`, for messages.
    pub(super) fn display_config(&self) -> String {
        self.files.display(&self.path("config.json"))
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.part)
    }

    /// In the folder itself, or in the next one.
    fn processor(&self) -> String {
        let sibling = format!("{PROCESSOR}/preprocessor_config.json");
        let inside = self.path("preprocessor_config.json");
        if !self.files.exists(&inside) && self.files.exists(&sibling) { sibling } else { inside }
    }
}
