//! Ways to leave out work that change the image a little: the operator's settings, off unless set.

/// Which shortcuts a loop takes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Shortcuts {
    /// Guides only inside; outside only the prompt's branch runs, half of the work.
    pub guidance_interval: Option<GuidanceInterval>,
    /// Leaves out every block but the first where what the first one adds differs from the last whole step by no more
    /// than this share of it (diffusers' `FirstBlockCacheConfig.threshold`).
    pub first_block_cache: Option<f64>,
}

/// The noise levels at which guidance helps (Kynkäänniemi et al. 2024, arXiv 2404.07724): `low < sigma <= high`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GuidanceInterval {
    /// 0 keeps guidance to the end.
    pub low: f64,
    /// 1 guides from the first step on.
    pub high: f64,
}

/// What shortcuts left out of a request; `None` for one that is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Skipped {
    /// Steps in which the prompt's branch ran alone.
    pub unguided_steps: Option<usize>,
    /// Steps that ran the first block alone.
    pub reused_steps: Option<usize>,
}

impl Shortcuts {
    /// Whether the loop is the exact one.
    pub fn is_exact(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a step that starts at this noise level is guided, if its request is.
    pub(crate) fn guides(&self, sigma: f32) -> bool {
        self.guidance_interval.is_none_or(|interval| interval.contains(f64::from(sigma)))
    }
}

impl GuidanceInterval {
    fn contains(self, sigma: f64) -> bool {
        self.low < sigma && sigma <= self.high
    }
}
