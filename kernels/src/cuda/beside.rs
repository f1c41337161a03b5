//! Two pieces of work at the same time: a second stream beside the device's own, as branches of a recorded graph.
//!
//! candle knows one stream, and so does all memory: it is taken from that stream and given back to it. So while a piece
//! of work runs beside, the second stream waits for the first one wherever it is given memory, and every tensor that it
//! touches is held until both have met again. In a graph such waits are edges between nodes and take no time.

use super::device::Gpu;
use super::graph::cuda;
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaContext, CudaEvent, CudaStream, result, sys};
use candle_core::{Device, Result, Tensor};
use std::cell::RefCell;
use std::sync::Arc;

/// The second stream of a device.
pub(crate) struct Lane {
    pub(crate) stream: Arc<CudaStream>,
    /// Recorded in one stream, then waited for by the other, over and over.
    event: CudaEvent,
}

thread_local! {
    /// What the work that this thread puts on a second stream touches, while it does.
    static HELD: RefCell<Option<Vec<Tensor>>> = const { RefCell::new(None) };
}

/// Runs two pieces of work that read nothing of each other, `beside` on a second stream if a graph is being recorded: the
/// smaller one, whose blocks go first wherever both could run. Otherwise one after the other.
///
/// `beside` may use ops of this crate alone: candle's own would not wait for them. Run both once before a graph is
/// recorded, as for [`Graph::record`](super::Graph::record).
///
/// # Errors
/// What the two return, or the driver refused.
pub fn beside<A, B>(
    device: &Device,
    work: impl FnOnce() -> Result<A>,
    beside: impl FnOnce() -> Result<B>,
) -> Result<(A, B)> {
    let gpu = Gpu::of(cuda(device)?)?;
    let idle = sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE;
    let recording = gpu.main().capture_status().w()? != idle;
    // Taking memory for a second stream cannot be recorded.
    let lane = if recording { gpu.known_lane() } else { gpu.lane().map(|_| None)? };
    let Some(lane) = lane.filter(|_| !is_active()) else { return Ok((work()?, beside()?)) };
    lane.follow(gpu.main())?;
    // First, so that what it takes from the first stream has nothing to wait for there.
    let held = Held::begin();
    let beside = beside();
    let held = held.end();
    let work = work();
    lane.event.record(&lane.stream).w()?;
    gpu.main().wait(&lane.event).w()?;
    drop(held);
    Ok((work?, beside?))
}

impl Lane {
    pub(crate) fn new(context: &Arc<CudaContext>) -> Result<Self> {
        context.bind_to_thread().w()?;
        let (_, greatest) = result::stream::get_priority_range().w()?;
        let stream = context.new_stream_with_priority(greatest).w()?;
        let untimed = Some(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING);
        Ok(Self { stream, event: context.new_event(untimed).w()? })
    }

    /// Waits for all that has been put on the device's own stream.
    pub(crate) fn follow(&self, main: &CudaStream) -> Result<()> {
        self.event.record(main).w()?;
        self.stream.wait(&self.event).w()
    }
}

/// Whether what this thread launches goes to the second stream.
pub(crate) fn is_active() -> bool {
    HELD.with_borrow(Option::is_some)
}

/// Keeps the memory of a tensor that work beside touches until the streams have met again.
pub(crate) fn hold(tensor: &Tensor) {
    HELD.with_borrow_mut(|held| {
        if let Some(held) = held {
            held.push(tensor.clone());
        }
    });
}

/// The time in which a thread's work goes to the second stream.
struct Held;

impl Held {
    fn begin() -> Self {
        HELD.set(Some(Vec::new()));
        Self
    }

    fn end(self) -> Option<Vec<Tensor>> {
        HELD.take()
    }
}

/// Also where the work panics.
impl Drop for Held {
    fn drop(&mut self) {
        HELD.take();
    }
}

#[cfg(test)]
mod tests {
    use super::super::graph::{Graph, rehearse};
    use super::super::{elementwise, latents};
    use super::*;
    use crate::{Activation, linear};
    use candle_core::{DType, bail};

    fn product(x: &Tensor, w: &Tensor) -> Result<Tensor> {
        linear(x, w, None, Activation::None)
    }

    /// `sum += x w^T + (x w^T) w^T`, and the streams that the two products were on.
    fn step(device: &Device, sum: &Tensor, x: &Tensor, w: &Tensor) -> Result<[sys::CUstream; 2]> {
        let gpu = Gpu::of(cuda(device)?)?;
        let stream = || gpu.stream().cu_stream();
        let once = || Ok((product(x, w)?, stream()));
        let twice = || Ok((product(&product(x, w)?, w)?, stream()));
        let ((a, here), (b, there)) = beside(device, once, twice)?;
        assert!(!is_active());
        latents::add_positions(sum, &elementwise::add(&a, &b)?)?;
        Ok([here, there])
    }

    /// A product makes 3 of ones, and another one 9 of these: 12 a step.
    #[test]
    fn only_what_is_recorded_runs_beside() -> Result<()> {
        let device = crate::cuda::open(0, None)?;
        let (x, w) =
            (Tensor::ones((32, 16), DType::F32, &device)?, Tensor::full(3f32 / 16.0, (16, 16), &device)?);
        let sum = Tensor::zeros((1, 32, 16), DType::F32, &device)?;
        let expect = |value: f32| {
            let values = sum.flatten_all()?.to_vec1::<f32>()?;
            assert!(values.iter().all(|sum| *sum == value), "{values:?}, not {value}");
            Ok::<_, candle_core::Error>(())
        };
        let [here, there] = rehearse(&device, || step(&device, &sum, &x, &w))?;
        assert_eq!(here, there);
        expect(12.0)?;
        let graph = Graph::record(&device, || {
            let [here, there] = step(&device, &sum, &x, &w)?;
            assert_ne!(here, there);
            Ok(())
        })?;
        for launches in 1..=4u8 {
            graph.launch()?;
            expect(12.0 * f32::from(1 + launches))?;
        }
        Ok(())
    }

    /// A recording that fails leaves the device as it was.
    #[test]
    fn what_fails_beside_ends_there() -> Result<()> {
        let device = crate::cuda::open(0, None)?;
        let (x, w) =
            (Tensor::ones((32, 16), DType::F32, &device)?, Tensor::ones((16, 16), DType::F32, &device)?);
        let fails = || {
            beside(
                &device,
                || product(&x, &w),
                || {
                    product(&x, &w)?;
                    bail!("enough")
                },
            )
            .map(|(_, _): (Tensor, Tensor)| ())
        };
        assert!(rehearse(&device, fails).is_err());
        assert!(Graph::record(&device, fails).is_err());
        assert!(!is_active());
        assert_eq!(product(&x, &w)?.flatten_all()?.to_vec1::<f32>()?, vec![16.0; 32 * 16]);
        Ok(())
    }
}
