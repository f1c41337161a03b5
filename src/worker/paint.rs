//! One request in the engine's hands: what it says becomes log lines, previews and a renewed lease.

use super::engine_thread::Event;
use super::{Worker, WorkerError};
use crate::engine::{Begin, Loading, Painted, Picture, Step};
use crate::picture;
use crate::queue::{Claim, Level, QueueError, Verdict};
use crate::request::ImageRequest;

/// What was done for a request.
pub(super) struct Work {
    pub(super) painted: Painted,
    /// Seconds that its model took to load, where it was not.
    pub(super) load: Option<f64>,
}

impl Worker {
    /// Runs the engine and reports its steps, until it is done or must stop.
    pub(super) async fn paint(
        &self,
        claim: &Claim,
        request: &ImageRequest,
        begin: Option<Begin>,
    ) -> Result<Option<Work>, WorkerError> {
        let mut work = self.queue.events().work();
        let mut verdict = Verdict::Continue { watched: false };
        let mut load = None;
        let mut job = self.engine.start(request.clone(), begin);
        loop {
            match verdict {
                Verdict::Continue { watched } => job.want_previews(watched),
                Verdict::Cancelled | Verdict::Fenced => job.stop(),
            }
            tokio::select! {
                event = job.events.recv() => match event {
                    Some(Event::Loading(Loading::Begins { model, loaded })) => {
                        verdict = self.report(claim, &format!("loading {model}")).await?;
                        self.queue.tell_loaded(&self.id, &loaded).await?;
                    }
                    Some(Event::Loading(Loading::Done { seconds, loaded })) => {
                        load = Some(seconds);
                        self.queue.tell_loaded(&self.id, &loaded).await?;
                    }
                    Some(Event::Prepared) => {
                        let line = format!("encoding prompt on {}", self.device);
                        verdict = self.report(claim, &line).await?;
                    }
                    Some(Event::Step(step)) => {
                        verdict = self.report_step(claim, step).await?;
                        if step.index == 1 {
                            self.prefetch().await?;
                        }
                    }
                    Some(Event::Preview(picture)) => self.show(claim, &picture).await?,
                    None => break,
                },
                Ok(()) = work.changed() => {
                    verdict = self.queue.verdict(claim).await?;
                    self.prefetch().await?;
                }
            }
        }
        let result = job.result().await.map(|painted| Work { painted, load });
        self.settle(claim, verdict, result).await
    }

    /// Has the prompts of the request that comes next encoded meanwhile, where that is of use.
    async fn prefetch(&self) -> Result<(), QueueError> {
        let Some(prefetch) = self.engine.prefetch.clone() else { return Ok(()) };
        let Some(body) = self.queue.peek(&self.models).await? else { return Ok(()) };
        tokio::task::spawn_blocking(move || {
            // What is wrong with it is said when it is painted.
            let Ok(request) = serde_json::from_value(body) else { return };
            if let Err(error) = prefetch(&request) {
                tracing::debug!(%error, "prompts were not encoded ahead");
            }
        });
        Ok(())
    }

    /// Lets those who watch see a preview. It is a few KB: encoding it takes no thread of its own.
    async fn show(&self, claim: &Claim, preview: &Picture) -> Result<(), QueueError> {
        match picture::encode_preview(preview) {
            Ok(bytes) => self.queue.store_preview(claim, &bytes).await,
            Err(error) => {
                tracing::warn!(request = %claim.id, %error, "a preview cannot be encoded");
                Ok(())
            }
        }
    }

    pub(super) async fn report(&self, claim: &Claim, message: &str) -> Result<Verdict, QueueError> {
        tracing::debug!(request = %claim.id, "{message}");
        self.queue.progress(claim, Level::Info, message).await
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
