//! The safety checker: a classifier checks every finished image, and an unsafe one is made black.

mod classifier_folder;
mod clip;
mod clip_config;
mod concepts;
mod config;
#[cfg(test)]
mod golden_images;
#[cfg(test)]
mod published;
#[cfg(test)]
mod tests;
mod vit;
mod vit_config;

use crate::files::{ModelFiles, SAFETY_CHECKER};
use crate::target::Target;
use crate::vision::Preprocessor;
use crate::weight_file::TensorHeader;
use crate::weights::{self, Weights};
use crate::{Error, Image, ModelSource, Result, Stage, finite};
use candle_core::DType;
use classifier_folder::ClassifierFolder;
use clip::Clip;
use config::Config;
use std::path::PathBuf;
use vit::Vit;

/// The probability above which an image is unsafe where none is set.
const THRESHOLD: f64 = 0.5;

/// A preview is shown where its margin is at most this: twice what diffusers' rule adds where it is strict.
const CLEAR_MARGIN: f32 = -0.02;

/// Which classifier checks images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SafetySource {
    /// The one in the model's own folder `safety_checker/`, if it has that.
    Own,
    /// None.
    Disabled,
    /// A directory with `config.json`, `preprocessor_config.json` and `model.safetensors`: a ViT classifier of
    /// transformers, or CompVis' checker. The second file may be in a folder `feature_extractor/` beside the directory.
    Directory(PathBuf),
}

/// Which images are checked, by what, and how strictly.
#[derive(Debug, Clone, PartialEq)]
pub struct SafetyOptions {
    /// The classifier.
    pub source: SafetySource,
    /// An image is unsafe above this probability; 0.5 if none is given. A checker without probabilities refuses one.
    pub threshold: Option<f64>,
    /// Check images of requests that ask not to be checked too; without a checker nothing is generated.
    pub forced: bool,
}

/// What a classifier's score is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// That the image is unsafe, 0 to 1; the operator's threshold decides.
    Probability,
    /// By how much the image's cosine to the nearest unsafe concept exceeds that concept's own threshold, -2 to 2:
    /// unsafe above 0.
    Margin,
}

/// The checker's result for one image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SafetyVerdict {
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
        let Some(folder) = self.find(&model.files()?)? else { return Ok(false) };
        self.check(&folder)?;
        Ok(true)
    }

    /// What does not fit, of the folder or of these options for it.
    fn check(&self, folder: &ClassifierFolder) -> Result<()> {
        let (config, _) = folder.configs()?;
        if let (Some(threshold), Config::Clip(_)) = (self.threshold, &config) {
            return Err(Error::NoProbability { threshold, checker: folder.display() });
        }
        let weights = folder.weights(&Target::host())?;
        match &config {
            Config::Vit(config) => Vit::expect(&weights, config),
            Config::Clip(config) => Clip::expect(&weights, config),
        }
        weights::check(&weights.problems())
    }

    /// The checker's tensors as their files have them, if there is one.
    pub(crate) fn stored(&self, model: &ModelSource) -> Result<Option<Vec<TensorHeader>>> {
        let folder = self.find(&model.files()?)?;
        folder.map(|folder| Ok(folder.weights(&Target::host())?.stored())).transpose()
    }

    /// The folder of the checker, if there is one.
    fn find(&self, model: &ModelFiles) -> Result<Option<ClassifierFolder>> {
        let folder = match &self.source {
            SafetySource::Own if model.has_folder(SAFETY_CHECKER) => Some(ClassifierFolder::of_model(model)),
            SafetySource::Own | SafetySource::Disabled => None,
            SafetySource::Directory(dir) => Some(ClassifierFolder::directory(dir)?),
        };
        match folder {
            None if self.forced => Err(Error::Model(format!(
                "a safety checker is forced, but there is none: {} has no folder {SAFETY_CHECKER}/",
                model.display("")
            ))),
            folder => Ok(folder),
        }
    }
}

/// The classifier's network.
enum Network {
    Vit(Vit),
    Clip(Clip),
}

impl Network {
    fn load(weights: &Weights, config: &Config) -> candle_core::Result<Self> {
        match config {
            Config::Vit(config) => Vit::load(weights, config).map(Self::Vit),
            Config::Clip(config) => Clip::load(weights, config).map(Self::Clip),
        }
    }
}

/// A loaded classifier with its settings.
pub(crate) struct SafetyChecker {
    preprocessor: Preprocessor,
    network: Network,
    threshold: f64,
    /// Whether a request cannot turn it off.
    pub(crate) forced: bool,
}

impl SafetyChecker {
    /// Loads the checker that `options` name beside the model in `files`, if there is one.
    pub(crate) fn load(files: &ModelFiles, options: &SafetyOptions, target: &Target) -> Result<Option<Self>> {
        let Some(folder) = options.find(files)? else { return Ok(None) };
        options.check(&folder)?; // before memory is taken for what the configuration claims
        let (config, processing) = folder.configs()?;
        // In f32 whatever the model generates in, so that an image has one verdict.
        let target = Target { dtype: DType::F32, ops: target.ops.unquantised(), ..target.clone() };
        let weights = folder.weights(&target)?;
        let network = Network::load(&weights, &config)
            .map_err(|error| Error::from(error).blaming(folder.display_config()))?;
        weights::check(&weights.problems())?;
        Ok(Some(Self {
            preprocessor: Preprocessor::new(processing),
            network,
            threshold: options.threshold.unwrap_or(THRESHOLD),
            forced: options.forced,
        }))
    }

    /// Checks each image and makes the unsafe ones black.
    ///
    /// # Errors
    /// [`Error::NonFinite`] if a score is no number: that is no verdict, neither way.
    pub(crate) fn check(&self, images: &mut [Image]) -> Result<Vec<SafetyVerdict>> {
        let check = |image: &mut Image| {
            let (score, measure) = self.score(image)?;
            finite::check_values(&[score], Stage::SafetyChecker)?;
            let limit = match measure {
                Measure::Probability => self.threshold,
                Measure::Margin => 0.0,
            };
            let flagged = f64::from(score) > limit;
            if flagged {
                image.rgb.fill(0);
            }
            Ok(SafetyVerdict { score, measure, flagged })
        };
        images.iter_mut().map(check).collect()
    }

    /// Whether a preview is far from being found unsafe: its probability is at most half of the threshold, or its margin
    /// well below 0.
    pub(crate) fn clears(&self, preview: &Image) -> Result<bool> {
        Ok(match self.score(preview)? {
            (score, Measure::Probability) => f64::from(score) <= self.threshold / 2.0,
            (score, Measure::Margin) => score <= CLEAR_MARGIN,
        })
    }

    fn score(&self, image: &Image) -> Result<(f32, Measure)> {
        let pixels = self.preprocessor.pixels(image)?;
        Ok(match &self.network {
            Network::Vit(vit) => (vit.probability(&pixels)?, Measure::Probability),
            Network::Clip(clip) => (clip.margin(&pixels)?, Measure::Margin),
        })
    }
}
