//! `--guidance-interval` and `--first-block-cache`: what the denoising loop may leave out.

use super::{ConfigError, refuse};
use crate::args::EngineArgs;
use latentd_models::{GuidanceInterval, Shortcuts};

/// What the flags ask for.
pub(super) fn parse(args: &EngineArgs) -> Result<Shortcuts, ConfigError> {
    Ok(Shortcuts {
        guidance_interval: args.guidance_interval.as_deref().map(interval).transpose()?,
        first_block_cache: args.first_block_cache.as_deref().map(threshold).transpose()?,
    })
}

/// The flags that [`parse`] reads as `shortcuts`, for another process.
pub(crate) fn flags(shortcuts: &Shortcuts) -> Vec<(&'static str, String)> {
    let Shortcuts { guidance_interval, first_block_cache } = shortcuts;
    let interval = guidance_interval.map(|GuidanceInterval { low, high }| format!("{low},{high}"));
    let cache = first_block_cache.map(|threshold| threshold.to_string());
    let all = [("--guidance-interval", interval), ("--first-block-cache", cache)];
    all.into_iter().filter_map(|(flag, value)| Some((flag, value?))).collect()
}

fn interval(text: &str) -> Result<GuidanceInterval, ConfigError> {
    let ends = text.split_once(',').and_then(|(low, high)| {
        Some(GuidanceInterval { low: low.trim().parse().ok()?, high: high.trim().parse().ok()? })
    });
    match ends {
        Some(ends) if 0.0 <= ends.low && ends.low < ends.high && ends.high <= 1.0 => Ok(ends),
        _ => {
            refuse(format!("--guidance-interval {text}: give two noise levels LO,HI with 0 <= LO < HI <= 1"))
        }
    }
}

fn threshold(text: &str) -> Result<f64, ConfigError> {
    match text.trim().parse() {
        Ok(threshold) if threshold > 0.0 && f64::is_finite(threshold) => Ok(threshold),
        _ => refuse(format!("--first-block-cache {text}: give a threshold above 0, such as 0.08")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_lies_between_0_and_1() {
        assert_eq!(interval("0.2, 0.9").expect("two"), GuidanceInterval { low: 0.2, high: 0.9 });
        assert_eq!(interval("0,1").expect("two"), GuidanceInterval { low: 0.0, high: 1.0 });
        for wrong in ["0.5", "0.9,0.2", "0.5,0.5", "-0.1,1", "0,1.1", "0,nan", "a,b", "0,1,2", ","] {
            let words = interval(wrong).expect_err("a refusal").to_string();
            assert!(words.contains(&format!("--guidance-interval {wrong}: give")), "{words}");
        }
    }

    #[test]
    fn a_threshold_is_positive() {
        assert_eq!(threshold("0.08").expect("a number"), 0.08);
        for wrong in ["0", "-1", "nan", "inf", "much"] {
            let words = threshold(wrong).expect_err("a refusal").to_string();
            assert!(words.contains(&format!("--first-block-cache {wrong}: give")), "{words}");
        }
    }

    #[test]
    fn flags_say_what_was_read() {
        assert_eq!(flags(&Shortcuts::default()), []);
        let interval = interval("0.25,0.8").expect("two");
        let both = Shortcuts { guidance_interval: Some(interval), first_block_cache: Some(0.1) };
        let text = |flag: &str, value: &str| (flag.to_owned(), value.to_owned());
        let all: Vec<_> = flags(&both).into_iter().map(|(flag, value)| (flag.to_owned(), value)).collect();
        assert_eq!(all, [text("--guidance-interval", "0.25,0.8"), text("--first-block-cache", "0.1")]);
    }
}
