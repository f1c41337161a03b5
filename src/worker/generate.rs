//! One request in the engine's hands: what it says becomes log lines, previews and a renewed lease.

use super::engine_thread::Event;
use super::{Worker, WorkerError, is_second_try, patiently, run_time};
use crate::engine::{Image, InitImage, Loading, PendingImages, Step};
use crate::image_file;
use crate::queue::{Claim, Level, QueueError, Verdict};
use latentd_request::ImageRequest;
use std::time::Duration;

/// What was done for a request.
pub(super) struct Work {
    pub(super) pending: PendingImages,
    /// Seconds that its model took to load, where it was not.
    pub(super) load: Option<f64>,
}

impl Worker {
    /// Runs the engine and reports its steps, until it is done or must stop.
    pub(super) async fn generate(
        &self,
        claim: &Claim,
        request: &ImageRequest,
        begin: Option<InitImage>,
    ) -> Result<Option<Work>, WorkerError> {
        let mut work = self.queue.events().work();
        let mut verdict = Verdict::Continue { watched: false };
        let mut load = None;
        let mut job = self.engine.start(request.clone(), begin);
        let (mut limit, mut doing) = self.limit(request, None);
        let mut hung = Box::pin(run_time(limit));
        loop {
            match verdict {
                Verdict::Continue { watched } => job.want_previews(watched),
                Verdict::Cancelled | Verdict::Fenced => job.stop(),
            }
            tokio::select! {
                biased; // the engine is not hung when it has said something
                event = job.events.recv() => {
                    let Some(event) = event else { break };
                    (limit, doing) = self.limit(request, Some(&event));
                    match event {
                        Event::Loading(Loading::Begins { model, loaded }) => {
                            verdict = self.report(claim, &format!("loading {model}")).await?;
                            self.tell_loaded(&loaded).await?;
                        }
                        Event::Loading(Loading::Done { seconds, loaded }) => {
                            load = Some(seconds);
                            self.tell_loaded(&loaded).await?;
                        }
                        Event::Prepared => {
                            let line = format!("encoding prompt on {}", self.device);
                            verdict = self.report(claim, &line).await?;
                        }
                        Event::Note(words) => verdict = self.warn(claim, &words).await?,
                        Event::Step(step) => {
                            self.limits.learn(request, step.seconds);
                            verdict = self.report_step(claim, step).await?;
                            if step.index == 1 {
                                self.prefetch(claim).await;
                            }
                        }
                        Event::Preview(image) => self.show(claim, &image).await,
                    }
                    hung.set(run_time(limit));
                },
                Ok(()) = work.changed() => {
                    verdict = self.verdict(claim).await?;
                    self.prefetch(claim).await;
                }
                () = &mut hung => return Err(self.hung(claim, limit, doing).await),
            }
        }
        let result = job.result().await.map(|pending| Work { pending, load });
        self.settle(claim, verdict, result).await
    }

    /// How long the engine may be silent after what it said last, and what it does meanwhile.
    fn limit(&self, request: &ImageRequest, said: Option<&Event>) -> (Duration, &'static str) {
        match said {
            None | Some(Event::Loading(Loading::Begins { .. })) => {
                (self.limits.load(), "preparing the model")
            }
            Some(Event::Loading(Loading::Done { .. }) | Event::Prepared | Event::Note(_)) => {
                (self.limits.first(request), "encoding the prompt or taking the first step")
            }
            Some(Event::Step(step)) if step.index == step.of => (self.limits.first(request), "decoding"),
            Some(Event::Step(_) | Event::Preview(_)) => (self.limits.step(request), "taking a step"),
        }
    }

    async fn tell_loaded(&self, models: &[String]) -> Result<(), QueueError> {
        patiently(|| self.queue.tell_loaded(&self.id, models)).await
    }

    /// Has the prompts of the request that comes next encoded meanwhile, where that is of use. Not beside a second try,
    /// which has the worker to itself.
    async fn prefetch(&self, beside: &Claim) {
        let Some(prefetch) = self.engine.prefetch.clone().filter(|_| !is_second_try(beside)) else { return };
        let body = match self.queue.peek(&self.models).await {
            Ok(Some(body)) => body,
            Ok(None) => return,
            Err(error) => return tracing::debug!(%error, "the next request was not looked at"),
        };
        tokio::task::spawn_blocking(move || {
            // What is wrong with it is said when it is generated.
            let Ok(request) = serde_json::from_value(body) else { return };
            if let Err(error) = prefetch(&request) {
                tracing::debug!(%error, "prompts were not encoded ahead");
            }
        });
    }

    /// Lets those who watch see a preview. It is a few KB: encoding it takes no thread of its own.
    async fn show(&self, claim: &Claim, preview: &Image) {
        let bytes = match image_file::encode_preview(preview) {
            Ok(bytes) => bytes,
            Err(error) => return tracing::warn!(request = %claim.id, %error, "a preview cannot be encoded"),
        };
        if let Err(error) = self.queue.store_preview(claim, &bytes).await {
            tracing::warn!(request = %claim.id, %error, "a preview is not shown");
        }
    }

    pub(super) async fn report(&self, claim: &Claim, message: &str) -> Result<Verdict, QueueError> {
        tracing::debug!(request = %claim.id, "{message}");
        patiently(|| self.queue.progress(claim, Level::Info, message)).await
    }

    /// A line of the request's log for what its client should know.
    async fn warn(&self, claim: &Claim, message: &str) -> Result<Verdict, QueueError> {
        tracing::info!(request = %claim.id, "{message}");
        patiently(|| self.queue.progress(claim, Level::Warn, message)).await
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
