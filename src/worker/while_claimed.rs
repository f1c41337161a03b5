//! Fetches what a request names, while its claim is renewed and a cancellation is noticed.

use super::adapters::{self, Fetched};
use super::controlnet::{self, FetchedNet};
use super::init_image::Decode;
use super::ip_adapter::{self, FetchedIpAdapter};
use super::{Attempt, HEARTBEAT, Worker, WorkerError, init_image, with_retry};
use crate::adapters::HeldFile;
use crate::engine::{EngineError, InitImage, Inputs};
use crate::image_file;
use crate::queue::{Failure, FailureKind, Verdict};
use futures_util::future::BoxFuture;
use latentd_request::{ControlNetRef, ImageRequest, InitImageRef, IpAdapterRef, MaskRef, Source};

impl Worker {
    /// Fetches all that a request names, and takes the names out of it, where inline data may be megabytes; `None` when the
    /// request has ended. The files stay while they are held.
    pub(super) async fn fetch_inputs(
        &self,
        claim: &Attempt,
        request: &mut ImageRequest,
    ) -> Result<Option<(Inputs, Vec<HeldFile>)>, WorkerError> {
        let mut inputs = Inputs::default();
        if let Some(reference) = request.init_image.take() {
            let Some(init_image) = self.fetch_image(claim, &reference).await? else { return Ok(None) };
            if reference.keeps_size {
                init_image::adopt_size(request, &init_image.image);
            }
            inputs.init_image = Some(init_image);
        }
        let Some(fetched) = self.fetch_adapters(claim, request).await? else { return Ok(None) };
        let mut files = fetched.held;
        inputs.loras = fetched.loras;
        if let Some(reference) = request.controlnet.take() {
            let fetched = self.fetch_controlnet(claim, &reference, request.private).await?;
            let Some(FetchedNet { net, held }) = fetched else { return Ok(None) };
            if reference.keeps_size {
                init_image::adopt_size(request, &net.image);
            }
            inputs.controlnet = Some(net);
            files.extend(held);
            request.controlnet = controlnet::without_data(reference);
        }
        if let Some(reference) = request.ip_adapter.take() {
            let fetched = self.fetch_ip_adapter(claim, &reference, request.private).await?;
            let Some(FetchedIpAdapter { adapter, held }) = fetched else { return Ok(None) };
            inputs.ip_adapter = Some(adapter);
            files.extend(held);
            request.ip_adapter = ip_adapter::without_data(reference);
        }
        Ok(Some((inputs, files)))
    }

    /// Fetches the initial image of a request and its mask; `None` when the request has ended.
    async fn fetch_image(
        &self,
        claim: &Attempt,
        reference: &InitImageRef,
    ) -> Result<Option<InitImage>, WorkerError> {
        let load = Box::pin(async {
            let load = async |source: &Source, decode, kind: FailureKind| {
                let loaded = with_retry(|| init_image::load(self, source, decode)).await;
                loaded.map_err(|why| why.failure(kind))
            };
            let image = load(&reference.source, image_file::decode as Decode, FailureKind::InitImage).await?;
            let mask = match &reference.mask {
                Some(MaskRef { source, transparent }) => {
                    let decode =
                        if *transparent { image_file::decode_transparency } else { image_file::decode };
                    Some(load(source, decode, FailureKind::Mask).await?)
                }
                None => None,
            };
            Ok(InitImage { image, strength: reference.strength, mask })
        });
        let _span = claim.span.child("fetch initial image");
        let lines = ["fetching the initial image", "still fetching the image"];
        self.while_claimed(claim, lines, load).await
    }

    /// Fetches the adapters of a request, and takes them out of it; `None` when the request has ended.
    async fn fetch_adapters(
        &self,
        claim: &Attempt,
        request: &mut ImageRequest,
    ) -> Result<Option<Fetched>, WorkerError> {
        if request.loras.is_empty() {
            return Ok(Some(Fetched::default()));
        }
        let asked: &ImageRequest = request;
        let load = Box::pin(async {
            let fetched = with_retry(|| adapters::fetch(self, asked)).await;
            fetched.map_err(adapters::NotLoaded::failure)
        });
        let _span = claim.span.child("fetch LoRA adapters");
        let lines = ["fetching the LoRA adapters", "still fetching the LoRA adapters"];
        let fetched = self.while_claimed(claim, lines, load).await?;
        request.loras.clear();
        Ok(fetched)
    }

    /// Fetches the ControlNet of a request and its control image; `None` when the request has ended.
    async fn fetch_controlnet(
        &self,
        claim: &Attempt,
        reference: &ControlNetRef,
        is_private: bool,
    ) -> Result<Option<FetchedNet>, WorkerError> {
        let load = Box::pin(controlnet::fetch(self, reference, is_private));
        let _span = claim.span.child("fetch ControlNet");
        let lines = ["fetching the ControlNet", "still fetching the ControlNet"];
        self.while_claimed(claim, lines, load).await
    }

    /// Fetches the IP-Adapter of a request, its image encoder and its image prompt; `None` when the request has ended.
    async fn fetch_ip_adapter(
        &self,
        claim: &Attempt,
        reference: &IpAdapterRef,
        is_private: bool,
    ) -> Result<Option<FetchedIpAdapter>, WorkerError> {
        let _span = claim.span.child("fetch IP-Adapter");
        let load = Box::pin(ip_adapter::fetch(self, reference, is_private));
        let lines = ["fetching the IP-Adapter", "still fetching the IP-Adapter"];
        self.while_claimed(claim, lines, load).await
    }

    /// Waits for `load`; `None` when the request has ended, by its failure too. The first line goes into the request's log
    /// at once, the second whenever the lease is renewed.
    async fn while_claimed<T>(
        &self,
        claim: &Attempt,
        [first, later]: [&str; 2],
        mut load: BoxFuture<'_, Result<T, Failure>>,
    ) -> Result<Option<T>, WorkerError> {
        let mut work = self.queue.events().work();
        let mut verdict = self.report(claim, first).await?;
        let mut clock = tokio::time::interval(HEARTBEAT);
        clock.reset();
        while matches!(verdict, Verdict::Continue { .. }) {
            tokio::select! {
                loaded = &mut load => return match loaded {
                    Ok(loaded) => Ok(Some(loaded)),
                    Err(failure) => self.end(claim, &failure).await.map(|()| None),
                },
                Ok(()) = work.changed() => verdict = self.verdict(claim).await?,
                _ = clock.tick() => verdict = self.report(claim, later).await?,
            }
        }
        self.settle(claim, verdict, Err(EngineError::Stopped)).await
    }
}
