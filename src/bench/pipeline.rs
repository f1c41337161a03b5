//! `latentd bench pipeline`: a whole image, stage by stage, files included.

use super::machine::{self, Machine};
use super::shortcuts::ShortcutsJson;
use super::stats::{Samples, Summary, short};
use super::{at_least_one, publish, refusal, row};
use crate::args::{PipelineArgs, SafetyArgs};
use crate::checker;
use crate::config::{ConfigError, SafetyConfig, SingleModelConfig, safety};
use crate::engine;
use crate::image_file::{self, DEFAULT_QUALITY, Format};
use crate::memory_check;
use latentd_models::{Control, GenerateRequest, Pipeline, Step, Timings};
use serde::Serialize;
use std::time::Instant;
use tokio::runtime::Runtime;

/// The JSON of a run, in the keys of `benches/peers/diffusers_cpu.py` where both have them.
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
    text_s: Summary,
    denoise_s: Summary,
    decode_s: Summary,
    #[serde(skip_serializing_if = "Option::is_none")]
    safety_s: Option<Summary>,
    png_s: Summary,
    jpeg_s: Summary,
    total_s: Summary,
    load_s: f64,
    warmup: usize,
    peak_mem_bytes: Option<u64>,
    commit: &'static str,
    date: String,
    command: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shortcuts: Option<ShortcutsJson>,
    machine: Machine,
}

/// Seconds of one request; the files are encoded once in each format.
struct Run {
    stages: Timings,
    png: f64,
    jpeg: f64,
}

impl Run {
    /// A request's seconds, with its files in PNG.
    fn total(&self) -> f64 {
        let Timings { text, denoise, decode, safety, .. } = self.stages;
        text + denoise + decode + safety + self.png
    }
}

/// Measures what `args` ask for.
pub(super) fn run(args: PipelineArgs, runtime: &Runtime) -> anyhow::Result<()> {
    let SingleModelConfig { model, engine: config, hub } = SingleModelConfig::resolve(&args.engine)?;
    let safety = safety(&args)?;
    at_least_one("--runs", args.work.runs)?;
    let request = request(&args, config.t5_tokens);
    let model = checker::ensure_downloaded_blocking(runtime, &hub, &safety, &model)?;
    let checker = checker::resolve(&safety, &hub, &model)?;
    let mut machine = Machine::look(config.device);
    let work = memory_check::work(&model, &request)?;
    let memory = memory_check::choose(&model, &config, &checker, &work)?;
    let loading = Instant::now();
    let mut pipeline = engine::open(&model, &config, memory)?;
    let is_checked = pipeline.set_safety(&checker)?;
    let load_s = loading.elapsed().as_secs_f64();
    for _ in 0..args.work.warmup {
        generate(&mut pipeline, &request)?;
    }
    let runs =
        (0..args.work.runs).map(|_| generate(&mut pipeline, &request)).collect::<anyhow::Result<Vec<_>>>()?;
    machine.look_again();
    let stage = |of: fn(&Run) -> f64| {
        let samples = Samples::new(runs.iter().map(of).collect());
        samples.map(|samples| samples.summary()).ok_or_else(|| anyhow::anyhow!("nothing was measured"))
    };
    let report = Report {
        bench: "pipeline",
        engine: "latentd",
        gpu: machine.gpu(),
        driver: machine.driver(),
        model: pipeline.card().name.clone(),
        width: args.work.width,
        height: args.work.height,
        steps: args.work.steps,
        cfg: args.work.cfg,
        batch: args.work.batch,
        precision: config.dtype.name(),
        memory_mode: memory.name(),
        text_s: stage(|run| run.stages.text)?,
        denoise_s: stage(|run| run.stages.denoise)?,
        decode_s: stage(|run| run.stages.decode)?,
        safety_s: is_checked.then(|| stage(|run| run.stages.safety)).transpose()?,
        png_s: stage(|run| run.png)?,
        jpeg_s: stage(|run| run.jpeg)?,
        total_s: stage(Run::total)?,
        load_s,
        warmup: args.work.warmup,
        peak_mem_bytes: machine.peak_memory(),
        commit: machine::commit(),
        date: machine::date(),
        command: machine::command(),
        shortcuts: ShortcutsJson::new(&config.shortcuts, runs[0].stages.skipped, None),
        machine,
    };
    publish(&report, &report.table(), &args.report)
}

fn safety(args: &PipelineArgs) -> Result<SafetyConfig, ConfigError> {
    let safety_checker = args.safety_checker.clone();
    safety::parse(&SafetyArgs { safety_checker, safety_threshold: None, force_safety_checker: false })
}

fn request(args: &PipelineArgs, t5_tokens: usize) -> GenerateRequest {
    GenerateRequest {
        prompt: args.prompt.clone(),
        negative_prompt: String::new(),
        width: args.work.width,
        height: args.work.height,
        steps: args.work.steps,
        guidance: args.work.cfg,
        seed: 0,
        num_images: args.work.batch,
        skipped_images: 0,
        t5_tokens,
        check_safety: true,
        init_image: None,
        loras: Vec::new(),
        skip_layers: None,
        controlnet: None,
        ip_adapter: None,
    }
}

fn generate(pipeline: &mut Pipeline, request: &GenerateRequest) -> anyhow::Result<Run> {
    pipeline.forget_prompts();
    let made = pipeline.generate(request, &mut |_: Step| Control::Continue).map_err(refusal)?;
    let encode = |format| {
        let started = Instant::now();
        for one in &made.images {
            image_file::encode(one, format, &[])?;
        }
        anyhow::Ok(started.elapsed().as_secs_f64())
    };
    Ok(Run { stages: made.timings, png: encode(Format::Png)?, jpeg: encode(Format::Jpeg(DEFAULT_QUALITY))? })
}

impl Report {
    fn table(&self) -> String {
        let Self { model, precision, memory_mode, .. } = self;
        let mut table =
            format!("latentd bench pipeline: {model} in {precision}, memory mode {memory_mode}\n");
        table += &row("device", &self.machine.line());
        let Self { width, height, steps, cfg, batch, .. } = self;
        table += &row("work", &format!("{width}x{height}, {steps} steps, cfg {cfg}, batch {batch}"));
        let stages = [
            ("text", Some(self.text_s)),
            ("denoise", Some(self.denoise_s)),
            ("decode", Some(self.decode_s)),
            ("safety", self.safety_s),
            ("png", Some(self.png_s)),
            ("jpeg", Some(self.jpeg_s)),
            ("total", Some(self.total_s)),
        ];
        let ran = stages.into_iter().filter_map(|(name, seconds)| Some((name, seconds?)));
        for (name, Summary { median, min, max, n }) in ran {
            let [median, min, max] = [median, min, max].map(short);
            table += &row(name, &format!("{median:>8} s median, {min} to {max}, {n} runs"));
        }
        table += &self.shortcuts.as_ref().map(ShortcutsJson::table).unwrap_or_default();
        let memory =
            self.peak_mem_bytes.map_or("unknown".into(), |bytes| format!("{} GB", short(bytes as f64 / 1e9)));
        table += &row("memory", &format!("{memory} at most"));
        table + &row("built from", self.commit)
    }
}
