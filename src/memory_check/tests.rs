//! Choices and refusals for the built-in model and for what is known of a published one.

use super::*;
use latentd_models::{SafetySource, Shortcuts};

const NOTHING_CHECKED: SafetyOptions =
    SafetyOptions { source: SafetySource::Own, threshold: None, forced: false };

/// With all weights in memory.
fn engine() -> EngineConfig {
    EngineConfig {
        max_cpu_isa: None,
        device: Device::Cpu,
        dtype: DType::F32,
        shift: None,
        t5_tokens: 256,
        shortcuts: Shortcuts::default(),
        t5: true,
        memory_modes: MemoryModes::only(MemoryMode::Resident),
        memory_check: true,
        cache: "cache".into(),
    }
}

fn auto() -> EngineConfig {
    EngineConfig { memory_modes: MemoryModes::AUTO, ..engine() }
}

fn needs(engine: &EngineConfig, mode: MemoryMode) -> u64 {
    peak(&ModelSource::Builtin, (engine, mode), &NOTHING_CHECKED, &Work::default()).expect("a plan")
}

fn chosen(engine: &EngineConfig, free: u64, count: u64) -> Result<MemoryMode> {
    fitting(engine, (free, count), |engine, mode| Ok(needs(engine, mode)))
}

fn refusal(engine: &EngineConfig, free: u64, count: u64) -> String {
    chosen(engine, free, count).expect_err("a refusal").to_string()
}

#[test]
fn what_fits_is_not_refused() {
    let peak = needs(&engine(), MemoryMode::Resident);
    for count in [1, 2] {
        assert_eq!(chosen(&engine(), count * peak, count).expect("it fits"), MemoryMode::Resident);
    }
}

#[test]
fn the_fastest_mode_that_fits_is_chosen() {
    let peaks = MemoryMode::ALL.map(|mode| needs(&auto(), mode));
    assert!(peaks.is_sorted_by(|more, less| more >= less), "{peaks:?}");
    let small = EngineConfig { memory_modes: MemoryModes::only(MemoryMode::Stream), ..engine() };
    assert_eq!(chosen(&small, u64::MAX, 1).expect("it fits"), MemoryMode::Stream);
    for mode in MemoryMode::ALL {
        let first = MemoryMode::ALL.into_iter().find(|other| needs(&auto(), *other) <= needs(&auto(), mode));
        assert_eq!(Some(chosen(&auto(), needs(&auto(), mode), 1).expect("it fits")), first);
    }
    let words = refusal(&auto(), 1_000_000, 1);
    assert!(words.contains(" and memory mode stream, and 1 MB is free"), "{words}");
}

#[test]
fn only_what_would_fit_is_advised() {
    let bf16 = needs(&EngineConfig { dtype: DType::Bf16, ..engine() }, MemoryMode::Resident);
    let words = refusal(&engine(), bf16, 1);
    assert!(
        words.starts_with("the model needs ") && words.contains(" in f32 and memory mode resident"),
        "{words}"
    );
    assert!(
        words.contains("give --dtype bf16 (") && words.ends_with(", or give --memory-check off"),
        "{words}"
    );
    assert!(!words.contains(": give --t5 off"), "T5 of the built-in model is small: {words}");
    let nothing = refusal(&engine(), 1_000_000, 1);
    assert!(nothing.ends_with("and 1 MB is free on this machine: free some, or give --memory-check off"));
}

#[test]
fn a_smaller_mode_is_advised_where_one_was_chosen() {
    let engine = engine();
    let flags = |engine: &EngineConfig| alternatives(engine, false)[0].0;
    assert_eq!((flags(&engine), flags(&auto())), ("--memory-mode auto", "--dtype bf16"));
}

#[test]
fn fp8_is_advised_where_the_device_has_it() {
    let engine = EngineConfig { dtype: DType::Bf16, device: Device::Cuda(0), ..auto() };
    let flags =
        |has_fp8| alternatives(&engine, has_fp8).into_iter().map(|(flags, _)| flags).collect::<Vec<_>>();
    assert_eq!(flags(true), ["--dtype fp8", "--t5 off", "--dtype fp8 with --t5 off"]);
    assert_eq!(flags(false), ["--t5 off"]);
}

#[test]
fn workers_of_one_device_share_its_memory() {
    let words = refusal(&engine(), needs(&engine(), MemoryMode::Resident) + 1, 2);
    assert!(words.starts_with("2 workers need ") && words.contains("--workers 1"), "{words}");
}

#[test]
fn a_published_model_is_refused_before_its_download() {
    let large = &Manifest::all()[0];
    let weights = |dtype, t5, mode| published_weights(large, &EngineConfig { dtype, t5, ..engine() }, mode);
    let resident = |dtype, t5| weights(dtype, t5, MemoryMode::Resident);
    let bf16 = resident(DType::Bf16, true);
    assert!((26_000_000_000..29_000_000_000).contains(&bf16), "{bf16}");
    assert_eq!(resident(DType::F32, true), 2 * bf16);
    assert_eq!(bf16 - resident(DType::Bf16, false), 9_520_000_000, "T5");
    assert_eq!(bf16 - resident(DType::Fp8, true), 8_150_000_000, "half of the transformer");
    let offload = weights(DType::Bf16, true, MemoryMode::Offload);
    assert!(
        (8_150_000_000..8_600_000_000).contains(&offload),
        "half of the transformer, and the VAE: {offload}"
    );
    assert!(weights(DType::Bf16, true, MemoryMode::Stream) < 500_000_000, "the VAE");
    let needs = |engine: &EngineConfig, mode| Ok(published_weights(large, engine, mode));
    let words = fitting(&engine(), (bf16, 1), needs).expect_err("a refusal").to_string();
    assert!(
        words.contains("give --dtype bf16 (") && words.ends_with("or give --memory-check off"),
        "{words}"
    );
    assert_eq!(fitting(&auto(), (bf16, 1), needs).expect("it fits"), MemoryMode::Offload);
}
