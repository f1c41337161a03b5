//! Refuses a model that memory cannot hold before it is loaded or downloaded, in one line with what would fit.

use crate::config::{AdapterConfig, EngineConfig};
use crate::device_report::device_report;
use crate::engine::load_options;
use crate::model_error::Result;
use crate::system::{free_memory, gigabytes};
use latentd_models::{
    DType, Device, Error, GenerateRequest, ImageEncoderFiles, Manifest, ModelSource, Plan, SafetyOptions,
    Work, check_controlnet, check_ip_adapter,
};
use std::path::PathBuf;

/// Folders of a published model whose weights can be left out, or loaded in 8 bits.
const T5_FOLDER: &str = "text_encoder_3/";
const TRANSFORMER_FOLDER: &str = "transformer/";

/// The memory that a model needs in an engine, its safety checker included.
///
/// # Errors
/// Its files cannot be read.
pub(crate) fn plan(
    model: &ModelSource,
    engine: &EngineConfig,
    safety: &SafetyOptions,
    work: &Work,
) -> Result<Plan> {
    let work = Work { t5_tokens: engine.t5_tokens, ..*work };
    let mut plan = Plan::of(model, &load_options(engine), &work)?;
    plan.add_safety(model, safety)?;
    Ok(plan)
}

/// The work of a server, whose requests may bring an initial image and LoRA adapters, and have the largest ControlNet and the
/// largest IP-Adapter of the operator that fit the model.
pub(crate) fn served(model: &ModelSource, adapters: &AdapterConfig) -> Work {
    let values = |(name, path): (&String, &PathBuf)| check_controlnet(model, name, path).ok();
    let controlnet = adapters.controlnets.iter().filter_map(values).max().unwrap_or_default();
    let values = |(name, path): (&String, &PathBuf)| {
        check_ip_adapter(model, (name, path), &ImageEncoderFiles::inside(name, path)).ok()
    };
    let ip_adapter = adapters.ip_adapters.iter().filter_map(values).max().unwrap_or_default();
    Work { adapters: true, controlnet, ip_adapter, ..Work::default() }
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

/// Checks that a model fits into the memory of every engine; those on one device share its memory. On a GPU it is enough
/// that it fits while images are decoded in tiles, since it decodes so when its memory runs out; on the processor the system
/// would end the process first.
///
/// # Errors
/// It does not fit, with what would, or its files cannot be read.
pub(crate) fn check(
    model: &ModelSource,
    engines: &[EngineConfig],
    safety: &SafetyOptions,
    work: &Work,
) -> Result<()> {
    check_engines(engines, |engine| {
        let plan = plan(model, engine, safety, work)?;
        Ok(if engine.device == Device::Cpu { plan.peak() } else { plan.in_tiles().peak() })
    })
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
    check_engines(engines, |engine| Ok(plan(model, engine, safety, work)?.peak()))
}

/// Checks, before a published model is downloaded, that its weights alone fit.
///
/// # Errors
/// They do not fit, with what would.
pub(crate) fn check_published(manifest: &Manifest, engines: &[EngineConfig]) -> Result<()> {
    check_engines(engines, |engine| Ok(published_weights(manifest, engine)))
}

/// Bytes that the weights of a published model take at least, by the sizes of its files, which store 16 bits a value.
pub(crate) fn published_weights(manifest: &Manifest, engine: &EngineConfig) -> u64 {
    let weights = manifest.files.iter().filter(|(path, _)| path.ends_with(".safetensors"));
    let weights = weights.filter(|(path, _)| engine.t5 || !path.starts_with(T5_FOLDER));
    let loaded = weights.map(|(path, bytes)| match engine.dtype {
        DType::F32 => 2 * bytes,
        DType::Bf16 => *bytes,
        DType::Fp8 if path.starts_with(TRANSFORMER_FOLDER) => bytes / 2,
        DType::Fp8 => *bytes,
    });
    loaded.sum()
}

fn check_engines(engines: &[EngineConfig], needs: impl Fn(&EngineConfig) -> Result<u64>) -> Result<()> {
    for (index, engine) in engines.iter().enumerate().filter(|(_, engine)| engine.memory_check) {
        let is_first = !engines[..index].iter().any(|other| other.device == engine.device);
        let Some(free) = free_memory(engine.device).filter(|_| is_first) else { continue };
        let count = engines.iter().filter(|other| other.device == engine.device).count() as u64;
        if let Some(line) = refusal(engine, (free, count), &needs)? {
            return Err(Error::Device(line).into());
        }
    }
    Ok(())
}

/// Why `count` engines like this one, each of which `needs` so many bytes, do not fit into `free` bytes, if they do not.
fn refusal(
    engine: &EngineConfig,
    (free, count): (u64, u64),
    needs: impl Fn(&EngineConfig) -> Result<u64>,
) -> Result<Option<String>> {
    let needed = count * needs(engine)?;
    if needed <= free {
        return Ok(None);
    }
    let mut alternatives_that_fit = Vec::new();
    for (flags, other) in alternatives(engine, device_report(engine.device).has_fp8()) {
        let fewer = count * needs(&other)?;
        if fewer <= free && fewer < needed {
            alternatives_that_fit.push(format!("give {flags} ({})", gigabytes(fewer)));
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
    Ok(Some(format!(
        "{subject} {} in {} and {} is free {place}: {}, or give --memory-check off",
        gigabytes(needed),
        engine.dtype.name(),
        gigabytes(free),
        alternatives_that_fit.join(", ")
    )))
}

/// Settings that need less memory, each with the flags that configure it.
fn alternatives(engine: &EngineConfig, has_fp8: bool) -> Vec<(&'static str, EngineConfig)> {
    let smaller = match engine.dtype {
        DType::F32 => Some(("--dtype bf16", "--dtype bf16 with --t5 off", DType::Bf16)),
        DType::Bf16 if has_fp8 => Some(("--dtype fp8", "--dtype fp8 with --t5 off", DType::Fp8)),
        _ => None,
    };
    let mut all = Vec::new();
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
mod tests {
    use super::*;
    use latentd_models::{SafetySource, Shortcuts};

    fn engine() -> EngineConfig {
        EngineConfig {
            max_cpu_isa: None,
            device: Device::Cpu,
            dtype: DType::F32,
            shift: None,
            t5_tokens: 256,
            shortcuts: Shortcuts::default(),
            t5: true,
            memory_check: true,
            cache: "cache".into(),
        }
    }

    fn line(free: u64, count: u64) -> Option<String> {
        refusal(&engine(), (free, count), |engine| Ok(peak(engine))).expect("a plan")
    }

    fn peak(engine: &EngineConfig) -> u64 {
        let safety = SafetyOptions { source: SafetySource::Own, threshold: None, forced: false };
        plan(&ModelSource::Builtin, engine, &safety, &Work::default()).expect("a plan").peak()
    }

    #[test]
    fn what_fits_is_not_refused() {
        assert_eq!(line(peak(&engine()), 1), None);
        assert_eq!(line(2 * peak(&engine()), 2), None);
    }

    #[test]
    fn only_what_would_fit_is_advised() {
        let bf16 = peak(&EngineConfig { dtype: DType::Bf16, ..engine() });
        let words = line(bf16, 1).expect("a refusal");
        assert!(words.starts_with("the model needs ") && words.contains(" in f32 and "), "{words}");
        assert!(
            words.contains("give --dtype bf16 (") && words.ends_with(", or give --memory-check off"),
            "{words}"
        );
        assert!(!words.contains(": give --t5 off"), "T5 of the built-in model is small: {words}");
        let nothing = line(1_000_000, 1).expect("a refusal");
        assert!(nothing.ends_with("and 1 MB is free on this machine: free some, or give --memory-check off"));
    }

    #[test]
    fn fp8_is_advised_where_the_device_has_it() {
        let engine = EngineConfig { dtype: DType::Bf16, device: Device::Cuda(0), ..engine() };
        let flags =
            |has_fp8| alternatives(&engine, has_fp8).into_iter().map(|(flags, _)| flags).collect::<Vec<_>>();
        assert_eq!(flags(true), ["--dtype fp8", "--t5 off", "--dtype fp8 with --t5 off"]);
        assert_eq!(flags(false), ["--t5 off"]);
    }

    #[test]
    fn workers_of_one_device_share_its_memory() {
        let words = line(peak(&engine()) + 1, 2).expect("a refusal");
        assert!(words.starts_with("2 workers need ") && words.contains("--workers 1"), "{words}");
    }

    #[test]
    fn a_published_model_is_refused_before_its_download() {
        let large = &Manifest::all()[0];
        let weights = |dtype, t5| published_weights(large, &EngineConfig { dtype, t5, ..engine() });
        let bf16 = weights(DType::Bf16, true);
        assert!((26_000_000_000..29_000_000_000).contains(&bf16), "{bf16}");
        assert_eq!(weights(DType::F32, true), 2 * bf16);
        assert_eq!(bf16 - weights(DType::Bf16, false), 9_520_000_000, "T5");
        assert_eq!(bf16 - weights(DType::Fp8, true), 8_150_000_000, "half of the transformer");
        let needs = |engine: &EngineConfig| Ok(published_weights(large, engine));
        let words = refusal(&engine(), (bf16, 1), needs).expect("a manifest").expect("a refusal");
        assert!(
            words.contains("give --dtype bf16 (") && words.ends_with("or give --memory-check off"),
            "{words}"
        );
    }
}
