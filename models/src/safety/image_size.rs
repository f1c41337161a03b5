//! Sizes of images and patches in the configs of classifiers of both kinds.

use serde::Deserialize;

/// What networks of both kinds must read: colours in square patches.
pub(super) fn check_images(patch: Sides, channels: usize) -> Result<(), String> {
    let (height, width) = patch.both();
    if height != width {
        return Err(format!("patches of {width}x{height} pixels are not square patches"));
    }
    if channels != 3 {
        return Err(format!("num_channels is {channels}, but images have 3"));
    }
    Ok(())
}

/// One number for both sides, or two.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
pub(super) enum Sides {
    One(usize),
    Two([usize; 2]),
    Named { height: usize, width: usize },
}

impl Sides {
    /// `(height, width)`.
    pub(super) fn both(self) -> (usize, usize) {
        match self {
            Self::One(side) => (side, side),
            Self::Two([height, width]) | Self::Named { height, width } => (height, width),
        }
    }
}
