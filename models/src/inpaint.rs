//! Inpainting: what a mask keeps of the initial image is put back after every step, with the noise of that moment (diffusers
//! `StableDiffusion3InpaintPipeline.__call__`, pipeline_stable_diffusion_3_inpaint.py:1328-1342).

use crate::generate::InitImage;
use crate::resize::{Filter, resize};
use crate::{Image, Result, image};
use candle_core::{Device, Tensor};

/// Grey levels from which a mask's pixel is generated: `do_binarize` takes 0.5 of 1.
const GENERATED: u32 = 128;

/// The part of the latents that is kept.
pub(crate) struct KeptRegion {
    /// `[1, C, h, w]` f32: the initial image.
    pub(crate) image: Tensor,
    /// `[N, C, h, w]` f32: what the first step starts from is made of it.
    pub(crate) noise: Tensor,
    /// `[1, 1, h, w]` f32: 1 where latents are generated, 0 where they are kept.
    pub(crate) mask: Tensor,
}

impl KeptRegion {
    /// Puts the image back into `latents [N, C, h, w]` f32, which a step has brought down to this noise level.
    pub(crate) fn restore(&self, latents: &Tensor, sigma: f32) -> Result<Tensor> {
        let sigma = f64::from(sigma);
        let kept = (&self.noise * sigma)?.broadcast_add(&(&self.image * (1.0 - sigma))?)?;
        let keep = self.mask.affine(-1.0, 1.0)?;
        Ok((kept.broadcast_mul(&keep)? + latents.broadcast_mul(&self.mask)?)?)
    }
}

/// SHA-256 of what is put back after every step, in hexadecimal digits; empty without a mask. A file at a URL may have changed
/// since an earlier attempt at the request, and its state must not go on with another image.
pub(crate) fn digest(init_image: Option<&InitImage>) -> String {
    let Some(InitImage { image, mask: Some(mask), .. }) = init_image else { return String::new() };
    image::digest([image, mask])
}

/// `[1, 1, h, w]` f32 of a mask for an image of `size` pixels on a canvas of `canvas` pixels, a latent for `factor` of them a
/// side: resized as an image, grey, 0 or 1, and of each latent's pixels the first (`VaeImageProcessor.preprocess`,
/// image_processor.py:690-735; `prepare_mask_latents`, pipeline_stable_diffusion_3_inpaint.py:773).
pub(crate) fn mask_latents(
    mask: &Image,
    size: (usize, usize),
    canvas: (usize, usize),
    factor: usize,
    device: &Device,
) -> Result<Tensor> {
    let mask = resize(mask, size.0, size.1, Filter::Lanczos).on_canvas(canvas.0, canvas.1);
    let (width, height) = (canvas.0 / factor, canvas.1 / factor);
    let first = |index: usize| 3 * (index / width * factor * canvas.0 + index % width * factor);
    let values: Vec<f32> = (0..width * height)
        .map(|index| if grey(&mask.rgb[first(index)..][..3]) < GENERATED { 0.0 } else { 1.0 })
        .collect();
    Ok(Tensor::from_vec(values, (1, 1, height, width), device)?)
}

/// Pillow's `L` of a pixel: ITU-R 601-2 luma in 16 bits, rounded (libImaging/Convert.c, `L24`).
fn grey(rgb: &[u8]) -> u32 {
    (u32::from(rgb[0]) * 19_595 + u32::from(rgb[1]) * 38_470 + u32::from(rgb[2]) * 7_471 + 0x8000) >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_grey_of_the_first_pixel_of_each_latent() {
        // Columns of red 255 (luma 76), grey 127, grey 128, yellow (luma 226); each latent has two columns and two rows.
        let columns = [[255, 0, 0], [127; 3], [128; 3], [255, 255, 0]];
        let row: Vec<u8> = columns.iter().flatten().copied().collect();
        let mask = Image { width: 4, height: 2, rgb: [row.clone(), row].concat() };
        let values = |factor| {
            let latents = mask_latents(&mask, (4, 2), (4, 2), factor, &Device::Cpu).expect("latents");
            latents.flatten_all().and_then(|flat| flat.to_vec1::<f32>()).expect("values")
        };
        assert_eq!(values(2), [0.0, 1.0]);
        assert_eq!(values(1), [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0]);
    }
}
