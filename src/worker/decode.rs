//! Decodes a request's latents: beside the steps of the next request, or, where the device has no memory for that, after them
//! and in tiles.

use super::engine_thread::{self, Decoded, Job};
use super::{Attempt, HEARTBEAT, Worker, WorkerError, run_time};
use crate::engine::recovery::DECODING_IN_TILES;
use crate::engine::{Decoding, EngineError, Generated, PendingImages};
use crate::queue::Verdict;
use latentd_request::ImageRequest;
use std::pin::Pin;

impl Worker {
    /// The images of a request; `None` when the request has ended.
    pub(super) async fn decode(
        &self,
        claim: &Attempt,
        request: &ImageRequest,
        pending: PendingImages,
    ) -> Result<Option<Generated>, WorkerError> {
        let limit = self.limits.first(request);
        let decoded = tokio::select! {
            decoded = engine_thread::decode(pending) => decoded,
            () = run_time(limit) => return Err(self.hung(claim, limit, "decoding").await),
        };
        let (verdict, generated) = match decoded {
            Decoded::Done(generated) => (self.verdict(claim).await?, generated),
            Decoded::OutOfMemory { pending, why } => {
                let job = self.engine.decode_in_tiles(request.clone(), pending, why);
                self.decoded_in_tiles(claim, request, job).await?
            }
        };
        self.settle(claim, verdict, generated).await
    }

    /// Waits for latents that the engine decodes after the request that it is running.
    async fn decoded_in_tiles(
        &self,
        claim: &Attempt,
        request: &ImageRequest,
        mut job: Job,
    ) -> Result<(Verdict, Result<Generated, EngineError>), WorkerError> {
        let limit = self.limits.first(request);
        // Until it begins, the engine's limit for the other request counts.
        let mut hung: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(std::future::pending());
        let mut work = self.queue.events().work();
        let mut clock = tokio::time::interval(HEARTBEAT);
        clock.reset();
        let mut verdict = self.warn(claim, DECODING_IN_TILES).await?;
        while matches!(verdict, Verdict::Continue { .. }) {
            tokio::select! {
                biased;
                event = job.events.recv() => match event {
                    Some(_) => hung = Box::pin(run_time(limit)),
                    None => break,
                },
                () = &mut hung => return Err(self.hung(claim, limit, "decoding in tiles").await),
                Ok(()) = work.changed() => verdict = self.verdict(claim).await?,
                _ = clock.tick() => verdict = self.report(claim, "still decoding in tiles").await?,
            }
        }
        if !matches!(verdict, Verdict::Continue { .. }) {
            return Ok((verdict, Err(EngineError::Stopped)));
        }
        match job.result_unless_gone().await {
            Some(result) => Ok((verdict, result.and_then(|mut pending| pending(Decoding::Tiled)))),
            // The request that the engine failed with pays for it.
            None => Err(WorkerError::Engine("its thread has ended with another request".into())),
        }
    }
}
