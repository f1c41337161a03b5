//! Decoding in tiles, for a device that has no memory to decode an image as a whole.
//!
//! As diffusers' `AutoencoderKL.tiled_decode` does it (diffusers 0.42.1, `models/autoencoders/autoencoder_kl.py`, lines 242
//! to 252 and 364 to 416): squares of the latents that overlap by a quarter are decoded one by one, and blended linearly
//! where they overlap, first with the tile above, then with the one to the left. Each tile has its own group norms and
//! attention, so the image is about the one that is decoded as a whole.
//!
//! diffusers keeps all tiles on the device. Here a decoded tile goes to the host, where the image is put together, so that
//! the device holds what one tile needs, whatever the size of the image.

use candle_core::{DType, Device, Result, Tensor};

/// Pixels a side of the largest tile. diffusers' own default is the VAE's `sample_size`, which is 1024 in every SD3.5
/// model: a single tile for the usual image, which would need as much memory as before.
const LARGEST: usize = 512;

/// Pixels a side of the smallest tile. A smaller one sees too little of the image: with tiles of 128 pixels the built-in
/// model's VAE is off by 8 of 255 levels on average, with 256 by 4 (in diffusers, on three images of `docs/images`).
const SMALLEST: usize = 256;

/// A tile overlaps the next by a part of its side, one of so many (diffusers' `tile_overlap_factor` of 0.25).
const OVERLAP_PARTS: usize = 4;

/// How an image is cut into tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tiles {
    /// Latents a side, a multiple of [`OVERLAP_PARTS`].
    side: usize,
    /// Pixels that a latent becomes, a side.
    factor: usize,
}

/// Planes of pixels on the host.
struct Planes {
    channels: usize,
    height: usize,
    width: usize,
    /// `[C, H, W]`.
    values: Vec<f32>,
}

impl Tiles {
    /// Tiles for latents of `height` and `width`: of half the longer side, so that a tile needs at most a quarter of the
    /// memory for a square image, and within [`SMALLEST`] and [`LARGEST`].
    pub(crate) fn of(height: usize, width: usize, factor: usize) -> Self {
        let side = (height.max(width).div_ceil(2) * factor).clamp(SMALLEST, LARGEST) / factor;
        Self::with_side(side, factor)
    }

    /// Tiles of `side` latents, or the next multiple of what overlaps.
    fn with_side(side: usize, factor: usize) -> Self {
        Self { side: side.max(1).next_multiple_of(OVERLAP_PARTS), factor }
    }

    /// Latents of one tile of an image.
    pub(crate) fn latents(self, height: usize, width: usize) -> (usize, usize) {
        (self.side.min(height), self.side.min(width))
    }

    /// Decodes `latents [1, C, h, w]` tile by tile with `decode`, which returns the pixels of a tile, `[1, 3, H, W]`.
    /// Returns all pixels, `[1, 3, H, W]` f32 on the host.
    pub(crate) fn decode<E: From<candle_core::Error>>(
        self,
        latents: &Tensor,
        mut decode: impl FnMut(&Tensor) -> std::result::Result<Tensor, E>,
    ) -> std::result::Result<Tensor, E> {
        let (_, _, height, width) = latents.dims4()?;
        let overlap = self.side / OVERLAP_PARTS;
        let (step, blended) = (self.side - overlap, overlap * self.factor);
        let mut image: Option<Planes> = None;
        let mut above: Vec<Planes> = Vec::new();
        for top in (0..height).step_by(step) {
            let mut row: Vec<Planes> = Vec::new();
            for (column, left) in (0..width).step_by(step).enumerate() {
                let (rows, columns) = self.latents(height - top, width - left);
                let tile = latents.narrow(2, top, rows)?.narrow(3, left, columns)?.contiguous()?;
                let mut tile = Planes::new(&decode(&tile)?)?;
                if let Some(above) = above.get(column) {
                    tile.blend_below(above, blended);
                }
                if let Some(left) = row.last() {
                    tile.blend_right_of(left, blended);
                }
                let all = (tile.channels, height * self.factor, width * self.factor);
                let image = image.get_or_insert_with(|| Planes::empty(all));
                image.put(&tile, (top * self.factor, left * self.factor), step * self.factor);
                row.push(tile);
            }
            above = row;
        }
        let Planes { channels, height, width, values } = image.unwrap_or(Planes::empty((0, 0, 0)));
        Ok(Tensor::from_vec(values, (1, channels, height, width), &Device::Cpu)?)
    }
}

impl Planes {
    /// Copies the pixels of a tile, `[1, C, H, W]`, to the host.
    fn new(pixels: &Tensor) -> Result<Self> {
        let (_, channels, height, width) = pixels.dims4()?;
        let values = pixels.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
        Ok(Self { channels, height, width, values })
    }

    fn empty((channels, height, width): (usize, usize, usize)) -> Self {
        Self { channels, height, width, values: vec![0.0; channels * height * width] }
    }

    fn at(&self, channel: usize, y: usize, x: usize) -> usize {
        (channel * self.height + y) * self.width + x
    }

    /// Blends the first `rows` with the last ones of the tile above (diffusers' `blend_v`).
    fn blend_below(&mut self, above: &Self, rows: usize) {
        let rows = rows.min(self.height).min(above.height);
        for (channel, y) in pairs(self.channels, rows) {
            let share = y as f32 / rows as f32;
            for x in 0..self.width {
                let (theirs, ours) = (above.at(channel, above.height - rows + y, x), self.at(channel, y, x));
                self.values[ours] = above.values[theirs] * (1.0 - share) + self.values[ours] * share;
            }
        }
    }

    /// Blends the first `columns` with the last ones of the tile to the left (diffusers' `blend_h`).
    fn blend_right_of(&mut self, left: &Self, columns: usize) {
        let columns = columns.min(self.width).min(left.width);
        for (channel, y) in pairs(self.channels, self.height) {
            for x in 0..columns {
                let share = x as f32 / columns as f32;
                let (theirs, ours) = (left.at(channel, y, left.width - columns + x), self.at(channel, y, x));
                self.values[ours] = left.values[theirs] * (1.0 - share) + self.values[ours] * share;
            }
        }
    }

    /// Copies the first `most` rows and columns of a tile to a place. The next tiles begin behind them.
    fn put(&mut self, tile: &Self, (top, left): (usize, usize), most: usize) {
        let (rows, columns) = (tile.height.min(most), tile.width.min(most));
        for (channel, y) in pairs(self.channels, rows) {
            let (from, to) = (tile.at(channel, y, 0), self.at(channel, top + y, left));
            self.values[to..to + columns].copy_from_slice(&tile.values[from..from + columns]);
        }
    }
}

fn pairs(first: usize, second: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..first).flat_map(move |a| (0..second).map(move |b| (a, b)))
}

#[cfg(test)]
mod tests;
