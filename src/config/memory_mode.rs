//! `--memory-mode`: which weights stay in memory.

use super::{ConfigError, refuse};
use latentd_models::MemoryMode;

/// The memory modes that a model may be loaded in: the fastest of them in which it fits is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryModes {
    fastest: MemoryMode,
    smallest: MemoryMode,
}

impl MemoryModes {
    /// Every mode.
    pub const AUTO: Self = Self { fastest: MemoryMode::Resident, smallest: MemoryMode::Stream };

    /// One mode.
    pub const fn only(mode: MemoryMode) -> Self {
        Self { fastest: mode, smallest: mode }
    }

    /// From the fastest to the one that needs the least memory.
    pub fn iter(self) -> impl Iterator<Item = MemoryMode> {
        MemoryMode::ALL.into_iter().filter(move |mode| (self.fastest..=self.smallest).contains(mode))
    }

    /// The fastest one.
    pub fn fastest(self) -> MemoryMode {
        self.fastest
    }

    /// The one that needs the least memory.
    pub fn smallest(self) -> MemoryMode {
        self.smallest
    }

    /// Those that need no more memory than `mode`, which is one of them.
    #[must_use]
    pub fn from(self, mode: MemoryMode) -> Self {
        Self { fastest: mode.max(self.fastest).min(self.smallest), ..self }
    }

    /// As the flag has it.
    pub(crate) fn name(self) -> &'static str {
        if self.fastest == self.smallest { self.fastest.name() } else { "auto" }
    }
}

/// The modes that `text` names.
pub(crate) fn parse(text: &str) -> Result<MemoryModes, ConfigError> {
    let text = text.trim();
    if text == "auto" {
        return Ok(MemoryModes::AUTO);
    }
    let mode = MemoryMode::ALL.into_iter().find(|mode| mode.name() == text);
    mode.map_or_else(
        || refuse(format!("--memory-mode {text}: give `auto`, `resident`, `offload` or `stream`")),
        |mode| Ok(MemoryModes::only(mode)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_one_or_the_first_that_fits() {
        assert_eq!(parse("auto").expect("a mode").iter().collect::<Vec<_>>(), MemoryMode::ALL);
        for mode in MemoryMode::ALL {
            let modes = parse(mode.name()).expect("a mode");
            assert_eq!((modes.iter().collect::<Vec<_>>(), modes.name()), (vec![mode], mode.name()));
            assert_eq!(MemoryModes::AUTO.from(mode).fastest(), mode);
        }
        let refusal = parse("small").expect_err("no mode").to_string();
        assert!(refusal.contains("give `auto`, `resident`, `offload` or `stream`"), "{refusal}");
    }
}
