//! `--model`: which models are meant, and which of them answers for which endpoint of fal.

use super::{ConfigError, ModelLocation, refuse};
use crate::args::EngineArgs;
use crate::model_error::ModelError;
use latentd_fal::endpoint::Published;
use latentd_hub::is_repository;
use latentd_models::{Manifest, ModelCard, ModelSource};
use latentd_request::Limits;
use std::fmt;
use std::path::Path;

/// What separates models in one value, as a variable of the environment has them.
const SEPARATOR: char = ',';

/// Largest shift of a noise schedule; published models have 1 to 7.
const MAX_SHIFT: f64 = 100.0;

/// A model that the command line names.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedModel {
    /// The published model that it is, where the flag names one.
    pub published: Option<&'static Manifest>,
    /// Where it is.
    pub location: ModelLocation,
}

/// A model to serve.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Where it is.
    pub source: ModelSource,
    /// The limits of requests.
    pub card: ModelCard,
    /// The published models for which it answers: itself, or with `mini` whatever no other model answers for.
    pub answers_for: Vec<&'static Manifest>,
}

/// Why models cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ModelsError {
    /// The command line.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A model's description.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl From<latentd_models::Error> for ModelsError {
    fn from(error: latentd_models::Error) -> Self {
        Self::Model(error.into())
    }
}

/// As the command line takes it.
impl fmt::Display for NamedModel {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.published {
            Some(manifest) => write!(out, "{}={}", manifest.name, self.location),
            None => write!(out, "{}", self.location),
        }
    }
}

impl Model {
    /// What log lines call it.
    pub fn name(&self) -> &str {
        let published = self.answers_for.first().map(|manifest| manifest.name.as_str());
        self.stand_in().or(published).unwrap_or(&self.card.name)
    }

    /// Its name, if it is none of the published models.
    pub fn stand_in(&self) -> Option<&str> {
        stand_in(&self.source, &self.card)
    }

    /// The permitted image sizes.
    pub fn limits(&self) -> Limits {
        limits(&self.source, &self.card)
    }
}

/// The name of a model that is none of the published ones: the built-in one.
pub(crate) fn stand_in<'a>(source: &ModelSource, card: &'a ModelCard) -> Option<&'a str> {
    matches!(source, ModelSource::Builtin).then_some(card.name.as_str())
}

/// The permitted image sizes of a model. The built-in one is for trying programs, so it takes every size that fal takes.
pub(crate) fn limits(source: &ModelSource, card: &ModelCard) -> Limits {
    match source {
        ModelSource::Builtin => Limits::scaled(card.max_side),
        _ => Limits::of_model(card.max_side),
    }
}

/// The models that `--model` names, each given by itself or several with commas between.
pub(super) fn several(args: &EngineArgs) -> Result<Vec<NamedModel>, ConfigError> {
    with_text_encoders(all(&args.model, &args.hub.revision)?, args.text_encoders.as_deref())
}

fn all(texts: &[String], revision: &str) -> Result<Vec<NamedModel>, ConfigError> {
    let pieces = texts.iter().flat_map(|text| match is_there(text) {
        true => vec![text.as_str()], // a comma in a name
        false => text.split(SEPARATOR).map(str::trim).filter(|piece| !piece.is_empty()).collect(),
    });
    let named = pieces.map(|piece| named(piece, revision)).collect::<Result<Vec<_>, _>>()?;
    if named.is_empty() {
        return refuse("--model: name a model, such as `mini`".into());
    }
    Ok(named)
}

/// The one model that `--model` names.
pub(super) fn one(args: &EngineArgs) -> Result<ModelLocation, ConfigError> {
    sole(&several(args)?)
}

/// The one model of a command that has no flags of the engine.
pub(crate) fn single(
    text: &str,
    text_encoders: Option<&Path>,
    revision: &str,
) -> Result<NamedModel, ConfigError> {
    let models = all(&[text.to_owned()], revision).and_then(|models| {
        sole(&models)?;
        Ok(models)
    });
    let models = models.map_err(|error| match error.0.strip_prefix("--model ") {
        Some(words) => ConfigError(words.to_owned()), // there it is no flag
        None => error,
    })?;
    let mut models = with_text_encoders(models, text_encoders)?;
    Ok(models.remove(0))
}

fn sole(models: &[NamedModel]) -> Result<ModelLocation, ConfigError> {
    match models {
        [NamedModel { location, .. }] => Ok(location.clone()),
        models => refuse(format!("--model: this command takes one model, and {} are named", models.len())),
    }
}

/// The models whose files are here, each with its endpoints; those that are still to be downloaded count as far as they
/// are known by their names. Reads the models' descriptions, not their weights.
///
/// # Errors
/// A model's description cannot be read, or two models would answer for one endpoint.
pub(crate) fn assign(named: &[NamedModel]) -> Result<Vec<Model>, ModelsError> {
    let local = assign_known(named)?.into_iter().filter_map(|Assigned { location, card, answers_for }| {
        Some(Model { source: location.local()?.clone(), card: card?, answers_for })
    });
    Ok(local.collect())
}

/// A model, which may have to be downloaded, with its endpoints.
struct Assigned {
    location: ModelLocation,
    /// `None`: it has to be downloaded.
    card: Option<ModelCard>,
    answers_for: Vec<&'static Manifest>,
}

fn assign_known(named: &[NamedModel]) -> Result<Vec<Assigned>, ModelsError> {
    let mut models = Vec::new();
    let mut stand_in = None;
    for NamedModel { published, location } in named {
        let card = location.local().map(ModelCard::read).transpose()?;
        let answers_for = match (published, location) {
            (Some(manifest), _) => vec![*manifest],
            (None, ModelLocation::Local(ModelSource::Builtin)) => {
                if stand_in.replace(models.len()).is_some() {
                    return Ok(refuse("--model mini is given twice".into())?);
                }
                Vec::new()
            }
            (None, ModelLocation::Local(source)) => card.iter().map(|card| card.identify(source)).collect(),
            (None, ModelLocation::Hub { .. }) => Vec::new(),
        };
        models.push(Assigned { location: location.clone(), card, answers_for });
    }
    check_one_each(&models)?;
    if let Some(index) = stand_in {
        let is_free = |manifest: &&Manifest| !models.iter().any(|model| model.answers_for.contains(manifest));
        let free: Vec<_> = Manifest::all().iter().filter(is_free).collect();
        if free.is_empty() {
            let words = "--model mini: the other models answer for every endpoint; leave it out";
            return Ok(refuse(words.into())?);
        }
        models[index].answers_for = free;
    }
    Ok(models)
}

fn check_one_each(models: &[Assigned]) -> Result<(), ConfigError> {
    for manifest in Manifest::all() {
        let places: Vec<_> = models.iter().filter(|model| model.answers_for.contains(&manifest)).collect();
        if let [first, second, ..] = places.as_slice() {
            return refuse(format!(
                "--model {} and --model {} would both answer for {}: leave one out, or say which published model it is, as in --model {}={}",
                first.location,
                second.location,
                published_endpoint(manifest).id(),
                another(manifest).name,
                second.location
            ));
        }
    }
    Ok(())
}

/// fal's endpoint of a published model.
pub(crate) fn published_endpoint(manifest: &Manifest) -> &'static Published {
    Published::of(&manifest.name).expect("every manifest has an endpoint, as a test shows")
}

/// A published model for an example: not this one.
fn another(than: &Manifest) -> &'static Manifest {
    let mut others = Manifest::all().iter().rev().filter(|manifest| *manifest != than);
    others.next().unwrap_or(&Manifest::all()[0])
}

/// A model in a `NAME=PLACE` or a `PLACE`.
fn named(text: &str, revision: &str) -> Result<NamedModel, ConfigError> {
    let pair = text.split_once('=').filter(|_| !Path::new(text).exists());
    let Some((name, place)) = pair else {
        let location = location(text, text, revision)?;
        let published = Manifest::find(text).filter(|_| location.local().is_none());
        return Ok(NamedModel { published, location });
    };
    let Some(manifest) = Manifest::find(name) else {
        let known: Vec<_> = Manifest::all().iter().map(|manifest| manifest.name.as_str()).collect();
        let known = known.join("`, `");
        return refuse(format!("--model {text}: {name} is no published model; there are `{known}`"));
    };
    Ok(NamedModel { published: Some(manifest), location: location(text, place, revision)? })
}

/// Does the whole text name something on disk?
fn is_there(text: &str) -> bool {
    let place = text.split_once('=').filter(|(name, _)| Manifest::find(name).is_some());
    Path::new(text).exists() || place.is_some_and(|(_, place)| Path::new(place).exists())
}

/// The model that a path or a name stands for; nothing is downloaded. `text` is the flag's value, for messages.
fn location(text: &str, place: &str, revision: &str) -> Result<ModelLocation, ConfigError> {
    if place == "mini" {
        return Ok(ModelLocation::Local(ModelSource::Builtin));
    }
    let path = std::path::absolute(place).map_err(|error| ConfigError(format!("--model {text}: {error}")))?;
    if path.is_dir() {
        return Ok(ModelLocation::Local(ModelSource::Directory(path)));
    }
    if path.is_file() {
        return Ok(ModelLocation::Local(ModelSource::Checkpoint { file: path, text_encoders: None }));
    }
    let of_manifest = Manifest::find(place).map(|manifest| manifest.repository.clone());
    if let Some(repository) = of_manifest.or_else(|| is_repository(place).then(|| place.to_owned())) {
        return Ok(ModelLocation::Hub { repository, revision: revision.into() });
    }
    let names: Vec<_> = Manifest::all().iter().map(|manifest| manifest.name.as_str()).collect();
    refuse(format!(
        "--model {text}: there is no such directory or file; give `mini` (built in), a directory in the diffusers layout, a checkpoint file, a hub id OWNER/NAME, or one of {}",
        names.join(", ")
    ))
}

/// Gives the checkpoints among the models what `--text-encoders` names.
fn with_text_encoders(models: Vec<NamedModel>, dir: Option<&Path>) -> Result<Vec<NamedModel>, ConfigError> {
    let Some(dir) = dir else { return Ok(models) };
    let shown = dir.display();
    let dir =
        std::path::absolute(dir).map_err(|error| ConfigError(format!("--text-encoders {shown}: {error}")))?;
    if !dir.is_dir() {
        return refuse(format!("--text-encoders {shown}: give a directory, and there is no such directory"));
    }
    if !models.iter().any(is_checkpoint) {
        return refuse(format!(
            "--text-encoders {shown}: it belongs to a checkpoint file, and --model names none: leave it out"
        ));
    }
    let given = |model: NamedModel| match model.location {
        ModelLocation::Local(source) => {
            NamedModel { location: ModelLocation::Local(source.with_text_encoders(&dir)), ..model }
        }
        ModelLocation::Hub { .. } => model,
    };
    Ok(models.into_iter().map(given).collect())
}

fn is_checkpoint(model: &NamedModel) -> bool {
    matches!(model.location, ModelLocation::Local(ModelSource::Checkpoint { .. }))
}

/// The value of `--shift`.
pub(super) fn shift(args: &EngineArgs) -> Result<Option<f64>, ConfigError> {
    let Some(text) = args.shift.as_deref().map(str::trim) else { return Ok(None) };
    let shift = match text.parse::<f64>() {
        Ok(shift) if shift > 0.0 && shift <= MAX_SHIFT => shift,
        _ => return refuse(format!("--shift {text}: give a number above 0 up to {MAX_SHIFT}, such as 3")),
    };
    if !all(&args.model, &args.hub.revision)?.iter().any(is_checkpoint) {
        return refuse(format!(
            "--shift {text}: it belongs to a checkpoint file, and --model names none: leave it out, and set it in \
             scheduler/scheduler_config.json of a directory"
        ));
    }
    Ok(Some(shift))
}

#[cfg(test)]
mod tests;
