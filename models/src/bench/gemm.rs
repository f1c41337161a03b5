//! The best a device does on matrix products alone: what a model's own rate is measured against.

use crate::Result;
use crate::layers::Linear;
use crate::target::Target;
use crate::weights::Weights;
use candle_core::Tensor;
use std::time::{Duration, Instant};

/// Rows, inputs and outputs: a small one, the MLP and the output of Large at 1024x1024 with guidance, and two squares.
const ON_A_GPU: &[(usize, usize, usize)] = &[
    (512, 512, 512),
    (8192, 2432, 7296),
    (8192, 2432, 9728),
    (4096, 4096, 4096),
    (8192, 8192, 8192),
    (2048, 2048, 13312),
];
const ON_THE_CPU: &[(usize, usize, usize)] = &[(1024, 1024, 1024), (1024, 2432, 2432), (2048, 1536, 1536)];

/// Seconds. A product that would take longer at the best rate so far is left out: no card is so slow, but an emulated one.
const LONGEST: f64 = 1.0;

/// Each shape is measured for this long, after once to warm up.
const TIME: Duration = Duration::from_millis(300);

/// Products in flight between two readings of the clock.
const AT_ONCE: usize = 10;

/// TFLOP/s of the best shape in the target's precision, by the layers' linear or candle's own product.
pub(super) fn peak(target: &Target) -> Result<f64> {
    let shapes = if target.device.is_cpu() { ON_THE_CPU } else { ON_A_GPU };
    let mut best = 0f64;
    for &(rows, inputs, outputs) in shapes {
        let operations = 2.0 * rows as f64 * inputs as f64 * outputs as f64;
        if operations > LONGEST * best * 1e12 && best > 0.0 {
            continue;
        }
        let weights = Weights::random("gemm", target)?;
        let scope = weights.root();
        let linear = Linear::load_no_bias(&scope, inputs, outputs)?.quantised()?;
        let x = scope.tensor("x", &[1, rows, inputs])?;
        // The op before a product leaves its input in the precision of the product.
        let modulation = scope.tensor("modulation", &[1, 2, inputs])?;
        let hidden = target.ops.layer_norm_modulate(&x, &modulation, (0, 1))?;
        let (x, weight) = (x.squeeze(0)?, scope.tensor("weight", &[outputs, inputs])?.t()?);
        let by_layer = rate(target, || linear.forward_hidden(&hidden))?;
        // candle has no product in bf16 on the CPU.
        let by_candle = rate(target, || x.matmul(&weight)).unwrap_or(0.0);
        best = best.max(operations * by_layer.max(by_candle) / 1e12);
    }
    Ok(best)
}

/// Calls a second, in the best of the batches that fit into the time.
fn rate(target: &Target, product: impl Fn() -> candle_core::Result<Tensor>) -> candle_core::Result<f64> {
    let at_once = if target.device.is_cpu() { 1 } else { AT_ONCE };
    product()?;
    target.device.synchronize()?;
    let (started, mut best) = (Instant::now(), 0f64);
    while best == 0.0 || started.elapsed() < TIME {
        let batch = Instant::now();
        for _ in 0..at_once {
            product()?;
        }
        target.device.synchronize()?;
        best = best.max(at_once as f64 / batch.elapsed().as_secs_f64());
    }
    Ok(best)
}
