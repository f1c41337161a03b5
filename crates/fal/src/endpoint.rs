//! The endpoints of fal that are known: which published model answers there, and what is filled in and allowed.

mod published;
mod task;

pub use published::Published;
pub(crate) use task::Task;

use latentd_request::Limits;
use std::ops::RangeInclusive;

/// An endpoint of one published model.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// The model that answers: `stable-diffusion-3.5-large`.
    pub model: String,
    /// The model, for people.
    pub title: String,
    /// When the published model was released, in seconds since 1970.
    pub released: i64,
    /// Owner and name: `fal-ai/stable-diffusion-v35-large`.
    pub application: String,
    /// What follows them: nothing, or `turbo`.
    pub path: String,
    /// Are there endpoints below this one that start from an image?
    pub image_to_image: bool,
    /// Denoising steps that a request may ask for.
    pub steps: RangeInclusive<i64>,
    /// Denoising steps when none are asked for.
    pub default_steps: i64,
    /// Guidance scales that a request may ask for.
    pub guidance: RangeInclusive<f64>,
    /// Guidance scale when none is asked for.
    pub default_guidance: f64,
    /// The model that answers, if there is one here.
    pub served: Option<Served>,
}

/// A model that answers at an endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Served {
    /// Its name, where it stands in for the published one.
    pub stand_in: Option<String>,
    /// What can be asked of it.
    pub limits: Limits,
    /// How many blocks its transformer has.
    pub layers: usize,
}

impl Endpoint {
    /// Every endpoint that is known; `served` returns the model that serves in place of the published one of a name.
    pub fn known(served: impl Fn(&str) -> Option<Served>) -> Vec<Self> {
        let integer = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let endpoint = |published: &Published| Self {
            model: published.model.into(),
            title: published.title.into(),
            released: published.released,
            application: published.application.into(),
            path: published.path.into(),
            image_to_image: published.image_to_image,
            steps: 1..=integer(published.max_steps),
            default_steps: integer(published.steps),
            guidance: 0.0..=published.max_guidance,
            default_guidance: published.guidance,
            served: served(published.model),
        };
        Published::all().iter().map(endpoint).collect()
    }

    /// The name of the model that answers; without one, of that which would.
    pub fn answering(&self) -> &str {
        let stand_in = self.served.as_ref().and_then(|served| served.stand_in.as_deref());
        stand_in.unwrap_or(&self.model)
    }

    /// The title of the model that answers, for people.
    pub fn answering_title(&self) -> String {
        match self.served.as_ref().and_then(|served| served.stand_in.as_ref()) {
            Some(stand_in) => format!("{stand_in}, in place of {}", self.title),
            None => self.title.clone(),
        }
    }

    /// Its id, with everything that follows the application.
    pub fn id(&self) -> String {
        join(&self.application, &self.path)
    }
}

impl Served {
    /// The published model itself.
    pub fn published(limits: Limits, layers: usize) -> Self {
        Self { stand_in: None, limits, layers }
    }
}

/// Two pieces of an id.
pub(crate) fn join(above: &str, below: &str) -> String {
    let separator = if above.is_empty() || below.is_empty() { "" } else { "/" };
    format!("{above}{separator}{below}")
}
