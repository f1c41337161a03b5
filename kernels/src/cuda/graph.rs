//! Work captured once and replayed without the host: CUDA graphs, and events on a stream to wait for.

use super::arena::{Arena, Layout};
use super::device::{self, Gpu};
use super::memory;
use super::pass::Running;
use candle_core::cuda_backend::WrapErr;
use candle_core::{Device, Result, bail};
use cudarc::driver::{CudaEvent, CudaGraph, sys};
use std::sync::Arc;

/// A captured sequence of ops. Replaying runs them on the same addresses.
///
/// What the ops compute in is the arena's, which the graph shares and keeps. Tensors of others that they read or write
/// must outlive it, which is the caller's to see to.
pub struct Graph {
    graph: CudaGraph,
    _arena: Arena,
    /// Whose workspaces products use.
    _gpu: Arc<Gpu>,
}

// SAFETY: a graph may be used by any thread, by one at a time; nothing here lets two share one.
#[expect(unsafe_code, reason = "handles are pointers")]
unsafe impl Send for Graph {}

/// A point in a device's stream.
pub struct Event {
    event: CudaEvent,
}

/// Runs `work` once, for what is made on first use (kernels, plans, the second stream), and observes where the tensors of a
/// captured one can lie. `work` must use this crate's ops alone and drop every tensor that it makes. What it computed in is
/// given back to the driver.
///
/// # Errors
/// What `work` returns, or the device failed.
pub fn warm_up(device: &Device, work: impl FnOnce() -> Result<()>) -> Result<Layout> {
    let gpu = Gpu::of(device.as_cuda_device()?)?;
    let running = Running::warm_up(&gpu)?;
    work()?;
    let layout = running.layout()?;
    gpu.main().synchronize().w()?;
    memory::give_back_freed(gpu.main().context())?;
    Ok(layout)
}

impl Graph {
    /// Captures what `work` launches, without running it. It must be what was warmed up for `layout`, which `arena` holds:
    /// a capture cannot allocate.
    ///
    /// # Errors
    /// `work` failed, is not what was warmed up, or did what cannot be captured, such as reading a value back or an op of
    /// candle's that allocates.
    pub fn capture(
        device: &Device,
        arena: &Arena,
        layout: &Layout,
        work: impl FnOnce() -> Result<()>,
    ) -> Result<Self> {
        let gpu = Gpu::of(device.as_cuda_device()?)?;
        if !arena.holds(layout) {
            bail!("an arena that is too small for the step")
        }
        gpu.main().synchronize().w()?;
        let _alone = device::lock_contexts();
        let running = Running::capture(&gpu, arena.clone(), layout.clone())?;
        gpu.main().begin_capture(sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).w()?;
        let worked = work().and_then(|()| running.finish());
        let flags = sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY;
        let ended = gpu.main().end_capture(flags).w();
        worked?;
        match ended? {
            Some(graph) => Ok(Self { graph, _arena: arena.clone(), _gpu: gpu }),
            None => bail!("the capture was empty or invalid"),
        }
    }

    /// Puts one replay on the stream.
    ///
    /// # Errors
    /// The driver refused.
    pub fn launch(&self) -> Result<()> {
        self.graph.launch().w()
    }
}

impl Event {
    /// Records the end of what has been put on the device's stream so far.
    ///
    /// # Errors
    /// The driver refused.
    pub fn new(device: &Device) -> Result<Self> {
        let gpu: Arc<Gpu> = Gpu::of(device.as_cuda_device()?)?;
        let timed = sys::CUevent_flags::CU_EVENT_DEFAULT;
        Ok(Self { event: gpu.main().record_event(Some(timed)).w()? })
    }

    /// Waits until the device has come here.
    ///
    /// # Errors
    /// Work before the event failed on the device.
    pub fn wait(&self) -> Result<()> {
        self.event.synchronize().w()
    }

    /// Seconds between two events that have both been waited for.
    ///
    /// # Errors
    /// The driver refused.
    pub fn seconds_since(&self, earlier: &Self) -> Result<f64> {
        Ok(f64::from(earlier.event.elapsed_ms(&self.event).w()?) / 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DeviceHandle, MemoryUse, elementwise};
    use super::*;
    use candle_core::{DType, Tensor};

    const VALUES: usize = 5000;

    fn device() -> Device {
        crate::cuda::open(0, None).expect("a GPU")
    }

    /// `x += 6 x`, by way of three tensors.
    fn triple(x: &Tensor) -> Result<()> {
        let twice = elementwise::add(x, x)?;
        let thrice = elementwise::add(&twice, x)?;
        drop(twice);
        super::super::latents::add_positions(x, &elementwise::add(&thrice, &thrice)?.squeeze(0)?)
    }

    #[test]
    fn a_replay_takes_no_memory() -> Result<()> {
        let device = device();
        let x = Tensor::ones((1, 1, VALUES), DType::F32, &device)?;
        let layout = warm_up(&device, || triple(&x))?;
        // Three tensors, of which two are alive at a time.
        assert_eq!(layout.bytes(), 2 * (VALUES * 4).next_multiple_of(4096));
        let arena = Arena::new(&device, &layout)?;
        let graph = Graph::capture(&device, &arena, &layout, || triple(&x))?;
        MemoryUse::reset_peak(&device)?;
        let before = MemoryUse::of(&device)?;
        for _ in 0..3 {
            graph.launch()?;
        }
        assert_eq!(MemoryUse::of(&device)?.peak, before.now);
        assert_eq!(x.flatten_all()?.to_vec1::<f32>()?, vec![7f32.powi(4); VALUES]);
        Ok(())
    }

    /// candle's own sum allocates, which the emulated driver refuses during a capture. A real one makes a node of it.
    #[test]
    fn another_step_is_captured_after_one_that_allocates() -> Result<()> {
        let device = device();
        let x = Tensor::ones((1, 1, VALUES), DType::F32, &device)?;
        let planted = || {
            triple(&x)?;
            (&x + &x).map(drop)
        };
        let layout = warm_up(&device, planted)?;
        let arena = Arena::new(&device, &layout)?;
        if let Err(error) = Graph::capture(&device, &arena, &layout, planted) {
            assert!(error.to_string().contains("STREAM_CAPTURE"), "{error}");
        }
        Graph::capture(&device, &arena, &layout, || triple(&x))?.launch()
    }

    #[test]
    fn a_step_that_is_not_the_one_warmed_up_is_refused() -> Result<()> {
        let device = device();
        let x = Tensor::ones((1, 1, VALUES), DType::F32, &device)?;
        let layout = warm_up(&device, || triple(&x))?;
        let arena = Arena::new(&device, &layout)?;
        let refusal = |work: &dyn Fn() -> Result<()>| {
            Graph::capture(&device, &arena, &layout, work).err().expect("a refusal").to_string()
        };
        let fewer = refusal(&|| elementwise::add(&x, &x).map(drop));
        assert!(fewer.contains("makes 1 tensors, and 3 in its warm-up"), "{fewer}");
        let half = x.narrow(2, 0, VALUES / 2)?;
        let other = refusal(&|| triple(&half));
        assert!(other.contains("allocation 0"), "{other}");
        let small = Arena::new(&device, &warm_up(&device, || Ok(()))?)?;
        assert!(Graph::capture(&device, &small, &layout, || triple(&x)).is_err());
        Ok(())
    }

    /// What waits for a whole context ends the captures of other threads, so opening a device waits for them instead, and
    /// so does closing one.
    #[test]
    fn a_device_is_opened_and_closed_between_captures() -> Result<()> {
        let device = device();
        let x = Tensor::ones((1, 1, VALUES), DType::F32, &device)?;
        let layout = warm_up(&device, || triple(&x))?;
        let arena = Arena::new(&device, &layout)?;
        let other = DeviceHandle::open(0, None)?;
        std::thread::scope(|scope| {
            let (begins, begun) = std::sync::mpsc::channel();
            let (ends, ended) = std::sync::mpsc::channel();
            let thread = scope.spawn(move || {
                begun.recv().expect("a capture begins");
                drop(other);
                let opened = DeviceHandle::open(0, None).map(drop);
                ends.send(()).expect("the test waits");
                opened
            });
            let graph = Graph::capture(&device, &arena, &layout, || {
                begins.send(()).expect("the thread waits");
                let during = ended.recv_timeout(std::time::Duration::from_millis(300));
                assert!(during.is_err(), "a device was opened during a capture");
                triple(&x)
            })?;
            thread.join().expect("no panic")?;
            graph.launch()
        })
    }
}
