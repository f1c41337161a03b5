//! Which kernels a card gets: one function of what the card is and of what this build holds.

use std::fmt;

/// What kernels are chosen by on a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Card {
    /// Its compute capability, major and minor.
    pub capability: (i32, i32),
    /// Whether its cuBLASLt has fp8 products with a scale for each row, which the library is asked.
    pub row_scaled_fp8: bool,
}

/// What not every build holds. Everything else is in each of them, in a form that each card since Ampere loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Built {
    /// Attention with the instructions that only Hopper has.
    pub sm_90a: bool,
}

impl Built {
    /// This build.
    pub fn this() -> Self {
        Self::of(env!("LATENTD_CUDA_ARCHS"))
    }

    /// A build for architectures as `LATENTD_CUDA_ARCHS` lists them, such as `80,89,90a`.
    pub fn of(archs: &str) -> Self {
        Self { sm_90a: archs.split(',').any(|arch| arch == "90a") }
    }
}

/// A kernel of attention. A card that runs one of them runs those after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attention {
    /// Hopper's tensor cores: bf16 heads of 64 elements.
    Hopper,
    /// Tensor cores since Ampere: bf16 heads of any size that 8 divides.
    Ampere,
    /// No tensor cores: both types, heads of at most 512 elements.
    Portable,
}

/// A kernel of 3x3 convolutions that keep the size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Convolution {
    /// An implicit product on tensor cores since Ampere, in bf16.
    Ampere,
    /// candle's.
    Portable,
}

/// Products in fp8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fp8 {
    /// cuBLASLt's, with a scale for each row of activations and each output of weights.
    RowScaled,
    /// The card has none that this program could use.
    None,
}

/// The fastest kernel for each purpose. What is not of its type or shape goes to the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernels {
    /// Of attention.
    pub attention: Attention,
    /// Of convolutions.
    pub convolution: Convolution,
    /// Of products in fp8; all others are cuBLASLt's on every card.
    pub fp8: Fp8,
}

/// The kernels that a card gets from a build.
pub fn select(card: Card, built: Built) -> Kernels {
    let ampere = card.capability.0 >= 8;
    Kernels {
        attention: match card.capability {
            // Architecture-specific code runs on that one capability and on none after it.
            (9, 0) if built.sm_90a => Attention::Hopper,
            _ if ampere => Attention::Ampere,
            _ => Attention::Portable,
        },
        convolution: if ampere { Convolution::Ampere } else { Convolution::Portable },
        fp8: if card.row_scaled_fp8 { Fp8::RowScaled } else { Fp8::None },
    }
}

impl Attention {
    /// Every kernel, in the order in which they are preferred.
    pub const ALL: [Self; 3] = [Self::Hopper, Self::Ampere, Self::Portable];

    /// Elements of the widest heads that the kernel without tensor cores takes.
    pub const WIDEST_PORTABLE: usize = 512;

    /// Whether it takes heads of so many elements on a card whose fastest kernel is `fastest`.
    pub(super) fn takes_heads(self, head_dim: usize, fastest: Self) -> bool {
        let fits = match self {
            Self::Hopper => head_dim == 64,
            Self::Ampere => head_dim.is_multiple_of(8),
            Self::Portable => head_dim <= Self::WIDEST_PORTABLE,
        };
        fits && self >= fastest
    }
}

impl fmt::Display for Attention {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Hopper => "Hopper's tensor cores (CUTLASS, sm_90a)",
            Self::Ampere => "Ampere's tensor cores (sm_80)",
            Self::Portable => "without tensor cores",
        })
    }
}

impl fmt::Display for Convolution {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Ampere => "Ampere's tensor cores (CUTLASS, sm_80)",
            Self::Portable => "without tensor cores (candle)",
        })
    }
}

impl fmt::Display for Fp8 {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::RowScaled => "cuBLASLt, a scale for each row",
            Self::None => "none on this card",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: Built = Built { sm_90a: true };
    const WITHOUT_HOPPER: Built = Built { sm_90a: false };

    fn card(capability: (i32, i32)) -> Card {
        Card { capability, row_scaled_fp8: capability == (9, 0) }
    }

    #[test]
    fn each_generation_gets_kernels_that_it_can_run() {
        for (capability, attention, fp8) in [
            ((8, 0), Attention::Ampere, Fp8::None),
            ((8, 6), Attention::Ampere, Fp8::None),
            ((8, 9), Attention::Ampere, Fp8::None),
            ((9, 0), Attention::Hopper, Fp8::RowScaled),
            ((10, 0), Attention::Ampere, Fp8::None),
            ((12, 0), Attention::Ampere, Fp8::None),
        ] {
            let expected = Kernels { attention, convolution: Convolution::Ampere, fp8 };
            assert_eq!(select(card(capability), FULL), expected, "{capability:?}");
        }
        let turing = select(card((7, 5)), FULL);
        assert_eq!((turing.attention, turing.convolution), (Attention::Portable, Convolution::Portable));
    }

    #[test]
    fn a_build_without_90a_gives_hopper_the_kernels_of_ampere() {
        let kernels = select(card((9, 0)), WITHOUT_HOPPER);
        assert_eq!((kernels.attention, kernels.convolution), (Attention::Ampere, Convolution::Ampere));
        assert_eq!(kernels.fp8, Fp8::RowScaled);
        for capability in [(8, 0), (8, 6), (8, 9), (10, 0), (12, 0)] {
            assert_eq!(select(card(capability), WITHOUT_HOPPER), select(card(capability), FULL));
        }
    }

    #[test]
    fn architectures_are_read_as_they_are_given_to_the_build() {
        assert_eq!(["80,89,90a", "90a"].map(Built::of), [FULL; 2]);
        // Plain 90 has no wgmma, and another card's architecture-specific code is not Hopper's.
        assert_eq!(["80,89,90", "80", "100a"].map(Built::of), [WITHOUT_HOPPER; 3]);
    }

    #[test]
    fn heads_that_the_fastest_kernel_does_not_take_go_to_the_next() {
        let first = |fastest: Attention, head_dim: usize| {
            Attention::ALL.into_iter().find(|kernel| kernel.takes_heads(head_dim, fastest))
        };
        let of = |fastest: Attention| [64, 128, 72, 20, 1020].map(|head_dim| first(fastest, head_dim));
        let [hopper, ampere, portable] = Attention::ALL.map(Some);
        assert_eq!(of(Attention::Hopper), [hopper, ampere, ampere, portable, None]);
        assert_eq!(of(Attention::Ampere), [ampere, ampere, ampere, portable, None]);
        assert_eq!(of(Attention::Portable), [portable, portable, portable, portable, None]);
    }
}
