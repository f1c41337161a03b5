//! Sizes on the command line: `--memory-budget`, what the models of a worker may take, and others.

use super::{ConfigError, refuse};

/// What the models of a worker may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryBudget {
    /// What is free, but for a reserve.
    Auto,
    /// Bytes.
    Bytes(u64),
}

/// Units and their bytes; the longer names first.
const UNITS: [(&str, f64); 10] = [
    ("KIB", 1024.0),
    ("MIB", 1_048_576.0),
    ("GIB", 1_073_741_824.0),
    ("TIB", 1_099_511_627_776.0),
    ("KB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
    ("G", 1e9),
    ("M", 1e6),
];

/// The budget that `text` names.
pub(crate) fn parse(text: &str) -> Result<MemoryBudget, ConfigError> {
    let is_auto = text.trim().eq_ignore_ascii_case("auto");
    match bytes(text) {
        _ if is_auto => Ok(MemoryBudget::Auto),
        Some(bytes @ 1..) => Ok(MemoryBudget::Bytes(bytes)),
        _ => refuse(format!("--memory-budget {text}: give `auto` or a size such as 40GB")),
    }
}

/// The size that the text of a flag names.
pub(crate) fn size(flag: &str, text: &str) -> Result<u64, ConfigError> {
    bytes(text).map_or_else(|| refuse(format!("{flag} {text}: give a size such as 500MB")), Ok)
}

fn bytes(text: &str) -> Option<u64> {
    let upper = text.trim().to_uppercase();
    let unit = UNITS.iter().find_map(|(unit, bytes)| Some((upper.strip_suffix(unit)?.trim_end(), *bytes)));
    let (number, unit) = unit.unwrap_or((&upper, 1.0));
    let bytes = number.parse::<f64>().ok()? * unit;
    (0.0..1e18).contains(&bytes).then_some(bytes as u64)
}

/// Bytes for people.
pub(crate) fn shown(bytes: u64) -> String {
    match bytes as f64 {
        bytes if bytes >= 1e9 => format!("{:.1} GB", bytes / 1e9),
        bytes if bytes >= 1e6 => format!("{:.1} MB", bytes / 1e6),
        bytes => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, bytes) in [
            ("40GB", 40_000_000_000),
            ("1.5 gib", 1_610_612_736),
            ("800M", 800_000_000),
            ("12345", 12_345),
            ("2TiB", 2_199_023_255_552),
        ] {
            assert_eq!(parse(text).expect("a size"), MemoryBudget::Bytes(bytes), "{text}");
        }
        assert_eq!(parse("auto").expect("auto"), MemoryBudget::Auto);
        for wrong in ["-1GB", "many", "0", "GB", "NaN", "infGB", "1e30GB"] {
            let refusal = parse(wrong).expect_err("no size").to_string();
            assert!(refusal.contains("such as 40GB"), "{refusal}");
        }
        assert_eq!((shown(27_400_000_000), shown(33_000_000)), ("27.4 GB".into(), "33.0 MB".into()));
    }
}
