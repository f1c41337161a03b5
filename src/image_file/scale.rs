//! Images made larger or smaller, for sizes that a model does not generate.

use super::Image;
use image::RgbImage;
use image::imageops::{FilterType, resize};

/// The image at another size; its proportions may change by what rounding takes.
pub(crate) fn scaled(image: Image, (width, height): (usize, usize)) -> Image {
    if (image.width, image.height) == (width, height) {
        return image;
    }
    let Image { width: from_width, height: from_height, rgb } = image;
    let Some(image) = RgbImage::from_raw(from_width as u32, from_height as u32, rgb) else {
        unreachable!("an image has three bytes a pixel")
    };
    let image = resize(&image, width as u32, height as u32, FilterType::CatmullRom);
    Image { width, height, rgb: image.into_raw() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scaled_image_is_the_same_image() {
        let left_and_right = |width: usize, height: usize| {
            let row = (0..width).flat_map(|x| [if x < width / 2 { 20 } else { 220 }; 3]);
            Image { width, height, rgb: row.cycle().take(3 * width * height).collect() }
        };
        let large = scaled(left_and_right(96, 55), (1792, 1024));
        assert_eq!((large.width, large.height, large.rgb.len()), (1792, 1024, 3 * 1792 * 1024));
        let level = |x: usize, y: usize| large.rgb[3 * (y * 1792 + x)];
        assert_eq!([level(0, 0), level(800, 1023), level(1000, 0), level(1791, 1023)], [20, 20, 220, 220]);
        assert_eq!(scaled(left_and_right(8, 8), (8, 8)), left_and_right(8, 8));
    }
}
