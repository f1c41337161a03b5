//! `quality`: OpenAI's words for how much work goes into an image, as numbers of denoising steps.

use crate::endpoint::Endpoint;

/// Work that goes into an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quality {
    Low,
    Medium,
    High,
    Max,
}

impl Quality {
    /// OpenAI's words, also those of its earlier models; the first is the default.
    pub(crate) const WORDS: &'static [(&'static str, Self)] = &[
        ("auto", Self::Medium),
        ("low", Self::Low),
        ("medium", Self::Medium),
        ("high", Self::High),
        ("xhigh", Self::Max),
        ("max", Self::Max),
        ("standard", Self::Medium),
        ("hd", Self::High),
    ];

    /// The word of a response.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Max => "max",
        }
    }

    /// The denoising steps, where a call asks for no number: half of the endpoint's default, the default, one and a half
    /// times and twice as many, within the endpoint's limits.
    pub(crate) fn steps(self, endpoint: &Endpoint) -> i64 {
        let halves = match self {
            Self::Low => 1,
            Self::Medium => 2,
            Self::High => 3,
            Self::Max => 4,
        };
        let steps = (endpoint.default_steps * halves + 1) / 2;
        steps.clamp(*endpoint.steps.start(), *endpoint.steps.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quality_is_a_number_of_steps_within_the_endpoints_limits() {
        let endpoints = Endpoint::known(|_| None);
        let steps =
            |quality: Quality| endpoints.iter().map(|endpoint| quality.steps(endpoint)).collect::<Vec<_>>();
        assert_eq!(steps(Quality::Low), [14, 2, 20]);
        assert_eq!(steps(Quality::Medium), [28, 4, 40]);
        assert_eq!(steps(Quality::High), [42, 6, 50]);
        assert_eq!(steps(Quality::Max), [50, 8, 50]);
    }
}
