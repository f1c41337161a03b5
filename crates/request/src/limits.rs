//! What a model can be asked for, and how a size beyond what it generates is reached.

use super::MAX_SIDE;

/// Pixels of the largest image that is made by scaling: as many as a square of 4096.
pub const MAX_SCALED_PIXELS: usize = 1 << 24;

/// The sizes that may be asked of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest side, in pixels, that may be asked for.
    pub max_side: usize,
    /// Longest side that the model generates. Where more may be asked for, images are scaled to it.
    pub generated_side: usize,
}

/// Why a size is refused: in the words of a message, with the limit and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beyond {
    /// A side is longer than the model's longest.
    Side(usize),
    /// The image has more pixels than images are scaled to.
    Pixels(usize),
}

impl Limits {
    /// Of a model whose images are as it generates them.
    pub fn of_model(max_side: usize) -> Self {
        Self { max_side, generated_side: max_side }
    }

    /// Of a model whose images are scaled to whatever fal's endpoints may be asked for.
    pub fn scaled(generated_side: usize) -> Self {
        let max_side = usize::try_from(MAX_SIDE).unwrap_or(generated_side);
        Self { max_side: max_side.max(generated_side), generated_side }
    }

    /// The first thing that is wrong with a size.
    pub fn check(&self, width: usize, height: usize) -> Result<(), Beyond> {
        let longest = width.max(height);
        if longest > self.max_side {
            return Err(Beyond::Side(self.max_side));
        }
        let is_too_large = longest > self.generated_side && width.saturating_mul(height) > MAX_SCALED_PIXELS;
        if is_too_large { Err(Beyond::Pixels(MAX_SCALED_PIXELS)) } else { Ok(()) }
    }

    /// The size that is generated for one that was asked for: the same, or the largest of its proportions.
    pub fn generated(&self, width: usize, height: usize) -> (usize, usize) {
        let longest = width.max(height);
        if longest <= self.generated_side {
            return (width, height);
        }
        let share = self.generated_side as f64 / longest as f64;
        let side = |pixels: usize| ((pixels as f64 * share).round() as usize).clamp(1, self.generated_side);
        (side(width), side(height))
    }
}

impl Beyond {
    /// The limit.
    pub fn limit(&self) -> usize {
        let (Self::Side(limit) | Self::Pixels(limit)) = *self;
        limit
    }

    /// What the limit is.
    pub fn what(&self) -> &'static str {
        match self {
            Self::Side(_) => "the longest side of this model",
            Self::Pixels(_) => "the most pixels that this model's images are scaled to",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_beyond_the_models_is_generated_in_its_proportions() {
        let mini = Limits::scaled(1536);
        assert_eq!(mini.generated(1024, 768), (1024, 768));
        assert_eq!(mini.generated(1792, 1024), (1536, 878));
        assert_eq!(mini.generated(14_142, 1), (1536, 1));
        assert_eq!(mini.check(14_142, 1000), Ok(()));
        assert_eq!(mini.check(14_143, 1), Err(Beyond::Side(14_142)));
        assert_eq!(mini.check(4097, 4096), Err(Beyond::Pixels(MAX_SCALED_PIXELS)));
        let large = Limits::of_model(3072);
        assert_eq!(large.check(3072, 3072), Ok(()));
        assert_eq!(large.check(3073, 8), Err(Beyond::Side(3072)));
    }
}
