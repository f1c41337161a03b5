//! `latentd models inspect`: what is in a file or directory of weights.

use latentd_models::{Component, InspectedPart, Inspection, Missing};
use serde_json::json;
use std::path::Path;

/// Prints it.
pub(crate) fn inspect(path: &Path, json: bool) -> anyhow::Result<()> {
    let mut found = latentd_models::inspect(path)?;
    found.missing.iter_mut().for_each(advise);
    if json {
        let mut report = json!(found);
        report["runs"] = found.runs().into();
        println!("{report:#}");
    } else {
        print!("{}", table(path, &found));
    }
    Ok(())
}

/// Adds what to do about a network that a checkpoint lacks.
fn advise(missing: &mut Missing) {
    let advice = match missing.component {
        None | Some(Component::Transformer | Component::ControlNet) => return,
        Some(Component::Vae) => ": put one beside the files of --text-encoders DIR",
        Some(Component::ClipL) => ": give --text-encoders DIR with clip_l.safetensors",
        Some(Component::ClipG) => ": give --text-encoders DIR with clip_g.safetensors",
        Some(Component::T5) => {
            ", which understands prompts better: a --text-encoders DIR may have t5xxl_fp16.safetensors"
        }
    };
    missing.what += advice;
}

/// For people, in 80 columns where names are short.
fn table(path: &Path, found: &Inspection) -> String {
    let mut lines = vec![format!("{} is {}", path.display(), found.what)];
    if !found.parts.is_empty() {
        lines.push(String::new());
        lines.push(format!(
            "{:<12} {:>10} {:>10} {:>8}  {:<14} IN",
            "PART", "PARAMETERS", "SIZE", "TENSORS", "STORED AS"
        ));
    }
    lines.extend(found.parts.iter().map(|part| row(path, part)));
    if !found.missing.is_empty() {
        lines.push(String::new());
    }
    for missing in &found.missing {
        let label = if missing.required { "missing" } else { "optional" };
        lines.push(format!("{label}: {}", missing.what));
    }
    lines.join("\n") + "\n"
}

fn row(path: &Path, part: &InspectedPart) -> String {
    let InspectedPart { name, place, tensors, parameters, bytes, dtypes } = part;
    // The most first.
    let mut dtypes: Vec<_> = dtypes.iter().collect();
    dtypes.sort_by_key(|(_, parameters)| std::cmp::Reverse(**parameters));
    let dtypes: Vec<_> = dtypes.into_iter().map(|(dtype, _)| dtype.as_str()).collect();
    let (parameters, bytes, dtypes) = (short(*parameters, ""), short(*bytes, "B"), dtypes.join(", "));
    let place = place.strip_prefix(path).unwrap_or(place).display().to_string();
    let row = format!("{name:<12} {parameters:>10} {bytes:>10} {tensors:>8}  {dtypes:<14} {place}");
    row.trim_end().to_owned()
}

/// `8.06 G`, `168 M`, `912`, with a unit behind.
fn short(number: u64, unit: &str) -> String {
    let (mut value, mut letter) = (number as f64, "");
    for larger in ["k", "M", "G", "T"] {
        if value >= 999.5 {
            (value, letter) = (value / 1000.0, larger);
        }
    }
    let digits = if letter.is_empty() || value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.digits$} {letter}{unit}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        let numbers =
            [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (99_960, "100 kB"), (16_459_000_000, "16.5 GB")];
        for (number, words) in numbers {
            assert_eq!(short(number, "B"), words);
        }
        assert_eq!(short(8_056_600_000, ""), "8.06 G");
    }
}
