//! What does not fit, noted while loading goes on, so that one error lists everything.

use crate::{Error, Result};

/// Problems of one part listed in an error before it says "and N more".
const LISTED: usize = 20;

/// Values that stand in for missing tensors: layers may copy them, and a config may ask for any size.
const STOOD_IN: usize = 1 << 28;

/// Problems after which loading stops: a config may ask for any number of layers.
const MOST: usize = 100_000;

/// The problems of one part.
#[derive(Debug, Default)]
pub(super) struct Problems {
    listed: Vec<String>,
    count: usize,
    stood_in: usize,
}

impl Problems {
    /// Three tensors that are asked for may be one stored: what is noted twice in turn counts once.
    pub(super) fn note(&mut self, problem: String) {
        if self.listed.last() == Some(&problem) {
            return;
        }
        self.count += 1;
        if self.listed.len() < LISTED {
            self.listed.push(problem);
        }
    }

    /// Before zeros of this shape stand in for a tensor.
    ///
    /// # Errors
    /// There were so many that config and weights have nothing to do with each other: what was noted so far.
    pub(super) fn stand_in(&mut self, part: &str, shape: &[usize]) -> Result<()> {
        let values = shape.iter().fold(1usize, |product, size| product.saturating_mul(*size));
        self.stood_in = self.stood_in.saturating_add(values);
        let is_too_much = self.stood_in > STOOD_IN || self.count > MOST;
        if is_too_much { check(&self.lines(part)) } else { Ok(()) }
    }

    /// The list.
    pub(super) fn lines(&self, part: &str) -> Vec<String> {
        let more = self.count - self.listed.len();
        let more = (more > 0).then(|| format!("{part}: … and {more} more"));
        self.listed.iter().map(|problem| format!("{part}: {problem}")).chain(more).collect()
    }
}

/// One error that lists what did not fit, if anything.
pub(crate) fn check(problems: &[String]) -> Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    Err(Error::Model(format!("the weights do not fit the config files:\n  {}", problems.join("\n  "))))
}
