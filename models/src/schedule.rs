//! Noise levels of a request: diffusers' `FlowMatchEulerDiscreteScheduler`.

use crate::config::{SchedulerConfig, Shift, Spacing};
use statrs::distribution::{Beta, ContinuousCDF};

/// Noise levels from 1 down to 0 and the timesteps that the model gets.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Schedule {
    /// `steps + 1` levels; the last is 0.
    pub(crate) sigmas: Vec<f32>,
    /// `steps` timesteps, `sigma * num_train_timesteps`.
    pub(crate) timesteps: Vec<f32>,
}

impl Schedule {
    /// The levels for an image of so many tokens (`scheduling_flow_match_euler_discrete.py`, `__init__` and
    /// `set_timesteps`). A fixed shift is applied twice, as in the reference: once to the training range whose ends the levels
    /// run between, once to each level. The ends are f32 there and everything between is f64.
    pub(crate) fn new(config: &SchedulerConfig, steps: usize, tokens: usize) -> Self {
        let (train, shift) = (config.num_train_timesteps, config.shift_for(tokens));
        let end = |timestep: usize| {
            let sigma = timestep as f32 / train as f32;
            let shifted = match shift {
                Shift::Fixed => {
                    let shift = config.shift as f32;
                    shift * sigma / (1.0 + (shift - 1.0) * sigma)
                }
                Shift::Dynamic { .. } => sigma,
            };
            f64::from(shifted) * train as f64
        };
        let even = linspace(end(train), end(1), steps).into_iter().map(|timestep| timestep / train as f64);
        let mut sigmas: Vec<f64> = even.map(|sigma| shifted(sigma, shift, config.shift)).collect();
        if let (Some(terminal), Some(last)) = (config.terminal(), sigmas.last()) {
            let scale = (1.0 - last) / (1.0 - terminal);
            // A single step starts from noise alone, where diffusers would divide by 0.
            if scale > 0.0 {
                sigmas.iter_mut().for_each(|sigma| *sigma = 1.0 - (1.0 - *sigma) / scale);
            }
        }
        let mut sigmas: Vec<f32> =
            spaced(sigmas, config.spacing()).into_iter().map(|sigma| sigma as f32).collect();
        let timesteps = sigmas.iter().map(|sigma| sigma * train as f32).collect();
        sigmas.push(0.0);
        Self { sigmas, timesteps }
    }

    /// The last steps alone: the share `strength` of them, rounded up (diffusers
    /// `StableDiffusion3Img2ImgPipeline.get_timesteps`).
    pub(crate) fn last(self, strength: f64) -> Self {
        let steps = self.timesteps.len();
        let taken = (steps as f64 * strength).min(steps as f64);
        let skipped = (steps as f64 - taken).max(0.0) as usize;
        Self { sigmas: self.sigmas[skipped..].to_vec(), timesteps: self.timesteps[skipped..].to_vec() }
    }
}

/// numpy's `linspace`.
fn linspace(first: f64, last: f64, count: usize) -> Vec<f64> {
    let step = if count > 1 { (last - first) / (count - 1) as f64 } else { 0.0 };
    (0..count).map(|index| first + index as f64 * step).collect()
}

/// `factor` is that of a fixed shift (`set_timesteps`; `_time_shift_exponential` and `_time_shift_linear` at sigma 1).
fn shifted(sigma: f64, shift: Shift, factor: f64) -> f64 {
    let dynamic = |factor: f64| factor / (factor + (1.0 / sigma - 1.0));
    match shift {
        Shift::Fixed => factor * sigma / (1.0 + (factor - 1.0) * sigma),
        Shift::Dynamic { mu, exponential: true } => dynamic(mu.exp()),
        Shift::Dynamic { mu, exponential: false } => dynamic(mu),
    }
}

/// Levels between the same ends (`_convert_to_karras`, `_convert_to_exponential`, `_convert_to_beta`).
fn spaced(sigmas: Vec<f64>, spacing: Spacing) -> Vec<f64> {
    /// Karras et al. 2022 (arXiv 2206.00364).
    const RHO: f64 = 7.0;
    /// Both parameters of the distribution in Lee et al. 2024 (arXiv 2407.12173).
    const BETA: f64 = 0.6;
    let (Some(&first), Some(&last)) = (sigmas.first(), sigmas.last()) else { return sigmas };
    let count = sigmas.len();
    match spacing {
        Spacing::Even => sigmas,
        Spacing::Karras => {
            let (first, last) = (first.powf(1.0 / RHO), last.powf(1.0 / RHO));
            linspace(0.0, 1.0, count).iter().map(|along| (first + along * (last - first)).powf(RHO)).collect()
        }
        Spacing::Exponential => linspace(first.ln(), last.ln(), count).into_iter().map(f64::exp).collect(),
        Spacing::Beta => {
            let beta = Beta::new(BETA, BETA).expect("both are positive");
            let share = |along: &f64| beta.inverse_cdf(1.0 - along);
            linspace(0.0, 1.0, count).iter().map(|along| last + share(along) * (first - last)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;

    /// diffusers' levels in f32: the last bit may differ, since numpy's linspace rounds in another place.
    #[test]
    fn levels_equal_diffusers() {
        for case in golden::json("sigmas.json").as_array().expect("cases") {
            let shift = &case["shift"];
            let config = serde_json::from_value(serde_json::json!({ "shift": shift })).expect("a config");
            let ours = Schedule::new(&config, case["steps"].as_u64().expect("steps") as usize, 1);
            for (name, ours) in [("sigmas", ours.sigmas), ("timesteps", ours.timesteps)] {
                let theirs = golden::floats(&case[name]);
                assert_eq!(ours.len(), theirs.len());
                for (ours, theirs) in ours.iter().zip(theirs) {
                    assert!((ours - theirs).abs() <= 1e-6 * theirs.abs(), "{ours} is not {theirs} in {case}");
                }
            }
        }
    }

    /// Each option of the scheduler's config is computed as diffusers does, or refused by its name.
    #[test]
    fn options_equal_diffusers_or_are_refused() {
        let mut equal = 0;
        for case in golden::json("classes.json")["options"].as_array().expect("cases") {
            let mut config = serde_json::json!({ "num_train_timesteps": 1000, "shift": 3.0 });
            let changed = case["set"].as_object().expect("values");
            config.as_object_mut().expect("an object").extend(changed.clone());
            let config: SchedulerConfig = serde_json::from_value(config).expect("a config");
            match (config.check(), case["sigmas"].as_array()) {
                (Ok(()), Some(_)) => {
                    let tokens = case["tokens"].as_u64().expect("a count") as usize;
                    let ours = Schedule::new(&config, 5, tokens).sigmas;
                    for (ours, theirs) in ours.iter().zip(golden::floats(&case["sigmas"])) {
                        assert!(
                            (ours - theirs).abs() <= 1e-6 * theirs.abs(),
                            "{ours} is not {theirs} in {case}"
                        );
                    }
                    equal += 1;
                }
                // In Python null is false, where nothing counts on a number.
                (Ok(()), None) => assert!(changed.values().all(serde_json::Value::is_null), "{case}"),
                (Err(why), _) => assert!(changed.keys().any(|key| why.starts_with(key.as_str())), "{why}"),
            }
        }
        assert_eq!(equal, 17);
    }
}
