//! Refuses a model that memory cannot hold before anything of it is loaded, in one line that says what would fit.

use crate::config::EngineConfig;
use crate::device_report::device_report;
use crate::engine::load_options;
use crate::machine::{free_memory, gigabytes};
use crate::model_error::Result;
use latentd_models::{DType, Device, Error, GenerateRequest, Plan, SafetyOptions, Work};

/// What a model needs as it is configured, its safety checker included.
///
/// # Errors
/// Its files cannot be read.
pub(crate) fn plan(config: &EngineConfig, safety: &SafetyOptions, work: &Work) -> Result<Plan> {
    let work = Work { t5_tokens: config.t5_tokens, ..*work };
    let mut plan = Plan::of(&config.model, &load_options(config), &work)?;
    plan.add_safety(&config.model, safety)?;
    Ok(plan)
}

/// What a request is to a plan.
pub(crate) fn work(request: &GenerateRequest) -> Work {
    Work {
        width: request.width,
        height: request.height,
        images: request.num_images,
        t5_tokens: request.t5_tokens,
        guided: request.guidance > 1.0,
        steps: request.steps,
        init_image: request.init_image.is_some(),
    }
}

/// Checks one engine.
///
/// # Errors
/// The line, or that the model's files cannot be read.
pub(crate) fn check(config: &EngineConfig, safety: &SafetyOptions, work: &Work) -> Result<()> {
    check_all(std::slice::from_ref(config), safety, work)
}

/// Checks every engine of a server; those on one device share its memory.
///
/// # Errors
/// The line, or that the model's files cannot be read.
pub(crate) fn check_all(engines: &[EngineConfig], safety: &SafetyOptions, work: &Work) -> Result<()> {
    for (index, engine) in engines.iter().enumerate().filter(|(_, engine)| engine.memory_check) {
        let is_first = !engines[..index].iter().any(|other| other.device == engine.device);
        let Some(free) = free_memory(engine.device).filter(|_| is_first) else { continue };
        let count = engines.iter().filter(|other| other.device == engine.device).count() as u64;
        if let Some(line) = refusal(engine, safety, work, (free, count))? {
            return Err(Error::Device(line).into());
        }
    }
    Ok(())
}

/// Why `count` engines do not fit into `free` bytes, if they do not.
pub(crate) fn refusal(
    engine: &EngineConfig,
    safety: &SafetyOptions,
    work: &Work,
    (free, count): (u64, u64),
) -> Result<Option<String>> {
    let needs = |config: &EngineConfig| Result::Ok(count * plan(config, safety, work)?.peak());
    let needed = needs(engine)?;
    if needed <= free {
        return Ok(None);
    }
    let mut ways = Vec::new();
    for (words, other) in alternatives(engine, device_report(engine.device).has_fp8()) {
        let fewer = needs(&other)?;
        if fewer <= free && fewer < needed {
            ways.push(format!("give {words} ({})", gigabytes(fewer)));
        }
    }
    if count > 1 && needed / count <= free {
        ways.push(format!("give --workers {}", free / (needed / count)));
    }
    let place = match engine.device {
        Device::Cpu => "on this machine".to_owned(),
        Device::Cuda(ordinal) => format!("on cuda:{ordinal}"),
    };
    let who = if count > 1 { format!("{count} workers need") } else { "the model needs".to_owned() };
    ways.extend(["free some".to_owned(), "give --memory-check off".to_owned()]);
    let last = ways.pop().unwrap_or_default();
    Ok(Some(format!(
        "{who} {} in {} and {} is free {place}: {}, or {last}",
        gigabytes(needed),
        engine.dtype.name(),
        gigabytes(free),
        ways.join(", ")
    )))
}

/// What the operator could ask for instead: the flags, and what they would configure.
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
    use latentd_models::{ModelSource, SafetySource, Shortcuts};

    fn engine() -> EngineConfig {
        EngineConfig {
            model: ModelSource::Builtin,
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
        let safety = SafetyOptions { source: SafetySource::Own, threshold: None, forced: false };
        refusal(&engine(), &safety, &Work::default(), (free, count)).expect("a plan")
    }

    fn peak(engine: &EngineConfig) -> u64 {
        let safety = SafetyOptions { source: SafetySource::Own, threshold: None, forced: false };
        plan(engine, &safety, &Work::default()).expect("a plan").peak()
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
}
