//! Noise levels of a request: diffusers' `FlowMatchEulerDiscreteScheduler` with a fixed shift.

use crate::config::SchedulerConfig;

/// Noise levels from 1 down to 0 and the timesteps that the model gets.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Schedule {
    /// `steps + 1` levels; the last is 0.
    pub(crate) sigmas: Vec<f32>,
    /// `steps` timesteps, `sigma * num_train_timesteps`.
    pub(crate) timesteps: Vec<f32>,
}

impl Schedule {
    /// The shift is applied twice, as in the reference: once to the training range whose ends
    /// the levels run between, once to each level (`scheduling_flow_match_euler_discrete.py`,
    /// `__init__` and `set_timesteps`). The ends are f32 there and everything between is f64.
    pub(crate) fn new(config: &SchedulerConfig, steps: usize) -> Self {
        let train = config.num_train_timesteps;
        let end = |timestep: usize| {
            let sigma = timestep as f32 / train as f32;
            let shift = config.shift as f32;
            f64::from(shift * sigma / (1.0 + (shift - 1.0) * sigma)) * train as f64
        };
        let (first, last) = (end(train), end(1));
        let shifted = |index: usize| {
            let along = if steps > 1 { index as f64 * ((last - first) / (steps - 1) as f64) } else { 0.0 };
            let sigma = (first + along) / train as f64;
            (config.shift * sigma / (1.0 + (config.shift - 1.0) * sigma)) as f32
        };
        let mut sigmas: Vec<f32> = (0..steps).map(shifted).collect();
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
            let ours = Schedule::new(&config, case["steps"].as_u64().expect("steps") as usize);
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
                    let ours = Schedule::new(&config, 5).sigmas;
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
        assert_eq!(equal, 8);
    }
}
