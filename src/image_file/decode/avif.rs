//! AVIF files: the primary image item, which is one AV1 frame or a grid of them. Of an animation that is its first
//! frame. Alpha items are not decoded, and what only some files have, such as layers, is refused by name.

mod color;
mod container;
mod frame;

use super::{DecodeError, MAX_BYTES, MAX_SIDE};
use container::{Container, Item};
use frame::Coded;
use image::RgbImage;
use image::imageops::replace;
use image::metadata::Orientation;

/// Most tiles of a grid; the format allows 65,536.
const MAX_TILES: usize = 256;

/// The image as it is stored, and how it is to be turned.
///
/// # Errors
/// When the file is damaged, larger than can be decoded, or of a kind that is not read.
pub(super) fn decode(bytes: &[u8]) -> Result<(RgbImage, Orientation), DecodeError> {
    let container = Container::open(bytes).ok_or_else(damaged)?;
    let item = container.primary().ok_or_else(damaged)?;
    if let Some(what) = item.unsupported() {
        return Err(DecodeError::Unreadable(format!("it is an AVIF with {what}, which is not read")));
    }
    let orientation = item.orientation();
    let tiles = match &item.kind {
        b"av01" => Tiles { columns: 1, size: item.size().ok_or_else(damaged)?, items: vec![item] },
        b"grid" => Tiles::of_grid(&container, &item)?,
        _ => return Err(DecodeError::Unreadable("its image is not AV1".into())),
    };
    Ok((tiles.decode(bytes.len(), orientation)?, orientation))
}

fn damaged() -> DecodeError {
    DecodeError::Unreadable("it is a damaged AVIF file".into())
}

/// Items of the same size, row by row, which cover an image.
struct Tiles<'a> {
    items: Vec<Item<'a>>,
    columns: u32,
    size: (u32, u32),
}

impl<'a> Tiles<'a> {
    fn of_grid(container: &Container<'a>, grid: &Item<'a>) -> Result<Self, DecodeError> {
        let layout = grid.grid().ok_or_else(damaged)?;
        let count = layout.rows * layout.columns;
        let items: Option<Vec<_>> =
            container.tiles(grid.id).map(|id| container.item(id)).take(MAX_TILES + 1).collect();
        let mut items = items.ok_or_else(damaged)?;
        if count as usize > MAX_TILES {
            return Err(DecodeError::Unreadable(format!("it has more than {MAX_TILES} tiles")));
        }
        let size = items.first().and_then(Item::size).ok_or_else(damaged)?;
        let covered =
            (u64::from(size.0) * u64::from(layout.columns), u64::from(size.1) * u64::from(layout.rows));
        let is_covered = covered.0 >= u64::from(layout.size.0) && covered.1 >= u64::from(layout.size.1);
        let are_alike = items.iter().all(|tile| tile.kind == *b"av01" && tile.size() == Some(size));
        if items.len() != count as usize || !is_covered || !are_alike {
            return Err(damaged());
        }
        // The grid's colours are those of its tiles.
        for tile in &mut items {
            tile.color = grid.color.or(tile.color);
        }
        Ok(Self { items, columns: layout.columns, size: layout.size })
    }

    fn decode(&self, file: usize, orientation: Orientation) -> Result<RgbImage, DecodeError> {
        let (width, height) = self.size;
        let tile = self.items.first().and_then(Item::size).ok_or_else(damaged)?;
        if width.max(height).max(tile.0).max(tile.1) > MAX_SIDE {
            return Err(DecodeError::TooLong);
        }
        let coded: Option<Vec<Coded<'_>>> =
            self.items.iter().map(|item| Coded::first_frame(&item.data)).collect();
        let coded = coded.ok_or_else(damaged)?;
        let of_a_pixel = coded.iter().map(Coded::bytes_of_a_pixel).max().unwrap_or_default();
        let pixels = u64::from(width) * u64::from(height);
        let turned = if orientation == Orientation::NoTransforms { 0 } else { 3 * pixels };
        let copy = coded.iter().map(Coded::len).max().unwrap_or_default();
        // The file, what of it is one item, the RGB of all tiles, the planes and the RGB of one.
        let needed = (file + copy) as u64 + 3 * pixels + (frame::padded(tile) * (of_a_pixel + 3)).max(turned);
        if needed > MAX_BYTES {
            return Err(DecodeError::TooManyPixels(MAX_BYTES * pixels / needed));
        }
        let mut images =
            coded.into_iter().zip(&self.items).map(|(coded, item)| coded.decode(tile, item.color));
        if self.items.len() == 1 && tile == self.size {
            return images.next().ok_or_else(damaged)?;
        }
        let mut whole = RgbImage::new(width, height);
        for (index, image) in (0u32..).zip(images) {
            let (x, y) = (index % self.columns * tile.0, index / self.columns * tile.1);
            replace(&mut whole, &image?, x.into(), y.into());
        }
        Ok(whole)
    }
}

#[cfg(test)]
mod tests;
