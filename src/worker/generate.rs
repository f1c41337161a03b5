//! Runs the engine on one request: its progress becomes log lines, previews and renewed leases.

use super::engine_thread::Event;
use super::{Attempt, Worker, WorkerError, is_second_try, run_time, with_retry};
use crate::engine::{EngineError, Image, Inputs, Loading, PendingImages, Step};
use crate::image_file;
use crate::queue::{Claim, Level, QueueError, Verdict};
use latentd_request::ImageRequest;
use std::time::Duration;

/// A request's denoised latents, ready to decode.
pub(super) struct Work {
    pub(super) pending: PendingImages,
    /// Seconds that the model took to load; `None` if it was loaded already.
    pub(super) load: Option<f64>,
}

impl Worker {
    /// Runs the engine and reports its steps, until it is done or has been stopped.
    pub(super) async fn generate(
        &self,
        claim: &Attempt,
        request: &ImageRequest,
        inputs: Inputs,
    ) -> Result<Option<Work>, WorkerError> {
        let mut work = self.queue.events().work();
        let mut verdict = Verdict::Continue { watched: false };
        let mut load = None;
        let saved_state = with_retry(|| self.queue.use_state(claim)).await?;
        let mut job = self.engine.start(request.clone(), inputs, saved_state, claim.span.clone());
        let mut is_suspended = false;
        let (mut limit, mut doing) = self.limit(request, None);
        let mut hung = Box::pin(run_time(limit));
        loop {
            match verdict {
                Verdict::Continue { watched } => job.want_previews(watched),
                Verdict::Cancelled | Verdict::Fenced => job.stop(),
            }
            tokio::select! {
                biased; // an engine with an unread event is not hung
                event = job.events.recv() => {
                    let Some(event) = event else { break };
                    (limit, doing) = self.limit(request, Some(&event));
                    match event {
                        Event::Loading(Loading::Begins { model, loaded }) => {
                            verdict = self.report(claim, &format!("loading {model}")).await?;
                            self.report_loaded_models(&loaded).await?;
                        }
                        Event::Loading(Loading::Done { seconds, loaded }) => {
                            load = Some(seconds);
                            self.report_loaded_models(&loaded).await?;
                        }
                        Event::Prepared => {
                            let line = format!("encoding prompt on {}", self.device);
                            verdict = self.report(claim, &line).await?;
                        }
                        Event::Note(text) => verdict = self.warn(claim, &text).await?,
                        Event::Step(step) => {
                            self.limits.learn(request, step.seconds);
                            verdict = self.report_step(claim, step).await?;
                            if step.index == 1 {
                                self.prefetch(claim).await;
                            }
                        }
                        Event::Preview(image) => self.store_preview(claim, &image).await,
                        Event::State { steps, bytes } => {
                            self.store_state(claim, steps, bytes).await;
                            job.state_stored();
                        }
                    }
                    hung.set(run_time(limit));
                },
                Ok(()) = work.changed() => {
                    verdict = self.verdict(claim).await?;
                    if !is_suspended && self.must_give_way(claim).await? {
                        is_suspended = true;
                        job.suspend();
                    }
                    self.prefetch(claim).await;
                }
                () = &mut hung => return Err(self.hung(claim, limit, doing).await),
            }
        }
        let result = job.result().await.map(|pending| Work { pending, load });
        let is_stopped = matches!(result, Err(EngineError::Stopped));
        if is_suspended && is_stopped && matches!(verdict, Verdict::Continue { .. }) {
            return self.give_way(claim).await.map(|()| None);
        }
        self.settle(claim, verdict, result).await
    }

    /// How long the engine may go without an event after its last one, and what it does in that time.
    fn limit(&self, request: &ImageRequest, last_event: Option<&Event>) -> (Duration, &'static str) {
        match last_event {
            None | Some(Event::Loading(Loading::Begins { .. })) => {
                (self.limits.load(), "preparing the model")
            }
            Some(Event::Loading(Loading::Done { .. }) | Event::Prepared | Event::Note(_)) => {
                (self.limits.first(request), "encoding the prompt or taking the first step")
            }
            Some(Event::Step(step)) if step.index == step.of => (self.limits.first(request), "decoding"),
            Some(Event::Step(_) | Event::Preview(_) | Event::State { .. }) => {
                (self.limits.step(request), "taking a step")
            }
        }
    }

    async fn report_loaded_models(&self, models: &[String]) -> Result<(), QueueError> {
        with_retry(|| self.queue.report_loaded_models(&self.id, models)).await
    }

    /// Encodes the prompts of the next request on another thread, on engines that gain from it. Not while a request is tried
    /// again, which has the worker to itself.
    async fn prefetch(&self, running: &Claim) {
        let Some(prefetch) = self.engine.prefetch.clone().filter(|_| !is_second_try(running)) else { return };
        let body = match self.queue.peek(&self.models).await {
            Ok(Some(body)) => body,
            Ok(None) => return,
            Err(error) => return tracing::debug!(%error, "the next request could not be read"),
        };
        tokio::task::spawn_blocking(move || {
            // An error is reported when the request itself is generated.
            let Ok(request) = serde_json::from_value(body) else { return };
            if let Err(error) = prefetch(&request) {
                tracing::debug!(%error, "prompts were not encoded ahead");
            }
        });
    }

    /// Encodes a preview and stores it for the clients that watch. It is a few KB, so it is encoded on this thread.
    async fn store_preview(&self, claim: &Claim, preview: &Image) {
        let bytes = match image_file::encode_preview(preview) {
            Ok(bytes) => bytes,
            Err(error) => return tracing::warn!(request = %claim.id, %error, "a preview cannot be encoded"),
        };
        if let Err(error) = self.queue.store_preview(claim, &bytes).await {
            tracing::warn!(request = %claim.id, %error, "a preview cannot be stored");
        }
    }

    /// Stores the state for the case that this worker dies. Without it the request starts at its first step then.
    async fn store_state(&self, claim: &Claim, steps: usize, bytes: Vec<u8>) {
        if let Err(error) = self.queue.store_state(claim, steps, bytes).await {
            tracing::warn!(request = %claim.id, %error, "the state of the request is not stored");
        }
    }

    /// Whether a request of a higher priority waits for this worker. A request of normal priority never gives way.
    async fn must_give_way(&self, claim: &Claim) -> Result<bool, QueueError> {
        with_retry(|| self.queue.must_give_way(claim, &self.models)).await
    }

    /// Suspends a request for one of higher priority.
    async fn give_way(&self, claim: &Claim) -> Result<(), WorkerError> {
        self.report(claim, "suspended for a request of higher priority").await?;
        let finish = with_retry(|| self.queue.suspend(claim)).await?;
        tracing::info!(request = %claim.id, ?finish, "suspended for a request of higher priority");
        Ok(())
    }

    pub(super) async fn report(&self, claim: &Claim, message: &str) -> Result<Verdict, QueueError> {
        tracing::debug!(request = %claim.id, "{message}");
        with_retry(|| self.queue.progress(claim, Level::Info, message)).await
    }

    /// Writes a warning into the request's log, for its client.
    pub(super) async fn warn(&self, claim: &Claim, message: &str) -> Result<Verdict, QueueError> {
        tracing::info!(request = %claim.id, "{message}");
        with_retry(|| self.queue.progress(claim, Level::Warn, message)).await
    }

    async fn report_step(&self, claim: &Claim, step: Step) -> Result<Verdict, QueueError> {
        let line =
            format!("step {}/{} (sigma {:.4}, {:.2} s)", step.index, step.of, step.sigma, step.seconds);
        let verdict = self.report(claim, &line).await?;
        if step.index == step.of && matches!(verdict, Verdict::Continue { .. }) {
            return self.report(claim, "decoding").await;
        }
        Ok(verdict)
    }
}
