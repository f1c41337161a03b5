//! The rule by which CompVis' checker judges an image's embedding (diffusers `StableDiffusionSafetyChecker.forward`).

use crate::weights::{Scope, Weights};
use candle_core::{DType, Result};

/// Concepts that make the others stricter, and how many there are.
const SPECIAL: (&str, usize) = ("special_care_embeds", 3);

/// Concepts that make an image unsafe.
const UNSAFE: (&str, usize) = ("concept_embeds", 17);

/// By how much a special concept that is found raises the cosine of every unsafe one.
const STRICTER: f32 = 0.01;

/// All concepts with their thresholds.
pub(super) struct Concepts {
    special: Vec<Concept>,
    unsafe_ones: Vec<Concept>,
}

struct Concept {
    /// `[P]`, of length 1.
    direction: Vec<f32>,
    /// The cosine above which it is found.
    threshold: f32,
}

impl Concept {
    fn load(root: &Scope, (name, count): (&str, usize), width: usize) -> Result<Vec<Self>> {
        let directions = root.tensor(name, &[count, width])?.to_dtype(DType::F32)?.to_vec2::<f32>()?;
        let thresholds = root.tensor(&format!("{name}_weights"), &[count])?.to_dtype(DType::F32)?;
        let both = directions.iter().zip(thresholds.to_vec1::<f32>()?);
        Ok(both.map(|(direction, threshold)| Self { direction: unit(direction), threshold }).collect())
    }
}

impl Concepts {
    /// Concepts in embeddings of `width`.
    pub(super) fn load(root: &Scope, width: usize) -> Result<Self> {
        Ok(Self {
            special: Concept::load(root, SPECIAL, width)?,
            unsafe_ones: Concept::load(root, UNSAFE, width)?,
        })
    }

    /// Notes what [`Self::load`] would not find.
    pub(super) fn expect(weights: &Weights, width: usize) {
        for (name, count) in [SPECIAL, UNSAFE] {
            weights.expect(name, &[count, width]);
            weights.expect(&format!("{name}_weights"), &[count]);
        }
    }

    /// The cosines of an embedding `[P]` to the special concepts and to the unsafe ones.
    pub(super) fn cosines(&self, embedding: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let embedding = unit(embedding);
        let cosine = |concept: &Concept| embedding.iter().zip(&concept.direction).map(|(a, b)| a * b).sum();
        (self.special.iter().map(cosine).collect(), self.unsafe_ones.iter().map(cosine).collect())
    }

    /// By how much the cosines exceed the threshold of the unsafe concept that is exceeded most: unsafe above 0. NaN if
    /// any score is not finite, also that of a special concept.
    pub(super) fn margin(&self, (special, unsafe_ones): &(Vec<f32>, Vec<f32>)) -> f32 {
        let scores = self.scores(special, unsafe_ones);
        if scores.iter().any(|score| !score.is_finite()) {
            return f32::NAN;
        }
        scores[self.special.len()..].iter().copied().fold(f32::NEG_INFINITY, f32::max)
    }

    /// What diffusers calls `special_scores` and `concept_scores`, one after the other. Once a special concept is found,
    /// all that follow are stricter, special ones too.
    pub(super) fn scores(&self, special: &[f32], unsafe_ones: &[f32]) -> Vec<f32> {
        let mut adjustment = 0.0;
        let special = special.iter().zip(&self.special).map(|(cosine, concept)| {
            let score = rounded(cosine - concept.threshold + adjustment);
            if score > 0.0 {
                adjustment = STRICTER;
            }
            score
        });
        let mut scores: Vec<_> = special.collect();
        let both = unsafe_ones.iter().zip(&self.unsafe_ones);
        scores.extend(both.map(|(cosine, concept)| rounded(cosine - concept.threshold + adjustment)));
        scores
    }
}

/// To three places, as numpy rounds an f32 and so Python's `round`.
fn rounded(score: f32) -> f32 {
    (score * 1000.0).round_ties_even() / 1000.0
}

/// At length 1 (torch `normalize`); NaN if the length is not finite, of which a division would make zeros.
fn unit(vector: &[f32]) -> Vec<f32> {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    let length = if length.is_finite() { length.max(1e-12) } else { f32::NAN };
    vector.iter().map(|value| value / length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Concepts that are found above a cosine of 0.
    fn concepts() -> Concepts {
        let concept = || Concept { direction: vec![1.0], threshold: 0.0 };
        let several = |count| std::iter::repeat_with(concept).take(count).collect();
        Concepts { special: several(3), unsafe_ones: several(17) }
    }

    fn margin(special: [f32; 3], unsafe_one: f32) -> f32 {
        let mut unsafe_ones = vec![-1.0; 17];
        unsafe_ones[5] = unsafe_one;
        concepts().margin(&(special.to_vec(), unsafe_ones))
    }

    #[test]
    fn a_special_concept_makes_all_others_stricter() {
        assert_eq!(margin([-1.0; 3], -0.004), -0.004);
        assert_eq!(margin([0.2, -1.0, -1.0], -0.004), 0.006);
        // Too little after rounding.
        assert_eq!(margin([0.0004, -1.0, -1.0], -0.004), -0.004);
        // The second is found since the first is; what is found already is not counted twice.
        assert_eq!(margin([0.2, 0.2, 0.2], -0.004), 0.006);
        let scores = concepts().scores(&[-0.005, 0.2, -0.005], &[]);
        assert_eq!(scores, [-0.005, 0.2, 0.005]);
    }

    #[test]
    fn what_is_not_a_number_is_no_verdict() {
        assert!(margin([-1.0; 3], f32::NAN).is_nan());
        assert!(concepts().margin(&(vec![f32::NAN; 3], vec![f32::NAN; 17])).is_nan());
        assert!(margin([f32::NAN, -1.0, -1.0], -1.0).is_nan(), "special concepts count too");
        assert!(unit(&[1.0, f32::INFINITY]).iter().chain(&unit(&[1e30, 1.0])).all(|value| value.is_nan()));
    }

    #[test]
    fn no_image_is_further_than_the_numbers_reach() {
        assert_eq!(margin([-1.0; 3], -1.0), -1.0);
        assert!(unit(&[0.0, 0.0]).iter().all(|value| *value == 0.0));
    }
}
