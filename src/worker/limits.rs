//! How long the engine may go without an event before it counts as hung.
//!
//! How fast a device is, is not known beforehand. So the first limit is generous, by the size of the model, and later ones
//! are multiples of the slowest step so far.

use latentd_models::{DType, Device, MemoryMode};
use latentd_request::ImageRequest;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// Least limit for a step.
const MIN_STEP: Duration = Duration::from_secs(30);

/// Least limit for encoding a prompt and the first step, in which kernels are also selected by timing, and for decoding.
const MIN_FIRST: Duration = Duration::from_secs(300);

/// Least limit for loading a model.
const MIN_LOAD: Duration = Duration::from_secs(600);

/// A limit is this multiple of the measured time.
const SLACK: f64 = 20.0;

/// Bytes a second that the slowest disk reads.
const SLOWEST_DISK: f64 = 5e6;

/// Operations a second that the slowest processor and the slowest GPU do.
const SLOWEST_CPU: f64 = 2e9;
const SLOWEST_GPU: f64 = 5e11;

/// Tokens at which attention takes as long as the rest of a block.
const ATTENTION: f64 = 4096.0;

/// The limits of one engine.
#[derive(Debug, Default)]
pub struct StepLimits {
    /// The operator's limit (`--step-timeout`).
    fixed: Option<Duration>,
    /// Size of the largest model in bytes.
    bytes: u64,
    /// Seconds that reading the model from the slowest disk takes, in a step and in what comes before the first.
    read: [f64; 2],
    /// Upper bound of the seconds that a unit of work takes, from the model's size.
    planned: f64,
    /// Most seconds that a unit of work has taken, by model name.
    measured: Mutex<BTreeMap<String, f64>>,
}

impl StepLimits {
    /// Limits for models of up to `bytes` on a device, before anything is measured.
    pub fn planned(bytes: u64, dtype: DType, device: Device) -> Self {
        let bytes_per_weight = match dtype {
            DType::F32 => 4.0,
            DType::Bf16 => 2.0,
            DType::Fp8 => 1.0,
        };
        let speed = match device {
            Device::Cpu => SLOWEST_CPU,
            Device::Cuda(_) => SLOWEST_GPU,
        };
        // A token passes every weight once: one multiplication and one addition.
        let planned = 2.0 * bytes as f64 / bytes_per_weight / speed;
        Self { bytes, planned, ..Self::default() }
    }

    /// The same limit for every step, for what comes before the first, and for decoding.
    #[must_use]
    pub fn or_fixed(self, fixed: Option<Duration>) -> Self {
        Self { fixed, ..self }
    }

    /// For models in this memory mode. Weights that were not needed for long may be on the disk alone, however fast the last
    /// steps were.
    #[must_use]
    pub fn in_mode(self, mode: MemoryMode) -> Self {
        let seconds = self.bytes as f64 / SLOWEST_DISK;
        let read = match mode {
            MemoryMode::Resident => [0.0, 0.0],
            MemoryMode::Offload => [0.0, seconds],
            MemoryMode::Stream => [seconds, seconds],
        };
        Self { read, ..self }
    }

    /// For loading a model.
    pub(super) fn load(&self) -> Duration {
        at_least(MIN_LOAD, self.bytes as f64 / SLOWEST_DISK)
    }

    /// For encoding a prompt and the first step, and for decoding.
    pub(super) fn first(&self, request: &ImageRequest) -> Duration {
        let unit = self.measured(request).map_or(self.planned, |measured| SLACK * measured);
        self.fixed.unwrap_or_else(|| at_least(MIN_FIRST, unit * work(request) + self.read[1]))
    }

    /// For every other step.
    pub(super) fn step(&self, request: &ImageRequest) -> Duration {
        let by_measure = |measured: f64| at_least(MIN_STEP, SLACK * measured * work(request) + self.read[0]);
        self.fixed.or_else(|| self.measured(request).map(by_measure)).unwrap_or_else(|| self.first(request))
    }

    /// Records how long a step took.
    pub(super) fn learn(&self, request: &ImageRequest, seconds: f64) {
        let per_unit = seconds / work(request);
        if per_unit.is_finite() {
            let mut measured = self.locked();
            let slowest = measured.entry(request.model.clone()).or_default();
            *slowest = slowest.max(per_unit);
        }
    }

    fn measured(&self, request: &ImageRequest) -> Option<f64> {
        self.locked().get(&request.model).copied()
    }

    /// A panic while the lock was held cannot leave the map inconsistent.
    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, f64>> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Units of work in a step: tokens of both guidance branches and all images, weighted by attention's quadratic cost.
fn work(request: &ImageRequest) -> f64 {
    let tokens = (request.width * request.height) as f64 / 256.0 + 512.0;
    2.0 * request.num_images.max(1) as f64 * tokens * (1.0 + tokens / ATTENTION)
}

fn at_least(floor: Duration, seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX).max(floor)
}

/// Resolves when this process has run for `limit`. Time in which the process or the machine was suspended does not count,
/// for the engine did nothing then either.
pub(super) async fn run_time(limit: Duration) {
    let interval = (limit / 10).clamp(Duration::from_millis(10), Duration::from_secs(1));
    let mut clock = tokio::time::interval(interval);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let ticks = limit.as_millis().div_ceil(interval.as_millis());
    for _ in 0..=ticks {
        clock.tick().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn request(side: usize) -> ImageRequest {
        let request = json!({
            "prompt": "", "negative_prompt": "", "width": side, "height": side, "steps": 1, "guidance": 1.0,
            "seed": 0, "num_images": 1, "format": "png", "inline": false, "check_safety": true
        });
        serde_json::from_value(request).expect("a request")
    }

    #[test]
    fn a_small_model_gets_the_least_limit_and_a_large_one_on_a_cpu_hours() {
        let mini = StepLimits::planned(20_000_000, DType::F32, Device::Cpu);
        assert_eq!(mini.first(&request(1024)), MIN_FIRST);
        let large = StepLimits::planned(36_000_000_000, DType::F32, Device::Cpu);
        assert!(large.first(&request(1024)) > Duration::from_secs(3600), "{:?}", large.first(&request(1024)));
        assert!(large.load() > Duration::from_secs(3600));
        let on_gpu = StepLimits::planned(26_000_000_000, DType::Bf16, Device::Cuda(0));
        assert!(on_gpu.first(&request(1024)) < Duration::from_secs(3600));
    }

    #[test]
    fn measured_steps_replace_the_plan_and_scale_with_the_image_size() {
        let limits = StepLimits::planned(36_000_000_000, DType::F32, Device::Cpu);
        limits.learn(&request(1024), 10.0);
        limits.learn(&request(1024), 5.0);
        let [small, same, twice] = [64, 1024, 2048].map(|side| limits.step(&request(side)));
        assert_eq!(small, MIN_STEP);
        assert!((199.0..201.0).contains(&same.as_secs_f64()), "{same:?}");
        assert!(twice > same * 4, "{twice:?}");
        assert_eq!(limits.first(&request(64)), MIN_FIRST);
    }

    #[test]
    fn the_operators_limit_replaces_all_others() {
        let fixed = Duration::from_secs(7);
        let limits = StepLimits::planned(36_000_000_000, DType::F32, Device::Cpu).or_fixed(Some(fixed));
        limits.learn(&request(1024), 10.0);
        assert_eq!((limits.first(&request(1024)), limits.step(&request(1024))), (fixed, fixed));
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_the_process_was_suspended_does_not_count() {
        let began = tokio::time::Instant::now();
        let limit = Duration::from_secs(10);
        let mut waits = std::pin::pin!(run_time(limit));
        tokio::select! { () = &mut waits => panic!("too early"), () = tokio::time::sleep(limit / 2) => {} }
        tokio::time::advance(limit * 100).await;
        waits.await;
        let waited = began.elapsed() - limit * 100;
        assert!(waited > limit - Duration::from_secs(2), "{waited:?}");
    }
}
