//! The safety checker: a classifier looks at every finished picture, and an unsafe one is made black.

mod config;
mod preprocess;
#[cfg(test)]
mod tests;
mod vit;

use crate::config::read;
use crate::files::ModelFiles;
use crate::layers::softmax;
use crate::weights::{self, Stored, Target, Weights};
use crate::{Error, ModelSource, Picture, Result};
use candle_core::DType;
use config::{PreprocessorConfig, VitConfig};
use preprocess::Preprocessor;
use std::path::{Path, PathBuf};
use vit::Vit;

/// Where a model keeps a checker of its own.
const PART: &str = "safety_checker";

/// Which classifier looks at pictures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SafetySource {
    /// The one in the model's own folder `safety_checker/`, if it has that.
    Own,
    /// None.
    Nobody,
    /// A directory with `config.json`, `preprocessor_config.json` and `model.safetensors`.
    Directory(PathBuf),
}

/// Which pictures are checked, by what, and how strictly.
#[derive(Debug, Clone, PartialEq)]
pub struct SafetyOptions {
    /// What looks at them.
    pub source: SafetySource,
    /// A picture is unsafe above this probability.
    pub threshold: f64,
    /// Check pictures of requests that ask not to be checked too; without a checker nothing is painted.
    pub forced: bool,
}

/// What a classifier's score is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// That the picture is unsafe, 0 to 1; the operator's threshold decides.
    Probability,
    /// By how much the picture's cosine to the nearest unsafe concept exceeds that concept's own threshold, -2 to 2:
    /// unsafe above 0.
    Margin,
}

/// What the checker thinks of one picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// The larger, the less safe.
    pub score: f32,
    /// What the score is.
    pub measure: Measure,
    /// Whether it was made black.
    pub flagged: bool,
}

impl SafetyOptions {
    /// Looks at the files without loading a tensor: configs, labels, and every tensor's name and shape. Returns whether
    /// there is a checker.
    ///
    /// # Errors
    /// What does not fit, or that a forced checker is not there.
    pub fn verify(&self, model: &ModelSource) -> Result<bool> {
        let Some(place) = self.find(&model.files()?)? else { return Ok(false) };
        let (config, _) = place.configs()?;
        let weights = place.weights(&Target::host())?;
        Vit::expect(&weights, &config);
        weights::check(&weights.problems())?;
        Ok(true)
    }

    /// The checker's tensors as their files have them, if there is one.
    pub(crate) fn stored(&self, model: &ModelSource) -> Result<Option<Vec<Stored>>> {
        let place = self.find(&model.files()?)?;
        place.map(|place| Ok(place.weights(&Target::host())?.stored())).transpose()
    }

    /// The folder of the checker, if there is one.
    fn find(&self, model: &ModelFiles) -> Result<Option<Place>> {
        let place = match &self.source {
            SafetySource::Own if model.has_folder(PART) => {
                Some(Place { files: model.clone(), part: PART.into() })
            }
            SafetySource::Own | SafetySource::Nobody => None,
            SafetySource::Directory(dir) => Some(Place::directory(dir)?),
        };
        match place {
            None if self.forced => Err(Error::Model(format!(
                "a safety checker is forced, but there is none: {} has no folder {PART}/",
                model.display("")
            ))),
            place => Ok(place),
        }
    }
}

/// A folder with a classifier.
struct Place {
    files: ModelFiles,
    part: String,
}

impl Place {
    fn directory(dir: &Path) -> Result<Self> {
        let path = dir.canonicalize().map_err(|source| Error::Io { path: dir.to_path_buf(), source })?;
        match (path.parent(), path.file_name().and_then(|name| name.to_str())) {
            (Some(parent), Some(name)) if path.is_dir() => {
                Ok(Self { files: ModelFiles::Directory(parent.to_path_buf()), part: name.into() })
            }
            _ => Err(Error::Model(format!("{} is not a directory of a classifier", dir.display()))),
        }
    }

    fn configs(&self) -> Result<(VitConfig, PreprocessorConfig)> {
        let path = |name: &str| format!("{}/{name}", self.part);
        let (model, preprocessor) = (path("config.json"), path("preprocessor_config.json"));
        let wrong = |path: &str, why| Error::Model(format!("{}: {why}", self.files.display(path)));
        let config: VitConfig = read(&self.files, &model)?;
        config.check().map_err(|why| wrong(&model, why))?;
        let processing: PreprocessorConfig = read(&self.files, &preprocessor)?;
        processing.check(&config).map_err(|why| wrong(&preprocessor, why))?;
        Ok((config, processing))
    }

    fn weights(&self, target: &Target) -> Result<Weights> {
        Weights::open(&self.files, &self.part, "model", target)
    }
}

/// A loaded classifier with its orders.
pub(crate) struct SafetyChecker {
    preprocessor: Preprocessor,
    vit: Vit,
    unsafe_label: usize,
    threshold: f64,
    /// Whether requests have no say.
    pub(crate) forced: bool,
}

impl SafetyChecker {
    /// Loads the checker that `options` name beside the model in `files`, if there is one.
    pub(crate) fn load(files: &ModelFiles, options: &SafetyOptions, target: &Target) -> Result<Option<Self>> {
        let Some(place) = options.find(files)? else { return Ok(None) };
        let (config, processing) = place.configs()?;
        // In f32 whatever the model paints in, so that a picture has one verdict.
        let target = Target { dtype: DType::F32, ops: target.ops.unquantised(), ..target.clone() };
        let weights = place.weights(&target)?;
        let path = place.files.display(&format!("{}/config.json", place.part));
        let vit = Vit::load(&weights, &config).map_err(|e| Error::Model(format!("{path}: {e}")))?;
        weights::check(&weights.problems())?;
        Ok(Some(Self {
            preprocessor: Preprocessor::new(&processing),
            vit,
            unsafe_label: config.unsafe_label().map_err(Error::Model)?,
            threshold: options.threshold,
            forced: options.forced,
        }))
    }

    /// Looks at each picture and makes the unsafe ones black.
    pub(crate) fn judge(&self, pictures: &mut [Picture]) -> Result<Vec<Verdict>> {
        let judge = |picture: &mut Picture| {
            let score = self.score(picture)?;
            // A score that is not a number must not let a picture pass.
            let flagged = f64::from(score).partial_cmp(&self.threshold).is_none_or(|order| order.is_gt());
            if flagged {
                picture.rgb.fill(0);
            }
            Ok(Verdict { score, measure: Measure::Probability, flagged })
        };
        pictures.iter_mut().map(judge).collect()
    }

    /// Whether a preview is far from being found unsafe: its score is at most half of the threshold.
    pub(crate) fn clears(&self, preview: &Picture) -> Result<bool> {
        Ok(f64::from(self.score(preview)?) <= self.threshold / 2.0)
    }

    /// The probability of the unsafe label.
    fn score(&self, picture: &Picture) -> Result<f32> {
        let logits = self.vit.logits(&self.preprocessor.pixels(picture)?)?;
        Ok(softmax(&logits)?.to_vec1::<f32>()?[self.unsafe_label])
    }
}
