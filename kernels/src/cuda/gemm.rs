//! Matrix products through cuBLASLt: bias and GELU in the epilogue, the algorithm chosen by timing the first time that a
//! shape is seen on a card, and kept where there is a place for it.
//!
//! Row-major `y = x w^T` is, in cuBLAS's column-major notation, `Y [N, M] = W^T [N, K] X [K, M]`: A is the weight, stored
//! `[K, N]` and transposed, B the activations, and the bias runs along D's rows, which are the outputs.

use super::choices::{Algorithm, Choices};
use super::lt::{Handle, Preference, Product};
use super::product::{Addresses, Epilogue, Shape};
use candle_core::cuda_backend::WrapErr;
use candle_core::{DType, Result, bail};
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr, sys};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// Hopper's kernels want 32 MiB; what is left over costs nothing.
const WORKSPACE_BYTES: usize = 64 << 20;

/// Candidates that are timed, of those cuBLASLt proposes, and runs of each.
const CANDIDATES: usize = 8;
const TIMED_RUNS: usize = 5;

/// Large enough for every kind of algorithm.
const FP8_PROBE: Shape = Shape {
    dtype: DType::U8,
    batch: 1,
    rows: 128,
    inputs: 128,
    outputs: 128,
    x_stride: 128,
    x_batch: 0,
    x_alignment: 256,
    w_alignment: 256,
    epilogue: Epilogue::Bias,
};

struct Plan {
    product: Product,
    algorithm: Algorithm,
}

/// Scratch memory of a stream's products: those of two streams may run at once.
struct Workspace {
    stream: sys::CUstream,
    memory: CudaSlice<u8>,
}

// SAFETY: the stream is only compared.
#[expect(unsafe_code, reason = "handles are pointers")]
unsafe impl Send for Workspace {}

/// The products of one device.
pub(crate) struct Gemm {
    handle: Handle,
    workspaces: Vec<Workspace>,
    plans: HashMap<Shape, Plan>,
    choices: Option<Choices>,
}

impl Gemm {
    pub(crate) fn new(stream: &Arc<CudaStream>) -> Result<Self> {
        let handle = Handle::new()?;
        let mut new = Self { handle, workspaces: Vec::new(), plans: HashMap::new(), choices: None };
        new.serve(stream, stream)?;
        Ok(new)
    }

    /// Whether cuBLASLt proposes an algorithm for fp8 with a scale for each row, which it has on few cards. Launches
    /// nothing.
    pub(crate) fn has_row_scaled_fp8(&self) -> bool {
        let at = Addresses { x: 1 << 8, w: 1 << 8, bias: 1 << 8, y: 1 << 8, scales: Some((1 << 8, 1 << 8)) };
        let algorithms = || {
            let product = Product::new(FP8_PROBE, at)?;
            let preference = Preference::new(WORKSPACE_BYTES, FP8_PROBE.w_alignment, FP8_PROBE.x_alignment)?;
            self.handle.candidates(&product, &preference, 1)
        };
        algorithms().is_ok_and(|found| !found.is_empty())
    }

    /// Also runs products on `stream`, which must wait for `memory_of` before its first one.
    #[expect(unsafe_code, reason = "uninitialised scratch memory")]
    pub(crate) fn serve(&mut self, stream: &CudaStream, memory_of: &Arc<CudaStream>) -> Result<()> {
        // SAFETY: cuBLASLt writes its workspace before it reads it.
        let memory = unsafe { memory_of.alloc::<u8>(WORKSPACE_BYTES).w()? };
        self.workspaces.push(Workspace { stream: stream.cu_stream(), memory });
        Ok(())
    }

    /// Keeps choices in a folder from now on. `card`: a line that identifies this device.
    pub(crate) fn keep_choices(&mut self, folder: &Path, card: &str) {
        let version = Handle::version();
        let card = format!("{card}, cuBLASLt {version}, workspace {WORKSPACE_BYTES}");
        self.choices = Some(Choices::new(folder, card));
    }

    /// Puts the product on the stream. The first time a shape is seen its algorithm is chosen, which waits for the
    /// device if none is kept (not while a graph is being captured: then cuBLASLt's own first choice is taken).
    pub(crate) fn run(&mut self, stream: &CudaStream, shape: Shape, at: Addresses) -> Result<()> {
        if !self.plans.contains_key(&shape) {
            let product = Product::new(shape, at)?;
            let algorithm = self.choose(stream, &product, shape, at)?;
            self.plans.insert(shape, Plan { product, algorithm });
        }
        match self.plans.get(&shape) {
            Some(plan) => self.launch(stream, &plan.product, &plan.algorithm, at),
            None => bail!("a plan was just made"),
        }
    }

    /// The algorithm that is kept for a shape, or else the fastest, which is kept from then on.
    fn choose(
        &mut self,
        stream: &CudaStream,
        product: &Product,
        shape: Shape,
        at: Addresses,
    ) -> Result<Algorithm> {
        let key = shape.to_string();
        let kept = self.choices.as_mut().and_then(|choices| choices.find(&key));
        if let Some(kept) = kept.filter(|kept| self.handle.accepts(product, kept, WORKSPACE_BYTES)) {
            return Ok(kept);
        }
        let preference = Preference::new(WORKSPACE_BYTES, shape.w_alignment, shape.x_alignment)?;
        let candidates = self.handle.candidates(product, &preference, CANDIDATES)?;
        let Some(first) = candidates.first() else { bail!("cuBLASLt has no algorithm for {shape:?}") };
        let idle = sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE;
        if stream.capture_status().w()? != idle {
            return Ok(*first);
        }
        let fastest =
            if candidates.len() > 1 { self.fastest(stream, product, &candidates, at)? } else { *first };
        // Another process may have chosen meanwhile: following it gives both the same bits.
        let agreed = self.choices.as_mut().map(|choices| choices.keep(&key, fastest, kept));
        let usable = |agreed: &Algorithm| self.handle.accepts(product, agreed, WORKSPACE_BYTES);
        Ok(agreed.filter(usable).unwrap_or(fastest))
    }

    /// The candidate with the smallest median time. One that does not run after all is passed over.
    fn fastest(
        &self,
        stream: &CudaStream,
        product: &Product,
        candidates: &[Algorithm],
        at: Addresses,
    ) -> Result<Algorithm> {
        let mut best = (f32::INFINITY, candidates[0]);
        for candidate in candidates {
            if self.launch(stream, product, candidate, at).is_err() {
                continue;
            }
            let mut times = Vec::with_capacity(TIMED_RUNS);
            for _ in 0..TIMED_RUNS {
                let timed = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
                let start = stream.record_event(timed).w()?;
                self.launch(stream, product, candidate, at)?;
                let end = stream.record_event(timed).w()?;
                end.synchronize().w()?;
                times.push(start.elapsed_ms(&end).w()?);
            }
            times.sort_by(f32::total_cmp);
            if times[TIMED_RUNS / 2] < best.0 {
                best = (times[TIMED_RUNS / 2], *candidate);
            }
        }
        Ok(best.1)
    }

    fn launch(
        &self,
        stream: &CudaStream,
        product: &Product,
        algorithm: &Algorithm,
        at: Addresses,
    ) -> Result<()> {
        let Some(workspace) = self.workspaces.iter().find(|of| of.stream == stream.cu_stream()) else {
            bail!("products have no workspace on this stream")
        };
        let workspace = (workspace.memory.device_ptr(stream).0, WORKSPACE_BYTES);
        self.handle.matmul(stream, product, at, algorithm, workspace)
    }
}

#[cfg(test)]
mod tests;
