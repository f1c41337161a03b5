//! Chooses how much of a model stays in memory, and refuses one that memory cannot hold before it is loaded or downloaded, in
//! one line with what would fit.

use crate::config::{AdapterConfig, EngineConfig, MemoryModes};
use crate::device_report::device_report;
use crate::engine::load_options;
use crate::model_error::Result;
use crate::system::{free_memory, gigabytes};
use latentd_models::{
    DType, Device, Error, GenerateRequest, ImageEncoderFiles, Manifest, MemoryMode, ModelSource, Plan,
    SafetyOptions, Work, check_controlnet, check_ip_adapter,
};
use std::path::PathBuf;

/// Folders of a published model whose weights can be left out, or loaded in 8 bits.
const T5_FOLDER: &str = "text_encoder_3/";
const TRANSFORMER_FOLDER: &str = "transformer/";

/// What the folders of text encoders begin with.
const TEXT_FOLDERS: &str = "text_encoder";

/// The memory that a model needs in an engine in a memory mode, its safety checker included.
///
/// # Errors
/// Its files cannot be read.
pub(crate) fn plan(
    model: &ModelSource,
    (engine, mode): (&EngineConfig, MemoryMode),
    safety: &SafetyOptions,
    work: &Work,
) -> Result<Plan> {
    let work = Work { t5_tokens: engine.t5_tokens, ..*work };
    let mut plan = Plan::of(model, &load_options(engine, mode), &work)?;
    plan.add_safety(model, safety)?;
    Ok(plan)
}

/// The work of a server, whose requests may bring an initial image and LoRA adapters, have skip-layer guidance, and have the
/// largest ControlNet and the largest IP-Adapter of the operator that fit the model.
pub(crate) fn served(model: &ModelSource, adapters: &AdapterConfig) -> Work {
    let values = |(name, path): (&String, &PathBuf)| check_controlnet(model, name, path).ok();
    let controlnet = adapters.controlnets.iter().filter_map(values).max().unwrap_or_default();
    let values = |(name, path): (&String, &PathBuf)| {
        check_ip_adapter(model, (name, path), &ImageEncoderFiles::inside(name, path)).ok()
    };
    let ip_adapter = adapters.ip_adapters.iter().filter_map(values).max().unwrap_or_default();
    Work { adapters: true, skip_layers: true, controlnet, ip_adapter, ..Work::default() }
}

/// The work of a request, as a plan takes it.
///
/// # Errors
/// Its ControlNet or IP-Adapter does not fit the model.
pub(crate) fn work(model: &ModelSource, request: &GenerateRequest) -> Result<Work> {
    let net = request.controlnet.as_ref();
    let controlnet = net.map(|net| check_controlnet(model, &net.name, &net.path)).transpose()?;
    let ip_adapter = request.ip_adapter.as_ref();
    let ip_adapter = ip_adapter
        .map(|asked| check_ip_adapter(model, (&asked.name, &asked.path), &asked.encoder))
        .transpose()?;
    Ok(Work {
        width: request.width,
        height: request.height,
        images: request.num_images,
        t5_tokens: request.t5_tokens,
        guided: request.guidance > 1.0,
        steps: request.steps,
        init_image: request.init_image.is_some() || net.is_some(),
        adapters: !request.loras.is_empty(),
        skip_layers: request.skip_layers.is_some(),
        controlnet: controlnet.unwrap_or_default(),
        ip_adapter: ip_adapter.unwrap_or_default(),
    })
}

/// The fastest memory mode of an engine in which a model fits; without a check the fastest of all.
///
/// # Errors
/// As [`check`].
pub(crate) fn choose(
    model: &ModelSource,
    engine: &EngineConfig,
    safety: &SafetyOptions,
    work: &Work,
) -> Result<MemoryMode> {
    let free = free_memory(engine.device).filter(|_| engine.memory_check);
    let Some(free) = free else { return Ok(engine.memory_modes.fastest()) };
    fitting(engine, (free, 1), |engine, mode| peak(model, (engine, mode), safety, work))
}

/// Checks that a model fits into the memory of every engine in one of its memory modes; those on one device share its memory.
/// On a GPU it is enough that it fits while images are decoded in tiles, since it decodes so when its memory runs out; on the
/// processor the system would end the process first.
///
/// # Errors
/// It does not fit, with what would, or its files cannot be read.
pub(crate) fn check(
    model: &ModelSource,
    engines: &[EngineConfig],
    safety: &SafetyOptions,
    work: &Work,
) -> Result<()> {
    check_engines(engines, |engine, mode| peak(model, (engine, mode), safety, work))
}

/// The most bytes that a model needs at any time.
pub(crate) fn peak(
    model: &ModelSource,
    (engine, mode): (&EngineConfig, MemoryMode),
    safety: &SafetyOptions,
    work: &Work,
) -> Result<u64> {
    let plan = plan(model, (engine, mode), safety, work)?;
    Ok(if engine.device == Device::Cpu { plan.peak() } else { plan.in_tiles().peak() })
}

/// The same while images are decoded as a whole.
///
/// # Errors
/// As [`check`].
pub(crate) fn check_whole(
    model: &ModelSource,
    engines: &[EngineConfig],
    safety: &SafetyOptions,
    work: &Work,
) -> Result<()> {
    check_engines(engines, |engine, mode| Ok(plan(model, (engine, mode), safety, work)?.peak()))
}

/// Checks, before a published model is downloaded, that its weights alone fit.
///
/// # Errors
/// They do not fit, with what would.
pub(crate) fn check_published(manifest: &Manifest, engines: &[EngineConfig]) -> Result<()> {
    check_engines(engines, |engine, mode| Ok(published_weights(manifest, engine, mode)))
}

/// Bytes that the weights of a published model take at least, by the sizes of its files, which store 16 bits a value. More
/// than half of a transformer is read in every step.
pub(crate) fn published_weights(manifest: &Manifest, engine: &EngineConfig, mode: MemoryMode) -> u64 {
    let weights = manifest.files.iter().filter(|(path, _)| path.ends_with(".safetensors"));
    let weights = weights.filter(|(path, _)| engine.t5 || !path.starts_with(T5_FOLDER));
    let loaded = weights.map(|(path, bytes)| {
        let is_transformer = path.starts_with(TRANSFORMER_FOLDER);
        let resident = match mode {
            MemoryMode::Offload if is_transformer => bytes / 2,
            MemoryMode::Stream if is_transformer => 0,
            MemoryMode::Offload | MemoryMode::Stream if path.starts_with(TEXT_FOLDERS) => 0,
            MemoryMode::Resident | MemoryMode::Offload | MemoryMode::Stream => *bytes,
        };
        match engine.dtype {
            DType::F32 => 2 * resident,
            DType::Fp8 if is_transformer => resident / 2,
            DType::Bf16 | DType::Fp8 => resident,
        }
    });
    loaded.sum()
}

fn check_engines(
    engines: &[EngineConfig],
    needs: impl Fn(&EngineConfig, MemoryMode) -> Result<u64>,
) -> Result<()> {
    for (index, engine) in engines.iter().enumerate().filter(|(_, engine)| engine.memory_check) {
        let is_first = !engines[..index].iter().any(|other| other.device == engine.device);
        let Some(free) = free_memory(engine.device).filter(|_| is_first) else { continue };
        let count = engines.iter().filter(|other| other.device == engine.device).count() as u64;
        fitting(engine, (free, count), &needs)?;
    }
    Ok(())
}

/// The fastest memory mode in which `count` engines like this one, each of which `needs` so many bytes, fit into `free`
/// bytes.
///
/// # Errors
/// They fit in none, with what would.
fn fitting(
    engine: &EngineConfig,
    (free, count): (u64, u64),
    needs: impl Fn(&EngineConfig, MemoryMode) -> Result<u64>,
) -> Result<MemoryMode> {
    let mut needed = 0;
    for mode in engine.memory_modes.iter() {
        needed = count * needs(engine, mode)?;
        if needed <= free {
            return Ok(mode);
        }
    }
    let mut alternatives_that_fit = Vec::new();
    for (flags, other) in alternatives(engine, device_report(engine.device).has_fp8()) {
        for mode in other.memory_modes.iter() {
            let fewer = count * needs(&other, mode)?;
            if fewer <= free && fewer < needed {
                alternatives_that_fit.push(format!("give {flags} ({})", gigabytes(fewer)));
                break;
            }
        }
    }
    if count > 1 && needed / count <= free {
        alternatives_that_fit.push(format!("give --workers {}", free / (needed / count)));
    }
    let place = match engine.device {
        Device::Cpu => "on this machine".to_owned(),
        Device::Cuda(ordinal) => format!("on cuda:{ordinal}"),
    };
    let subject = if count > 1 { format!("{count} workers need") } else { "the model needs".to_owned() };
    alternatives_that_fit.push("free some".to_owned());
    let refusal = format!(
        "{subject} {} in {} and memory mode {}, and {} is free {place}: {}, or give --memory-check off",
        gigabytes(needed),
        engine.dtype.name(),
        engine.memory_modes.smallest().name(),
        gigabytes(free),
        alternatives_that_fit.join(", ")
    );
    Err(Error::Device(refusal).into())
}

/// Settings that need less memory, each with the flags that configure it.
fn alternatives(engine: &EngineConfig, has_fp8: bool) -> Vec<(&'static str, EngineConfig)> {
    let smaller = match engine.dtype {
        DType::F32 => Some(("--dtype bf16", "--dtype bf16 with --t5 off", DType::Bf16)),
        DType::Bf16 if has_fp8 => Some(("--dtype fp8", "--dtype fp8 with --t5 off", DType::Fp8)),
        _ => None,
    };
    let mut all = Vec::new();
    if engine.memory_modes.smallest() != MemoryMode::Stream {
        all.push(("--memory-mode auto", EngineConfig { memory_modes: MemoryModes::AUTO, ..engine.clone() }));
    }
    if let Some((alone, _, dtype)) = smaller {
        all.push((alone, EngineConfig { dtype, ..engine.clone() }));
    }
    if engine.t5 {
        all.push(("--t5 off", EngineConfig { t5: false, ..engine.clone() }));
        if let Some((_, both, dtype)) = smaller {
            all.push((both, EngineConfig { dtype, t5: false, ..engine.clone() }));
        }
    }
    all
}

#[cfg(test)]
mod tests;
