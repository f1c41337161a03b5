//! Measurements that were written as JSON, by `latentd bench` or by the scripts of `benches/peers`, read again.

use anyhow::{Context, anyhow, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What two measurements must have in common to be compared, where both say it.
const WORK: &[&str] = &[
    "bench",
    "model",
    "width",
    "height",
    "steps",
    "cfg",
    "batch",
    "text_tokens",
    "shortcuts",
    "endpoint",
    "loop",
    "clients",
    "rate_per_s",
    "submit_only",
];

/// One engine's measurement of some work on some device.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Measurement {
    /// The file, with the engine where it has several.
    pub(super) source: String,
    pub(super) engine: String,
    pub(super) device: String,
    pub(super) precision: Option<String>,
    /// What is compared.
    pub(super) time: Time,
    pub(super) tflops: Option<f64>,
    /// Of the best matrix product on the same device, 0 to 1.
    pub(super) peak_share: Option<f64>,
    pub(super) memory_bytes: Option<u64>,
    pub(super) commit: Option<String>,
    pub(super) date: Option<String>,
    pub(super) command: Option<String>,
    /// The values of [`WORK`] that the file has.
    work: Vec<(&'static str, Value)>,
}

/// Time for the work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Time {
    pub(super) what: &'static str,
    pub(super) unit: &'static str,
    pub(super) median: f64,
    /// The fastest and the slowest run; of a server the 99th percentile is the slowest.
    pub(super) from: f64,
    pub(super) to: f64,
}

/// Reads files; one may have a list of measurements, or a second engine's beside ours.
///
/// # Errors
/// A file cannot be read, or is no measurement.
pub(super) fn read(files: &[PathBuf]) -> anyhow::Result<Vec<Measurement>> {
    let read: Vec<_> = files.iter().map(|file| read_one(file)).collect::<anyhow::Result<_>>()?;
    Ok(read.into_iter().flatten().collect())
}

fn read_one(file: &Path) -> anyhow::Result<Vec<Measurement>> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).with_context(|| name.clone())?;
    let value: Value = serde_json::from_str(&text).with_context(|| format!("{name} is no JSON"))?;
    let reports = match value {
        Value::Array(reports) => reports,
        report => vec![report],
    };
    if reports.is_empty() {
        bail!("{name} has no measurement");
    }
    let mut found = Vec::new();
    for report in &reports {
        let source =
            if reports.len() > 1 { format!("{name}: {}", text_of(report, "engine")?) } else { name.clone() };
        let measurement =
            parse(report, source).with_context(|| format!("{name} is no measurement of latentd"))?;
        let rival = rival(report, &measurement)?;
        found.push(measurement);
        found.extend(rival);
    }
    Ok(found)
}

fn parse(report: &Value, source: String) -> anyhow::Result<Measurement> {
    let bench = text_of(report, "bench")?;
    let tflops = report["tflops"].as_f64();
    let peak = report["gemm_peak_tflops"].as_f64();
    let device = [&report["gpu"], &report["machine"]["device"], &report["cpu"], &report["url"]];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let argv = |value: &Value| {
        let words = value.as_array()?.iter().filter_map(Value::as_str).collect::<Vec<_>>();
        Some(words.join(" "))
    };
    Ok(Measurement {
        source,
        engine: text_of(report, "engine")?,
        device: device.into_iter().find_map(text).unwrap_or_else(|| "unknown".to_owned()),
        precision: text(&report["precision"]),
        time: time(report, &bench)?,
        tflops,
        peak_share: tflops.zip(peak).map(|(tflops, peak)| tflops / peak),
        memory_bytes: report["peak_mem_bytes"].as_u64(),
        commit: [&report["commit"], &report["client_commit"]].into_iter().find_map(text),
        date: text(&report["date"]),
        command: argv(&report["command"]),
        work: WORK
            .iter()
            .map(|key| (*key, report[key].clone()))
            .filter(|(_, value)| !value.is_null())
            .collect(),
    })
}

/// The other engine that was measured in turns with ours, for the same work on the same device.
fn rival(report: &Value, ours: &Measurement) -> anyhow::Result<Option<Measurement>> {
    let rival = &report["rival"];
    if rival.is_null() {
        return Ok(None);
    }
    let time = time(rival, "denoise")?;
    let scale = ours.time.median / time.median;
    Ok(Some(Measurement {
        source: format!("{}: rival", ours.source),
        engine: text_of(rival, "engine")?,
        time,
        tflops: ours.tflops.map(|tflops| tflops * scale),
        peak_share: ours.peak_share.map(|share| share * scale),
        memory_bytes: None,
        ..ours.clone()
    }))
}

fn time(report: &Value, bench: &str) -> anyhow::Result<Time> {
    let number = |key: &str, part: &str| {
        report[key][part].as_f64().ok_or_else(|| anyhow!("it has no number at {key}.{part}"))
    };
    let seconds = |what, key: &str| {
        let (median, from, to) = (number(key, "median")?, number(key, "min")?, number(key, "max")?);
        anyhow::Ok(Time { what, unit: "s", median, from, to })
    };
    let milliseconds = |what, key: &str| {
        let (median, from, to) = (number(key, "p50")?, number(key, "min")?, number(key, "p99")?);
        anyhow::Ok(Time { what, unit: "ms", median, from, to })
    };
    match bench {
        "denoise" => seconds("denoising loop", "denoise_s"),
        "pipeline" => seconds("whole image", "total_s"),
        "load" if report["submit_only"] == true => milliseconds("submit", "submit_ms"),
        "load" => milliseconds("request", "total_ms"),
        other => bail!("its `bench` is {other}, not denoise, pipeline or load"),
    }
}

fn text_of(report: &Value, key: &str) -> anyhow::Result<String> {
    report[key].as_str().map(str::to_owned).ok_or_else(|| anyhow!("it has no text at {key}"))
}

impl Measurement {
    /// The work in one line.
    pub(super) fn work(&self) -> String {
        let text = |key: &str| self.value(key).map(plain).unwrap_or_default();
        let mut parts = vec![text("bench")];
        if self.value("width").is_some() {
            parts.push(text("model"));
            parts.push(format!("{}x{}", text("width"), text("height")));
        }
        let rest = [
            "endpoint",
            "steps",
            "cfg",
            "batch",
            "text_tokens",
            "loop",
            "clients",
            "rate_per_s",
            "shortcuts",
        ];
        let named = rest.iter().filter(|key| self.value(key).is_some());
        parts.extend(named.map(|key| format!("{} {}", key.replace('_', " "), text(key))));
        parts.join(", ")
    }

    /// The first difference to another's work, as words.
    pub(super) fn unlike(&self, other: &Self) -> Option<String> {
        WORK.iter().find_map(|key| {
            let is_shortcut = *key == "shortcuts";
            let (ours, theirs) = (self.value(key), other.value(key));
            let differ = match (ours, theirs) {
                (Some(ours), Some(theirs)) => !same(ours, theirs),
                (None, None) => false,
                _ => is_shortcut,
            };
            let shown = |value: Option<&Value>| value.map_or("not there".to_owned(), plain);
            let words = || {
                format!(
                    "{key} is {} in {} and {} in {}",
                    shown(ours),
                    self.source,
                    shown(theirs),
                    other.source
                )
            };
            differ.then(words)
        })
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.work.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }
}

/// 4.5 and 4.50 are the same, and so are 28 and 28.0.
fn same(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    pub(in super::super) fn denoise(engine: &str, median: f64) -> Value {
        json!({
            "bench": "denoise", "engine": engine, "gpu": "GPU <A>", "model": "sd3.5-large", "width": 1024, "height": 1024,
            "steps": 28, "cfg": 4.5, "batch": 1, "precision": "bf16", "text_tokens": 333, "tflops": 500.0,
            "gemm_peak_tflops": 800.0, "peak_mem_bytes": 20_000_000_000_u64, "commit": "abc", "date": "2026-11-29",
            "denoise_s": {"median": median, "min": median - 0.1, "max": median + 0.2, "n": 3},
        })
    }

    pub(in super::super) fn of(report: &Value, source: &str) -> Measurement {
        parse(report, source.to_owned()).expect("a measurement")
    }

    fn parsed(report: &Value) -> anyhow::Result<Measurement> {
        parse(report, "a.json".to_owned())
    }

    #[test]
    fn a_measurement_has_its_time_work_and_rates() {
        let found = parsed(&denoise("latentd", 4.0)).expect("a measurement");
        assert_eq!((found.time.median, found.time.unit, found.peak_share), (4.0, "s", Some(0.625)));
        assert_eq!(
            found.work(),
            "denoise, sd3.5-large, 1024x1024, steps 28, cfg 4.5, batch 1, text tokens 333"
        );
    }

    #[test]
    fn what_is_no_measurement_says_why() {
        for (report, why) in [
            (json!({}), "no text at bench"),
            (json!({"bench": "denoise"}), "no text at engine"),
            (json!({"bench": "denoise", "engine": "x"}), "no number at denoise_s.median"),
            (
                json!({"bench": "pipeline", "engine": "x", "total_s": {"median": 1}}),
                "no number at total_s.min",
            ),
            (json!({"bench": "nap", "engine": "x"}), "its `bench` is nap"),
        ] {
            let error = parsed(&report).expect_err("an error").to_string();
            assert!(error.contains(why), "{report}: {error}");
        }
    }

    #[test]
    fn unlike_work_is_found_and_an_absent_key_is_no_difference() {
        let ours = of(&denoise("latentd", 4.0), "a.json");
        assert_eq!(ours.unlike(&of(&denoise("diffusers", 5.0), "b.json")), None);
        let mut other = denoise("diffusers", 5.0);
        other["steps"] = json!(20);
        let unlike = ours.unlike(&of(&other, "b.json")).expect("a difference");
        assert_eq!(unlike, "steps is 28 in a.json and 20 in b.json");
        let mut other = denoise("diffusers", 5.0);
        other.as_object_mut().expect("an object").remove("text_tokens");
        other["steps"] = json!(28.0);
        assert_eq!(ours.unlike(&of(&other, "b.json")), None);
        other["shortcuts"] = json!({"first_block_cache": 0.1});
        assert!(
            ours.unlike(&of(&other, "b.json"))
                .is_some_and(|words| words.starts_with("shortcuts is not there"))
        );
    }

    #[test]
    fn a_second_engine_of_a_report_is_a_measurement_of_its_own() {
        let mut report = denoise("latentd", 4.0);
        report["rival"] =
            json!({"engine": "other", "denoise_s": {"median": 8.0, "min": 7.9, "max": 8.1, "n": 3}});
        let ours = of(&report, "a.json");
        let rival = rival(&report, &ours).expect("a rival").expect("a rival");
        assert_eq!((rival.engine.as_str(), rival.tflops, rival.memory_bytes), ("other", Some(250.0), None));
        assert_eq!(rival.unlike(&ours), None);
    }

    #[test]
    fn ours_comes_before_the_second_engine_which_is_relative_to_it() {
        let mut report = denoise("latentd", 4.0);
        report["rival"] =
            json!({"engine": "other", "denoise_s": {"median": 8.0, "min": 7.9, "max": 8.1, "n": 3}});
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.json");
        std::fs::write(&file, report.to_string()).expect("a file");
        let engines: Vec<_> = read(&[file]).expect("two").into_iter().map(|found| found.engine).collect();
        assert_eq!(engines, ["latentd", "other"]);
    }
}
