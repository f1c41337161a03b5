//! A claim with the span of the work on it, which continues the trace of the call that submitted the request.

use super::Worker;
use super::held::HeldClaim;
use crate::queue::{Claim, Failure, FailureKind};
use latentd_trace::{Span, SpanKind};
use std::ops::Deref;

/// One attempt at a request. Its span ends when it is dropped.
pub(super) struct Attempt {
    pub(super) claim: Claim,
    pub(super) span: Span,
    _held: HeldClaim,
}

impl Attempt {
    /// Begins the work of a worker on a claim.
    pub(super) fn begin(claim: Claim, worker: &Worker) -> Self {
        let call = Span::remote(claim.traceparent.as_deref());
        // Of a request that returned to the queue it is not stored when.
        if claim.attempt == 1 {
            call.child_since(claim.id.time(), "queue").set("latentd.request", claim.id.to_string());
        }
        let span = call.child_of_kind(SpanKind::Consumer, "worker");
        span.set("latentd.request", claim.id.to_string());
        span.set("latentd.attempt", claim.attempt);
        span.set("latentd.endpoint", claim.endpoint.clone());
        span.set("latentd.worker", worker.id.clone());
        span.set("latentd.device", worker.device.clone());
        let _held = worker.held.hold(claim.id);
        Self { claim, span, _held }
    }

    /// Notes how it ended without an output.
    pub(super) fn failed(&self, failure: &Failure) {
        self.span.set("latentd.failure", failure.kind.word());
        if failure.kind != FailureKind::Cancelled {
            self.span.fail(&failure.message);
        }
    }
}

impl Deref for Attempt {
    type Target = Claim;

    fn deref(&self) -> &Claim {
        &self.claim
    }
}

impl Drop for Attempt {
    /// The engine's thread may still have the span.
    fn drop(&mut self) {
        self.span.end();
    }
}
