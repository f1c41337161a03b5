//! `latentd bench denoise`: the loop alone, as a rate that cards and engines can be compared by.

use super::machine::{self, Machine};
use super::rival::RivalJson;
use super::shortcuts::ShortcutsJson;
use super::stats::{Bin, Percentiles, Samples, Summary, draw, short};
use super::{at_least_one, publish, refusal, row};
use crate::args::{DenoiseArgs, RivalEngine};
use crate::config::{ConfigError, EngineConfig, ModelLocation, SingleModelConfig};
use crate::engine;
use crate::hub_models;
use crate::system::free_memory;
use latentd_models::bench::{DenoiseBench, DenoiseRun, DenoiseSpec, Profile, Synthetic};
use latentd_models::{MemoryMode, ModelSource, Streams};
use serde::Serialize;
use std::time::Instant;
use tokio::runtime::Runtime;

/// Tokens of the two CLIP encoders, which share their places.
const CLIP_TOKENS: usize = 77;

/// The part of a step that is none of its ops.
const BETWEEN: &str = "(everything between the ops)";

/// Fewer steps than this make no histogram.
const WORTH_DRAWING: usize = 20;

/// The JSON of a run; `benches/peers/diffusers_gpu.py` writes the same keys.
#[derive(Debug, Serialize)]
struct Report {
    bench: &'static str,
    engine: &'static str,
    gpu: Option<String>,
    driver: Option<String>,
    model: String,
    width: usize,
    height: usize,
    steps: usize,
    cfg: f64,
    batch: usize,
    precision: &'static str,
    memory_mode: &'static str,
    denoise_s: Summary,
    step_ms: Percentiles,
    tflops: f64,
    gemm_peak_tflops: f64,
    peak_mem_bytes: Option<u64>,
    commit: &'static str,
    date: String,
    command: Vec<String>,
    weights: &'static str,
    parameters: u64,
    text_tokens: usize,
    tflop_per_run: f64,
    load_s: f64,
    warmup: usize,
    /// Of the very first run, which also chooses algorithms that are not known yet and records a step.
    first_s: f64,
    runs_s: Vec<f64>,
    step_histogram: Vec<Bin>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<ProfileJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shortcuts: Option<ShortcutsJson>,
    /// Whether a step's text ran beside its image.
    two_streams: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    rival: Option<RivalJson>,
    machine: Machine,
}

/// Where one more loop, run op by op, spent its time.
#[derive(Debug, Serialize)]
struct ProfileJson {
    /// More than an ordinary step: nothing overlaps.
    step_ms: f64,
    ops: Vec<OpJson>,
}

/// One op's part of a step.
#[derive(Debug, Serialize)]
struct OpJson {
    op: String,
    calls_per_step: f64,
    step_ms: f64,
    /// Of the whole loop, 0 to 1.
    share: f64,
}

impl ProfileJson {
    fn new(profile: Profile, steps: usize) -> Self {
        let (whole, steps) = (profile.seconds, steps as f64);
        let named: f64 = profile.rows.iter().map(|row| row.seconds).sum();
        let json = |op: String, calls: usize, seconds: f64| OpJson {
            op,
            calls_per_step: calls as f64 / steps,
            step_ms: seconds * 1e3 / steps,
            share: seconds / whole,
        };
        let mut ops: Vec<_> =
            profile.rows.into_iter().map(|row| json(row.op, row.calls, row.seconds)).collect();
        ops.push(json(BETWEEN.to_owned(), 0, (whole - named).max(0.0)));
        Self { step_ms: whole * 1e3 / steps, ops }
    }

    fn table(&self) -> String {
        let head = format!(
            "\n  {:>9} {:>6} {:>7}  op ({} ms a step, op by op)\n",
            "ms",
            "share",
            "calls",
            short(self.step_ms)
        );
        let line = |op: &OpJson| {
            let (ms, share, calls) = (short(op.step_ms), 100.0 * op.share, short(op.calls_per_step));
            format!("  {ms:>9} {share:>5.1}% {calls:>7}  {}\n", op.op)
        };
        head + &self.ops.iter().map(line).collect::<String>()
    }
}

/// Measures what `args` ask for.
pub(super) fn run(args: DenoiseArgs, runtime: &Runtime) -> anyhow::Result<()> {
    let SingleModelConfig { model, engine: config, hub } = SingleModelConfig::resolve(&args.engine)?;
    let synthetic = args.synthetic.as_deref().map(synthetic).transpose()?;
    at_least_one("--runs", args.work.runs)?;
    let spec = DenoiseSpec {
        width: args.work.width,
        height: args.work.height,
        steps: args.work.steps,
        guidance: args.work.cfg,
        batch: args.work.batch,
        text_tokens: CLIP_TOKENS + config.t5_tokens,
    };
    let download = || match &model {
        ModelLocation::Local(source) => Ok(source.clone()),
        location => hub_models::block_on(runtime, hub_models::ensure_downloaded(&hub, location)),
    };
    let weights = match synthetic {
        Some(model) => BenchWeights::Synthetic(model, args.blocks),
        None => BenchWeights::Model(download()?),
    };
    let machine = Machine::look(config.device);
    let loading = Instant::now();
    let mut bench = open(&weights, &config, &args).map_err(refusal)?;
    bench.set_shortcuts(config.shortcuts);
    let load_s = loading.elapsed().as_secs_f64();
    if args.rival == Some(RivalEngine::Candle) {
        bench
            .add_stock_engine(
                &engine::load_options(&config, MemoryMode::Resident),
                free_memory(config.device),
            )
            .map_err(refusal)?;
    }
    let (mut runs, mut rival_runs) = (Vec::new(), Vec::new());
    for _ in 0..args.work.warmup + args.work.runs {
        runs.push(bench.run(&spec).map_err(refusal)?);
        if args.rival.is_some() {
            rival_runs.push(bench.run_stock_engine(&spec).map_err(refusal)?);
        }
    }
    let first_s = runs[0].seconds;
    runs.drain(..args.work.warmup);
    rival_runs.drain(..args.work.warmup.min(rival_runs.len()));
    let profile = args.profile.then(|| bench.profile(&spec)).transpose().map_err(refusal)?;
    let error = match config.shortcuts.is_exact() {
        true => None,
        false => Some(bench.relative_error(&spec).map_err(refusal)?),
    };
    let measured = Measured {
        spec,
        runs,
        rival_runs,
        first_s,
        profile,
        error,
        load_s,
        synthetic: synthetic.is_some(),
        machine,
    };
    let report = report(measured, &args, &config, &bench)?;
    publish(&report, &report.table(), &args.report)
}

fn synthetic(name: &str) -> Result<Synthetic, ConfigError> {
    let known = [Synthetic::Sd35Large, Synthetic::Sd35Medium];
    let is = |model: &&Synthetic| name == model.name() || Some(name) == model.name().strip_prefix("sd3.5-");
    let found = known.iter().find(is).copied();
    found.ok_or_else(|| ConfigError(format!("--synthetic {name}: give `sd3.5-large` or `sd3.5-medium`")))
}

/// The weights that are measured.
enum BenchWeights {
    /// Random ones of a published shape; of so many blocks, if not of all.
    Synthetic(Synthetic, Option<usize>),
    /// Those of a model.
    Model(ModelSource),
}

fn open(
    weights: &BenchWeights,
    config: &EngineConfig,
    args: &DenoiseArgs,
) -> latentd_models::Result<DenoiseBench> {
    let mut options = engine::load_options(config, config.memory_modes.fastest());
    if args.one_stream {
        options.streams = Streams::One;
    }
    match weights {
        BenchWeights::Synthetic(model, blocks) => {
            DenoiseBench::synthetic(*model, *blocks, &options, free_memory(config.device))
        }
        BenchWeights::Model(model) => DenoiseBench::load(model, &options),
    }
}

/// What the runs gave.
struct Measured {
    spec: DenoiseSpec,
    runs: Vec<DenoiseRun>,
    /// None where no other engine was measured.
    rival_runs: Vec<DenoiseRun>,
    first_s: f64,
    profile: Option<Profile>,
    /// Of the shortcuts.
    error: Option<f64>,
    load_s: f64,
    synthetic: bool,
    machine: Machine,
}

fn report(
    measured: Measured,
    args: &DenoiseArgs,
    config: &EngineConfig,
    bench: &DenoiseBench,
) -> anyhow::Result<Report> {
    let Measured { spec, runs, rival_runs, first_s, profile, error, load_s, synthetic, mut machine } =
        measured;
    machine.look_again();
    let runs_s: Vec<f64> = runs.iter().map(|run| run.seconds).collect();
    let steps = runs.iter().flat_map(|run| &run.step_seconds).map(|seconds| seconds * 1e3).collect();
    let empty = || anyhow::anyhow!("nothing was measured");
    let (totals, steps) =
        (Samples::new(runs_s.clone()).ok_or_else(empty)?, Samples::new(steps).ok_or_else(empty)?);
    let denoise_s = totals.summary();
    // Before the products for the peak take memory of their own.
    let peak_mem_bytes = machine.peak_memory();
    let tflop_per_run = bench.flops(&spec, &runs[0]) / 1e12;
    Ok(Report {
        bench: "denoise",
        engine: "latentd",
        gpu: machine.gpu(),
        driver: machine.driver(),
        model: bench.card().name.clone(),
        width: spec.width,
        height: spec.height,
        steps: spec.steps,
        cfg: spec.guidance,
        batch: spec.batch,
        precision: config.dtype.name(),
        memory_mode: config.memory_modes.fastest().name(),
        denoise_s,
        step_ms: steps.percentiles(),
        tflops: tflop_per_run / denoise_s.median,
        gemm_peak_tflops: bench.gemm_peak()?,
        peak_mem_bytes,
        commit: machine::commit(),
        date: machine::date(),
        command: machine::command(),
        weights: if synthetic { "synthetic" } else { "files" },
        parameters: bench.parameters(),
        text_tokens: spec.text_tokens,
        tflop_per_run,
        load_s,
        warmup: args.work.warmup,
        first_s,
        runs_s,
        step_histogram: steps.histogram(),
        profile: profile.map(|profile| ProfileJson::new(profile, spec.steps)),
        shortcuts: ShortcutsJson::new(&config.shortcuts, runs[0].skipped, error),
        two_streams: bench.two_streams(),
        rival: RivalJson::new(&rival_runs, denoise_s.median),
        machine,
    })
}

impl Report {
    fn table(&self) -> String {
        let Summary { median, min, max, n } = self.denoise_s;
        let weights = if self.weights == "synthetic" { "random weights" } else { "its own weights" };
        let mut table = format!(
            "latentd bench denoise: {} in {}, {} million parameters, {weights}\n",
            self.model,
            self.precision,
            short(self.parameters as f64 / 1e6)
        );
        table += &row("device", &self.machine.line());
        table += &row(
            "work",
            &format!(
                "{}x{}, {} steps, cfg {}, batch {}, {} text tokens: {} TFLOP",
                self.width,
                self.height,
                self.steps,
                self.cfg,
                self.batch,
                self.text_tokens,
                short(self.tflop_per_run)
            ),
        );
        let spread = format!(
            "{} s median, {} to {}, {n} runs after {} to warm up",
            short(median),
            short(min),
            short(max),
            self.warmup
        );
        table += &row("denoise", &spread);
        table += &self.rival.as_ref().map(RivalJson::table).unwrap_or_default();
        table += &row("first run", &format!("{} s", short(self.first_s)));
        let steps = self.step_ms;
        let [p50, p90, p99, max] = [steps.p50, steps.p90, steps.p99, steps.max].map(short);
        table += &row("step", &format!("{p50} ms p50, {p90} p90, {p99} p99, {max} at most"));
        let share = 100.0 * self.tflops / self.gemm_peak_tflops;
        table += &row(
            "rate",
            &format!(
                "{} TFLOP/s, {share:.0} % of this device's best matrix product ({} TFLOP/s)",
                short(self.tflops),
                short(self.gemm_peak_tflops)
            ),
        );
        table += &self.shortcuts.as_ref().map(ShortcutsJson::table).unwrap_or_default();
        let memory =
            self.peak_mem_bytes.map_or("unknown".into(), |bytes| format!("{} GB", short(bytes as f64 / 1e9)));
        table += &row("memory", &format!("{memory} at most"));
        table += &row("built from", self.commit);
        if steps.n >= WORTH_DRAWING {
            table += "\n  milliseconds of a step\n";
            table += &draw(&self.step_histogram, "ms");
        }
        table + &self.profile.as_ref().map(ProfileJson::table).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_synthetic_model_has_a_long_and_a_short_name() {
        for name in ["sd3.5-large", "large"] {
            assert_eq!(synthetic(name).expect("a model"), Synthetic::Sd35Large);
        }
        assert_eq!(synthetic("medium").expect("a model"), Synthetic::Sd35Medium);
        for name in ["", "sd3.5-", "sd3", "sd3.5-huge"] {
            assert!(synthetic(name).expect_err("a refusal").to_string().contains("--synthetic"));
        }
    }
}
