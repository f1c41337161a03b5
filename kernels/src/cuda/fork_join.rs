//! Fork and join: two pieces of work at the same time, as branches of a captured graph on two streams of the device.
//!
//! The second stream waits for the first where they fork, and the first for the second where they join. What either
//! computes in is laid out for that beforehand ([`super::arena`]), so no memory has to be kept until they have joined.

use super::branch::Fork;
use super::device::Gpu;
use candle_core::{Device, Result};

/// Runs two pieces of work that read nothing of each other, `side` on a second stream if a graph is being captured: the
/// smaller one, whose blocks go first wherever both could run. Otherwise one after the other.
///
/// `side` may use ops of this crate alone: candle's own would not go to the second stream.
///
/// # Errors
/// What the two return, or the driver refused.
pub fn fork_join<A, B>(
    device: &Device,
    work: impl FnOnce() -> Result<A>,
    side: impl FnOnce() -> Result<B>,
) -> Result<(A, B)> {
    let gpu = Gpu::of(device.as_cuda_device()?)?;
    let Some(fork) = Fork::begin(gpu.device.id()) else { return Ok((work()?, side()?)) };
    // Made in the warm-up, since a capture cannot take the memory that it needs.
    let stream = gpu.side_stream()?;
    if fork.captures {
        stream.follow(gpu.main())?;
    }
    let on_side = side();
    fork.main();
    let on_main = work();
    if fork.captures {
        stream.join(gpu.main())?;
    }
    drop(fork);
    Ok((on_main?, on_side?))
}

#[cfg(test)]
mod tests {
    use super::super::graph::{Graph, warm_up};
    use super::super::{Arena, elementwise, latents};
    use super::*;
    use crate::{Activation, linear};
    use candle_core::{DType, Tensor, bail};
    use cudarc::driver::sys;

    fn product(x: &Tensor, w: &Tensor) -> Result<Tensor> {
        linear(x, w, None, Activation::None)
    }

    /// `sum += x w^T + (x w^T) w^T`, and the streams that the two products were on.
    fn step(device: &Device, sum: &Tensor, x: &Tensor, w: &Tensor) -> Result<[sys::CUstream; 2]> {
        let gpu = Gpu::of(device.as_cuda_device()?)?;
        let stream = || gpu.stream().cu_stream();
        let once = || Ok((product(x, w)?, stream()));
        let twice = || Ok((product(&product(x, w)?, w)?, stream()));
        let ((a, here), (b, there)) = fork_join(device, once, twice)?;
        assert_eq!(gpu.stream().cu_stream(), gpu.main().cu_stream());
        latents::add_positions(sum, &elementwise::add(&a, &b)?)?;
        Ok([here, there])
    }

    /// A product makes 3 of ones, and another one 9 of these: 12 a step.
    #[test]
    fn only_a_captured_fork_uses_the_second_stream() -> Result<()> {
        let device = crate::cuda::open(0, None)?;
        let (x, w) =
            (Tensor::ones((32, 16), DType::F32, &device)?, Tensor::full(3f32 / 16.0, (16, 16), &device)?);
        let sum = Tensor::zeros((1, 32, 16), DType::F32, &device)?;
        let expect = |value: f32| {
            let values = sum.flatten_all()?.to_vec1::<f32>()?;
            assert!(values.iter().all(|sum| *sum == value), "{values:?}, not {value}");
            Ok::<_, candle_core::Error>(())
        };
        let layout = warm_up(&device, || {
            let [here, there] = step(&device, &sum, &x, &w)?;
            assert_eq!(here, there);
            Ok(())
        })?;
        expect(12.0)?;
        let graph = Graph::capture(&device, &Arena::new(&device, &layout)?, &layout, || {
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

    /// A capture that fails leaves the device as it was.
    #[test]
    fn a_failure_in_the_side_branch_ends_the_fork() -> Result<()> {
        let device = crate::cuda::open(0, None)?;
        let (x, w) =
            (Tensor::ones((32, 16), DType::F32, &device)?, Tensor::ones((16, 16), DType::F32, &device)?);
        let run = |fails: bool| {
            let side = || {
                let y = product(&x, &w)?;
                if fails { bail!("enough") } else { Ok(y) }
            };
            fork_join(&device, || product(&x, &w), side).map(drop)
        };
        assert!(warm_up(&device, || run(true)).is_err());
        let layout = warm_up(&device, || run(false))?;
        let arena = Arena::new(&device, &layout)?;
        let error =
            Graph::capture(&device, &arena, &layout, || run(true)).err().map(|error| error.to_string());
        assert!(error.is_some_and(|error| error.contains("enough")));
        assert_eq!(product(&x, &w)?.flatten_all()?.to_vec1::<f32>()?, vec![16.0; 32 * 16]);
        Graph::capture(&device, &arena, &layout, || run(false))?.launch()
    }
}
