//! Fetches the IP-Adapter of a request, its image encoder and its image prompt, by the same rules and into the same cache as
//! LoRA adapters.

use super::adapters::{self, Beside, NotLoaded};
use super::{Worker, init_image, with_retry};
use crate::adapters::HeldFile;
use crate::engine::{ImageEncoderFiles, IpAdapter};
use crate::image_file;
use crate::queue::{Failure, FailureKind};
use latentd_request::{AdapterSource, IpAdapterRef, Source};

/// What transformers calls the files beside the weights of an image encoder.
const CONFIGS: [&str; 2] = ["config.json", "preprocessor_config.json"];

/// An IP-Adapter on this machine, whose files stay while they are held.
pub(super) struct FetchedIpAdapter {
    pub(super) adapter: IpAdapter,
    pub(super) held: Vec<HeldFile>,
}

/// What files of images say of it later: not the data inside its request, which may be megabytes.
pub(super) fn without_data(reference: IpAdapterRef) -> Option<IpAdapterRef> {
    let is_file = matches!(reference.source, AdapterSource::File(_));
    (!is_file).then(|| IpAdapterRef { image: Source::Inline(String::new()), ..reference })
}

/// Fetches files and image; `is_private` keeps what the request brings for it alone.
pub(super) async fn fetch(
    worker: &Worker,
    reference: &IpAdapterRef,
    is_private: bool,
) -> Result<FetchedIpAdapter, Failure> {
    let IpAdapterRef { name, source, encoder_name, encoder, image, scale } = reference;
    let image = with_retry(|| init_image::load(worker, image, image_file::decode)).await;
    let image = image.map_err(|why| why.failure(FailureKind::ImagePrompt))?;
    let fetched = with_retry(|| encoder_files(worker, encoder_name, encoder, is_private)).await;
    let (encoder, mut held) = fetched.map_err(|why| {
        why.failure_of(FailureKind::ImageEncoder, &format!("the image encoder {encoder_name}"))
    })?;
    let fetched = with_retry(|| weights(worker, source, is_private)).await;
    let (weights, from) =
        fetched.map_err(|why| why.failure_of(FailureKind::IpAdapter, &format!("the IP-Adapter {name}")))?;
    tracing::info!(ip_adapter = name, scale, from, "an IP-Adapter is ready");
    adapters::count(worker, from).await;
    let path = weights.path().to_owned();
    held.push(weights);
    Ok(FetchedIpAdapter {
        adapter: IpAdapter { name: name.clone(), path, encoder, image, scale: *scale },
        held,
    })
}

/// The adapter's own file, or the folder that the operator named; and in a word where it is from.
async fn weights(
    worker: &Worker,
    source: &AdapterSource,
    is_private: bool,
) -> Result<(HeldFile, &'static str), NotLoaded> {
    match source {
        AdapterSource::Named(name) => match worker.adapters.ip_adapters.get(name) {
            Some(path) => Ok((HeldFile::outside(path.clone()), "name")),
            None => Err(unnamed(name)),
        },
        other => adapters::file(worker, other, is_private).await,
    }
}

/// Weights and configs of an image encoder.
async fn encoder_files(
    worker: &Worker,
    name: &str,
    source: &AdapterSource,
    is_private: bool,
) -> Result<(ImageEncoderFiles, Vec<HeldFile>), NotLoaded> {
    let (weights, configs) = match source {
        AdapterSource::Named(named) => match worker.adapters.ip_adapters.get(named) {
            Some(folder) => return Ok((ImageEncoderFiles::inside(name, folder), Vec::new())),
            None => return Err(unnamed(named)),
        },
        AdapterSource::Hub { repository, file: Some(weights) } => {
            let Beside { weights, configs, .. } =
                adapters::with_configs(worker, (repository, weights), CONFIGS).await?;
            (weights, Some(configs))
        }
        // A file alone, which the engine refuses.
        other => (adapters::file(worker, other, is_private).await?.0, None),
    };
    let path = |file: &HeldFile| file.path().to_owned();
    let [config, processor] = match &configs {
        Some([config, processor]) => [Some(path(config)), Some(path(processor))],
        None => [None, None],
    };
    let files = ImageEncoderFiles { name: name.to_owned(), path: path(&weights), config, processor };
    Ok((files, std::iter::once(weights).chain(configs.into_iter().flatten()).collect()))
}

fn unnamed(name: &str) -> NotLoaded {
    NotLoaded::Unnamed("IP-Adapter", "--named-ip-adapter", name.to_owned())
}
