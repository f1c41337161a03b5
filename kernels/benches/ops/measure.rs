//! Times ops, and writes the table and its JSON.

use candle_core::{DType, Device, Result, Tensor};
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Where everything runs.
pub(crate) static DEVICE: LazyLock<Device> = LazyLock::new(|| {
    #[cfg(feature = "cuda")]
    return latentd_kernels::cuda::open(0, None).expect("built for CUDA, so there must be a GPU");
    #[cfg(not(feature = "cuda"))]
    Device::Cpu
});

/// Numbers of deviation 1, uniform because that is cheap: there are gigabytes of inputs.
pub(crate) fn random(shape: &[usize], dtype: DType) -> Result<Tensor> {
    let most = 3f32.sqrt();
    if DEVICE.is_cuda() {
        return Tensor::rand(-most, most, shape, &DEVICE)?.to_dtype(dtype);
    }
    let mut state = 1u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 8) as f32 / 16_777_216.0 - 0.5) * 2.0 * most
    };
    let values: Vec<f32> = std::iter::repeat_with(next).take(shape.iter().product()).collect();
    Tensor::from_vec(values, shape, &DEVICE)?.to_dtype(dtype)
}

/// The work of a call, in the unit of a rate, and its ceiling.
pub(crate) struct Work {
    amount: f64,
    unit: &'static str,
    ceiling: Option<&'static str>,
}

impl Work {
    pub(crate) fn flops(n: usize) -> Self {
        Self { amount: n as f64 * 1e-9, unit: "GFLOP/s", ceiling: None }
    }

    pub(crate) fn bytes(n: usize) -> Self {
        Self { amount: n as f64 * 1e-9, unit: "GB/s", ceiling: None }
    }

    /// The first op with this ceiling sets it; later ones are shown as shares of its rate.
    #[cfg(feature = "cuda")]
    pub(crate) fn under(self, ceiling: &'static str) -> Self {
        Self { ceiling: Some(ceiling), ..self }
    }
}

/// A line of the table.
struct Measured {
    name: String,
    millis: f64,
    rate: f64,
    unit: &'static str,
    ceiling: Option<(&'static str, f64)>,
}

pub(crate) struct Bench {
    filter: String,
    pub(crate) small: bool,
    pub(crate) step_alone: bool,
    json: Option<PathBuf>,
    ceilings: RefCell<HashMap<&'static str, f64>>,
    results: RefCell<Vec<Measured>>,
}

impl Bench {
    pub(crate) fn from_arguments() -> Self {
        let mut bench = Self {
            filter: String::new(),
            small: false,
            step_alone: false,
            json: None,
            ceilings: RefCell::default(),
            results: RefCell::default(),
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--small" => bench.small = true,
                "--step" => bench.step_alone = true,
                "--json" => bench.json = Some(arguments.next().expect("--json FILE").into()),
                // cargo's own.
                flag if flag.starts_with('-') => (),
                filter => bench.filter = filter.to_owned(),
            }
        }
        bench
    }

    /// Sizes of a model, or no more than `most` each.
    pub(crate) fn fit<const N: usize>(&self, sizes: [usize; N], most: usize) -> [usize; N] {
        sizes.map(|size| if self.small { size.min(most) } else { size })
    }

    /// Runs `op` for about a second (at least thrice; 0.2 s on a GPU); prints the fastest run, its rate, and what that is
    /// of the ceiling, or on a CPU the best rate per second that a core was busy, which other work on the machine
    /// disturbs least.
    pub(crate) fn run<I>(
        &self,
        name: &str,
        work: Work,
        inputs: impl FnOnce() -> Result<I>,
        op: impl Fn(&I) -> Result<Tensor>,
    ) -> Result<()> {
        if !name.contains(&self.filter) {
            return Ok(());
        }
        let inputs = inputs()?;
        let (best, least_busy) = if DEVICE.is_cuda() {
            (on_the_device(|| op(&inputs))?, None)
        } else {
            let (best, least_busy) = on_the_host(|| op(&inputs))?;
            (best, Some(least_busy))
        };
        let rate_in = |time: Duration| work.amount / time.as_secs_f64();
        let (millis, rate) = (best.as_secs_f64() * 1e3, rate_in(best));
        let ceiling = work.ceiling.map(|of| (of, *self.ceilings.borrow_mut().entry(of).or_insert(rate)));
        let beside = match (ceiling, least_busy) {
            (Some((of, most)), _) => format!(" {:5.1} % of {of}", 100.0 * rate / most),
            (None, Some(busy)) => format!(" {:8.1} a core", rate_in(busy)),
            (None, None) => String::new(),
        };
        println!("{name:56} {millis:9.3} ms {rate:9.1} {:7}{beside}", work.unit);
        let (name, unit) = (name.to_owned(), work.unit);
        self.results.borrow_mut().push(Measured { name, millis, rate, unit, ceiling });
        Ok(())
    }

    /// Writes the measurements, if a file is given.
    pub(crate) fn write_json(&self) -> Result<()> {
        let Some(file) = &self.json else { return Ok(()) };
        let results: Vec<_> = self.results.borrow().iter().map(Measured::json).collect();
        let report = serde_json::json!({ "small": self.small, "ops": results });
        std::fs::write(file, format!("{report:#}\n"))?;
        Ok(())
    }
}

impl Measured {
    fn json(&self) -> serde_json::Value {
        let mut line = serde_json::json!({
            "name": self.name,
            "ms": self.millis,
            "rate": self.rate,
            "unit": self.unit,
        });
        if let Some((of, most)) = self.ceiling {
            line["ceiling"] = of.into();
            line["of_ceiling"] = (self.rate / most).into();
        }
        line
    }
}

/// The fastest call, and the least time that all cores together were busy with one.
fn on_the_host(op: impl Fn() -> Result<Tensor>) -> Result<(Duration, Duration)> {
    let (start, mut best, mut least_busy, mut runs) = (Instant::now(), Duration::MAX, Duration::MAX, 0);
    while runs < 3 || start.elapsed() < Duration::from_secs(1) {
        let (begin, busy) = (Instant::now(), busy());
        std::hint::black_box(op()?);
        best = best.min(begin.elapsed());
        least_busy = least_busy.min(self::busy().saturating_sub(busy));
        runs += 1;
    }
    Ok((best, least_busy))
}

/// The fastest of several batches, by the device's own clock: calls follow each other without the host between them.
fn on_the_device(op: impl Fn() -> Result<Tensor>) -> Result<Duration> {
    #[cfg(feature = "cuda")]
    {
        use latentd_kernels::cuda::Event;
        const BATCH: u32 = 10;
        std::hint::black_box(op()?);
        let (start, mut best) = (Instant::now(), Duration::MAX);
        while start.elapsed() < Duration::from_millis(200) {
            let begin = Event::new(&DEVICE)?;
            for _ in 0..BATCH {
                std::hint::black_box(op()?);
            }
            let end = Event::new(&DEVICE)?;
            end.wait()?;
            best = best.min(Duration::from_secs_f64(end.seconds_since(&begin)?) / BATCH);
        }
        Ok(best)
    }
    #[cfg(not(feature = "cuda"))]
    on_the_host(op).map(|(best, _)| best)
}

/// Time that this process' threads have run, by Linux's scheduler.
fn busy() -> Duration {
    let nanoseconds = |task: std::fs::DirEntry| -> Option<u64> {
        std::fs::read_to_string(task.path().join("schedstat")).ok()?.split(' ').next()?.parse().ok()
    };
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    Duration::from_nanos(tasks.filter_map(nanoseconds).sum())
}
