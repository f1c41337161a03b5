//! Fetches the ControlNet of a request and its control image, by the same rules and into the same cache as LoRA adapters.

use super::adapters::{self, Beside, NotLoaded};
use super::{Worker, init_image, with_retry};
use crate::adapters::HeldFile;
use crate::engine::ControlNet;
use crate::image_file;
use crate::queue::{Failure, FailureKind};
use latentd_request::{AdapterSource, ControlNetRef, Source};
use std::path::PathBuf;

/// What diffusers calls the weights of a model, and their config in the same folder.
const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";
const CONFIG: &str = "config.json";

/// A ControlNet on this machine, whose files stay while they are held.
pub(super) struct FetchedNet {
    pub(super) net: ControlNet,
    pub(super) held: Vec<HeldFile>,
}

/// What files of images say of it later: not the data inside its request, which may be megabytes.
pub(super) fn without_data(reference: ControlNetRef) -> Option<ControlNetRef> {
    let is_file = matches!(reference.source, AdapterSource::File(_));
    (!is_file).then(|| ControlNetRef { image: Source::Inline(String::new()), ..reference })
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
    let files = with_retry(|| files(worker, source, is_private)).await;
    let (weights, config, from) =
        files.map_err(|why| why.failure_of(FailureKind::ControlNet, &format!("the ControlNet {name}")))?;
    tracing::info!(controlnet = name, scale, from, "a ControlNet is ready");
    adapters::count(worker, from).await;
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
    match source {
        AdapterSource::Hub { repository, file } => {
            let weights = file.as_deref().unwrap_or(WEIGHTS);
            match adapters::with_configs(worker, (repository, weights), [CONFIG]).await {
                // A file that is named may be in the original layout, which has none.
                Err(NotLoaded::Absent(_)) if file.is_some() => {
                    without_config(worker, source, is_private).await
                }
                beside => {
                    let Beside { weights, configs: [config], from } = beside?;
                    Ok((weights, Some(config), from))
                }
            }
        }
        AdapterSource::Named(name) => match worker.adapters.controlnets.get(name) {
            Some(path) => Ok((HeldFile::outside(path.clone()), None, "name")),
            None => Err(NotLoaded::Unnamed("ControlNet", "--named-controlnet", name.clone())),
        },
        AdapterSource::File(_) => without_config(worker, source, is_private).await,
    }
}

async fn without_config(
    worker: &Worker,
    source: &AdapterSource,
    is_private: bool,
) -> Result<(HeldFile, Option<HeldFile>, &'static str), NotLoaded> {
    let (weights, from) = adapters::file(worker, source, is_private).await?;
    Ok((weights, None, from))
}
