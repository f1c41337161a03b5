//! Sizes of images and patches in the configs of vision transformers.

use serde::Deserialize;

/// What every network must read: colours in square patches.
pub(crate) fn check_images(patch: Sides, channels: usize) -> Result<(), String> {
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
pub(crate) enum Sides {
    One(usize),
    Two([usize; 2]),
    Named { height: usize, width: usize },
}

impl Sides {
    /// `(height, width)`.
    pub(crate) fn both(self) -> (usize, usize) {
        match self {
            Self::One(side) => (side, side),
            Self::Two([height, width]) | Self::Named { height, width } => (height, width),
        }
    }
}
