//! Which endpoint a call means, and what is asked for there.

use crate::endpoint::Task;
use crate::endpoint::{Endpoint, Served, join};
use crate::output::error::ApiError;
use crate::routing::target::Application;
use crate::state::Api;
use latentd_request::Limits;

/// A task of an endpoint that is served here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServedEndpoint<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) task: Task,
    /// What can be asked of the model that answers.
    pub(crate) limits: &'a Limits,
    /// How many blocks its transformer has.
    pub(crate) layers: usize,
    /// The name of that model, where it stands in for the published one.
    pub(crate) stand_in: Option<&'a str>,
    /// Names of the operator's LoRA adapters.
    pub(crate) lora_names: &'a [String],
    /// Names of the operator's ControlNets.
    pub(crate) controlnet_names: &'a [String],
    /// Names of the operator's IP-Adapters.
    pub(crate) ip_adapter_names: &'a [String],
}

impl<'a> ServedEndpoint<'a> {
    /// A task of an endpoint; `None` where no model answers there.
    pub(crate) fn new(endpoint: &'a Endpoint, task: Task) -> Option<Self> {
        let Served { stand_in, limits, layers } = endpoint.served.as_ref()?;
        let (stand_in, layers) = (stand_in.as_deref(), *layers);
        let (lora_names, controlnet_names, ip_adapter_names) = (&[], &[], &[]);
        Some(Self {
            endpoint,
            task,
            limits,
            layers,
            stand_in,
            lora_names,
            controlnet_names,
            ip_adapter_names,
        })
    }

    /// With the names that the operator gave adapters.
    fn named(self, api: &'a Api) -> Self {
        let Api { lora_names, controlnet_names, ip_adapter_names, .. } = api;
        Self { lora_names, controlnet_names, ip_adapter_names, ..self }
    }
}

impl ServedEndpoint<'_> {
    /// The id by which programs call it.
    pub(crate) fn id(&self) -> String {
        join(&self.endpoint.id(), self.task.path())
    }

    /// What fal calls its input in documents: `StableDiffusionV35LargeInput`.
    pub(crate) fn input_name(&self) -> String {
        format!("{}Input", self.camel_case())
    }

    /// What fal calls the output of its application in documents: `StableDiffusionV35LargeOutput`.
    pub(crate) fn output_name(&self) -> String {
        format!("{}Output", camel_case(&self.endpoint.application))
    }

    /// Its id as one word: `StableDiffusionV35LargeTurbo`.
    pub(crate) fn camel_case(&self) -> String {
        camel_case(&self.id())
    }
}

/// What an application is for, if it is served here.
pub(crate) fn find<'a>(api: &'a Api, application: &Application) -> Result<ServedEndpoint<'a>, ApiError> {
    let Application { id, path } = application;
    let served = || all(&api.endpoints).map(|route| route.id()).collect();
    let mut of_application = api.endpoints.iter().filter(|endpoint| endpoint.application == *id).peekable();
    if of_application.peek().is_none() {
        let what = format!("Application {:?}", application.alias());
        return Err(ApiError::UnknownEndpoint { what, served: served() });
    }
    let found = of_application.find_map(|endpoint| Some((endpoint, task(endpoint, path)?)));
    let Some((endpoint, task)) = found else {
        return Err(ApiError::UnknownEndpoint { what: format!("Path /{path}"), served: served() });
    };
    let found = ServedEndpoint::new(endpoint, task).ok_or_else(|| not_served(api, endpoint, application))?;
    Ok(found.named(api))
}

/// Whether this is the id of an endpoint.
pub(crate) fn names(endpoint: &Endpoint, id: &str) -> bool {
    endpoint.id() == id
}

/// Everything that is served here.
pub(crate) fn all(endpoints: &[Endpoint]) -> impl Iterator<Item = ServedEndpoint<'_>> {
    endpoints
        .iter()
        .flat_map(|endpoint| tasks(endpoint).filter_map(move |task| ServedEndpoint::new(endpoint, task)))
}

/// The same with the names that the operator gave adapters.
pub(crate) fn all_named(api: &Api) -> impl Iterator<Item = ServedEndpoint<'_>> {
    all(&api.endpoints).map(|route| route.named(api))
}

fn tasks(endpoint: &Endpoint) -> impl Iterator<Item = Task> {
    Task::ALL.into_iter().filter(|task| endpoint.image_to_image || !task.has_image())
}

fn task(endpoint: &Endpoint, path: &str) -> Option<Task> {
    tasks(endpoint).find(|task| path == join(&endpoint.path, task.path()))
}

/// As for an application or a path that is not there, and what to do about it.
fn not_served(api: &Api, endpoint: &Endpoint, application: &Application) -> ApiError {
    let is_application_served =
        api.endpoints.iter().any(|other| other.application == application.id && other.served.is_some());
    let what = match is_application_served {
        true => format!("Path /{}", application.path),
        false => format!("Application {:?}", application.alias()),
    };
    ApiError::NotServed { what, model: endpoint.model.clone() }
}

/// `fal-ai/stable-diffusion-v35-large` as `StableDiffusionV35Large`.
fn camel_case(id: &str) -> String {
    let words = id.split('/').skip(1).flat_map(|piece| piece.split('-'));
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect::<String>()
    };
    words.map(capital).collect()
}
