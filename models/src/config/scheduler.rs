//! `scheduler/scheduler_config.json`: which noise levels a model is sampled at.

use serde::Deserialize;

/// The file (diffusers `FlowMatchEulerDiscreteScheduler.__init__`). What Python takes for false is off.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct SchedulerConfig {
    #[serde(default = "train_timesteps")]
    pub(crate) num_train_timesteps: usize,
    #[serde(default = "shift")]
    pub(crate) shift: f64,
    #[serde(default)]
    use_dynamic_shifting: Option<bool>,
    #[serde(default = "base_shift")]
    base_shift: f64,
    #[serde(default = "max_shift")]
    max_shift: f64,
    #[serde(default = "base_image_seq_len")]
    base_image_seq_len: f64,
    #[serde(default = "max_image_seq_len")]
    max_image_seq_len: f64,
    #[serde(default)]
    time_shift_type: Option<String>,
    #[serde(default)]
    shift_terminal: Option<f64>,
    #[serde(default)]
    use_karras_sigmas: Option<bool>,
    #[serde(default)]
    use_exponential_sigmas: Option<bool>,
    #[serde(default)]
    use_beta_sigmas: Option<bool>,
    #[serde(default)]
    invert_sigmas: Option<bool>,
    #[serde(default)]
    stochastic_sampling: Option<bool>,
}

/// How the noise levels are shifted towards noise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Shift {
    /// By the same factor for every size.
    Fixed,
    /// By a factor that grows with the image's tokens: `mu`, and whether the factor is its exponential.
    Dynamic { mu: f64, exponential: bool },
}

/// How the noise levels lie between the first and the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spacing {
    /// Evenly before the shift.
    Even,
    Karras,
    Exponential,
    Beta,
}

impl SchedulerConfig {
    /// The shift for an image of so many tokens (`calculate_shift` of the pipeline).
    pub(crate) fn shift_for(&self, tokens: usize) -> Shift {
        if self.use_dynamic_shifting != Some(true) {
            return Shift::Fixed;
        }
        let slope = (self.max_shift - self.base_shift) / (self.max_image_seq_len - self.base_image_seq_len);
        let mu = tokens as f64 * slope + (self.base_shift - slope * self.base_image_seq_len);
        Shift::Dynamic { mu, exponential: self.time_shift_type.as_deref() != Some("linear") }
    }

    /// Of two spacings that a file turns on none is used: [`Self::check`] refuses it.
    pub(crate) fn spacing(&self) -> Spacing {
        let chosen = |(on, _, spacing): (Option<bool>, _, _)| (on == Some(true)).then_some(spacing);
        self.spacings().into_iter().find_map(chosen).unwrap_or(Spacing::Even)
    }

    /// The noise level that the last step starts from, if it is given.
    pub(crate) fn terminal(&self) -> Option<f64> {
        self.shift_terminal.filter(|sigma| *sigma != 0.0)
    }

    fn spacings(&self) -> [(Option<bool>, &'static str, Spacing); 3] {
        [
            (self.use_karras_sigmas, "use_karras_sigmas", Spacing::Karras),
            (self.use_exponential_sigmas, "use_exponential_sigmas", Spacing::Exponential),
            (self.use_beta_sigmas, "use_beta_sigmas", Spacing::Beta),
        ]
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        self.check_sizes()?;
        for (name, on) in
            [("invert_sigmas", self.invert_sigmas), ("stochastic_sampling", self.stochastic_sampling)]
        {
            if on == Some(true) {
                return Err(format!("{name} is not supported: turn it off"));
            }
        }
        let spacings =
            self.spacings().into_iter().filter(|(on, ..)| *on == Some(true)).map(|(_, name, _)| name);
        if let [first, second, ..] = spacings.collect::<Vec<_>>()[..] {
            return Err(format!("{first} and {second} exclude each other: turn one off"));
        }
        if self.terminal().is_some_and(|sigma| !(sigma > 0.0 && sigma < 1.0)) {
            return Err("shift_terminal must be above 0 and below 1".into());
        }
        let dynamic = [self.base_shift, self.max_shift, self.base_image_seq_len, self.max_image_seq_len];
        if dynamic.iter().any(|value| !value.is_finite()) || self.base_image_seq_len == self.max_image_seq_len
        {
            return Err(
                "base_image_seq_len and max_image_seq_len must differ, and every shift be a number".into()
            );
        }
        match self.time_shift_type.as_deref() {
            None | Some("exponential" | "linear") => Ok(()),
            Some(other) => {
                Err(format!("time_shift_type \"{other}\" is unknown: use \"exponential\" or \"linear\""))
            }
        }
    }
}

fn train_timesteps() -> usize {
    1000
}

fn shift() -> f64 {
    1.0
}

fn base_shift() -> f64 {
    0.5
}

fn max_shift() -> f64 {
    1.15
}

fn base_image_seq_len() -> f64 {
    256.0
}

fn max_image_seq_len() -> f64 {
    4096.0
}
