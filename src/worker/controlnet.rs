//! Fetches the ControlNet of a request and its control image, by the same rules and into the same cache as LoRA adapters.

use super::adapters::{self, NotLoaded};
use super::{Worker, init_image, with_retry};
use crate::adapters::HeldFile;
use crate::engine::ControlNet;
use crate::image_file;
use crate::queue::{Failure, FailureKind, Observation};
use latentd_request::{AdapterFlaw, AdapterProblem, AdapterSource, ControlNetRef};
use std::path::PathBuf;

/// What diffusers calls the weights of a model, and their config in the same folder.
const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";
const CONFIG: &str = "config.json";

/// A ControlNet on this machine, whose files stay while they are held.
pub(super) struct FetchedNet {
    pub(super) net: ControlNet,
    pub(super) held: Vec<HeldFile>,
}

/// The failure of a request whose ControlNet cannot be used. What names it is in the detail, which is erased with the input.
pub(super) fn failure(flaw: AdapterFlaw, message: String) -> Failure {
    let problem = AdapterProblem { index: None, flaw, message };
    Failure { detail: serde_json::to_value(problem).ok(), ..Failure::of(FailureKind::ControlNet) }
}

/// Fetches files and image; `is_private` keeps what the request brings for it alone.
pub(super) async fn fetch(
    worker: &Worker,
    reference: &ControlNetRef,
    is_private: bool,
) -> Result<FetchedNet, Failure> {
    let ControlNetRef { name, source, image, scale, start, end, .. } = reference;
    let image = with_retry(|| init_image::load(worker, image, image_file::decode)).await;
    let image = image.map_err(|why| why.failure(FailureKind::ControlImage))?;
    let files = with_retry(|| files(worker, source, is_private)).await.map_err(|why| match why.flaw() {
        Ok((flaw, why)) => failure(flaw, format!("the ControlNet {name}: {why}")),
        Err(other) => other.failure(),
    })?;
    let (weights, config, from) = files;
    tracing::info!(controlnet = name, scale, from, "a ControlNet is ready");
    if let Err(error) = worker.queue.observe(&Observation::adapter(from)).await {
        tracing::warn!(%error, "a ControlNet was not counted");
    }
    let path = |file: &HeldFile| -> PathBuf { file.path().to_owned() };
    let net = ControlNet {
        name: name.clone(),
        path: path(&weights),
        config: config.as_ref().map(path),
        image,
        scale: *scale,
        start: *start,
        end: *end,
    };
    Ok(FetchedNet { net, held: std::iter::once(weights).chain(config).collect() })
}

/// Weights and config, and in a word where they are from. A file that a client brings has no config beside it.
async fn files(
    worker: &Worker,
    source: &AdapterSource,
    is_private: bool,
) -> Result<(HeldFile, Option<HeldFile>, &'static str), NotLoaded> {
    let (repository, file) = match source {
        AdapterSource::Hub { repository, file } => (repository, file),
        AdapterSource::Named(name) => match worker.adapters.controlnets.get(name) {
            Some(path) => return Ok((HeldFile::outside(path.clone()), None, "name")),
            None => return Err(NotLoaded::UnnamedControlNet(name.clone())),
        },
        AdapterSource::File(_) => {
            let (weights, from) = adapters::file(worker, source, is_private).await?;
            return Ok((weights, None, from));
        }
    };
    let weights = file.as_deref().unwrap_or(WEIGHTS);
    let config = match weights.rsplit_once('/') {
        Some((folder, _)) => format!("{folder}/{CONFIG}"),
        None => CONFIG.to_owned(),
    };
    let of = |file: &str| AdapterSource::Hub { repository: repository.clone(), file: Some(file.to_owned()) };
    // The small file first: a repository without it is no ControlNet in this layout.
    let (config, _) = adapters::file(worker, &of(&config), is_private).await?;
    let (weights, from) = adapters::file(worker, &of(weights), is_private).await?;
    Ok((weights, Some(config), from))
}
