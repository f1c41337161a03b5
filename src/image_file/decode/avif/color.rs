//! Planes of luma and chroma to 8-bit RGB, as libavif converts them: chroma of half the resolution by
//! interpolation between the four (4:2:0) or two (4:2:2) nearest samples.

use super::DecodeError;
use image::RgbImage;
use re_rav1d::dav1d::pixel::YUVRange;
use re_rav1d::dav1d::{Picture, PixelLayout, PlanarImageComponent, Plane};

/// How colours are coded: a number of ITU-T H.273's matrix coefficients, and whether samples take the whole range.
#[derive(Clone, Copy)]
pub(super) struct Signal {
    pub(super) matrix: u16,
    pub(super) is_full_range: bool,
}

impl Signal {
    /// The signal of the AV1 stream.
    pub(super) fn of(picture: &Picture) -> Self {
        let is_full_range = picture.color_range() == YUVRange::Full;
        Self { matrix: picture.matrix_coefficients() as u16, is_full_range }
    }
}

/// Samples of a frame.
pub(super) struct Planes {
    size: (usize, usize),
    bits: u32,
    luma: (Plane, usize),
    chroma: Option<Chroma>,
}

struct Chroma {
    planes: [Plane; 2],
    stride: usize,
    is_half_width: bool,
    is_half_height: bool,
}

impl Planes {
    /// `None` where the bits of a sample are not known.
    pub(super) fn of(picture: &Picture) -> Option<Self> {
        let half = match picture.pixel_layout() {
            PixelLayout::I400 => None,
            PixelLayout::I420 => Some((true, true)),
            PixelLayout::I422 => Some((true, false)),
            PixelLayout::I444 => Some((false, false)),
        };
        let chroma = half.map(|(is_half_width, is_half_height)| Chroma {
            planes: [picture.plane(PlanarImageComponent::U), picture.plane(PlanarImageComponent::V)],
            stride: picture.stride(PlanarImageComponent::U) as usize,
            is_half_width,
            is_half_height,
        });
        let stride = picture.stride(PlanarImageComponent::Y) as usize;
        Some(Self {
            size: (picture.width() as usize, picture.height() as usize),
            bits: picture.bits_per_component()?.0 as u32,
            luma: (picture.plane(PlanarImageComponent::Y), stride),
            chroma,
        })
    }

    /// The bits of a sample that count: of colours the first 8, as libavif takes them.
    fn kept(&self) -> u16 {
        let all = (1u16 << self.bits) - 1;
        if self.chroma.is_some() { all & (255 << (self.bits - 8)) } else { all }
    }

    /// A row of a plane.
    fn row(&self, plane: &[u8], stride: usize, y: usize, width: usize) -> Vec<f32> {
        let bytes = &plane[y * stride..];
        if self.bits == 8 {
            bytes[..width].iter().map(|sample| f32::from(*sample)).collect()
        } else {
            let kept = self.kept();
            let samples = bytes[..2 * width].chunks_exact(2);
            samples.map(|sample| f32::from(u16::from_ne_bytes([sample[0], sample[1]]) & kept)).collect()
        }
    }

    /// A row of one plane of chroma, as wide as the image.
    fn chroma_row(&self, chroma: &Chroma, plane: &[u8], y: usize) -> Vec<f32> {
        let (width, height) = self.size;
        let (stored_width, stored_height) = (
            if chroma.is_half_width { width.div_ceil(2) } else { width },
            if chroma.is_half_height { height.div_ceil(2) } else { height },
        );
        let mut row = if chroma.is_half_height {
            let (near, far) = neighbours(y, stored_height);
            let near = self.row(plane, chroma.stride, near, stored_width);
            let far = self.row(plane, chroma.stride, far, stored_width);
            near.iter().zip(&far).map(|(near, far)| 0.75 * near + 0.25 * far).collect()
        } else {
            self.row(plane, chroma.stride, y, stored_width)
        };
        if chroma.is_half_width {
            let blend = |x| {
                let (near, far) = neighbours(x, stored_width);
                0.75 * row[near] + 0.25 * row[far]
            };
            row = (0..width).map(blend).collect();
        }
        row
    }
}

/// The two samples of half the resolution that are nearest to a place, the nearer one first.
fn neighbours(at: usize, count: usize) -> (usize, usize) {
    let near = at / 2;
    (near, if at.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(count - 1) })
}

/// Weights of red and blue in luma.
fn weights(matrix: u16) -> Option<(f32, f32)> {
    match matrix {
        1 => Some((0.2126, 0.0722)),
        4 => Some((0.30, 0.11)),
        // What is unspecified is taken for BT.601.
        2 | 5 | 6 => Some((0.299, 0.114)),
        7 => Some((0.212, 0.087)),
        9 => Some((0.2627, 0.0593)),
        _ => None,
    }
}

/// The image of a frame.
///
/// # Errors
/// When its matrix coefficients are not known.
pub(super) fn to_rgb(planes: &Planes, signal: Signal) -> Result<RgbImage, DecodeError> {
    const IDENTITY: u16 = 0;
    let (width, height) = planes.size;
    let is_identity = signal.matrix == IDENTITY;
    let (red, blue) = match weights(signal.matrix) {
        Some(weights) => weights,
        // Of grey, every matrix makes the same.
        None if is_identity || planes.chroma.is_none() => (0.0, 0.0),
        None => {
            let why = format!("its colours have matrix coefficients {}, which are not read", signal.matrix);
            return Err(DecodeError::Unreadable(why));
        }
    };
    let green = 1.0 - red - blue;
    let top = f32::from(planes.kept());
    let step = (1u32 << (planes.bits - 8)) as f32;
    let (black, luma_range, chroma_range) =
        if signal.is_full_range { (0.0, top, top) } else { (16.0 * step, 219.0 * step, 224.0 * step) };
    let middle = 128.0 * step;
    let luma = |sample: f32| (sample - black) / luma_range;
    let chroma = |sample: f32| (sample - middle) / chroma_range;
    let mut rgb = Vec::with_capacity(3 * width * height);
    let mut push =
        |colors: [f32; 3]| rgb.extend(colors.map(|color| (color.clamp(0.0, 1.0) * 255.0).round() as u8));
    for y in 0..height {
        let lumas = planes.row(&planes.luma.0, planes.luma.1, y, width);
        let Some(chromas) = &planes.chroma else {
            lumas.iter().for_each(|sample| push([luma(*sample); 3]));
            continue;
        };
        let [u, v] = [0, 1].map(|plane| planes.chroma_row(chromas, &chromas.planes[plane], y));
        for ((sample, u), v) in lumas.iter().zip(u).zip(v) {
            let bright = luma(*sample);
            if is_identity {
                push([luma(v), bright, luma(u)]);
                continue;
            }
            let (u, v) = (chroma(u), chroma(v));
            let (r, b) = (bright + 2.0 * (1.0 - red) * v, bright + 2.0 * (1.0 - blue) * u);
            let g = bright - 2.0 * (red * (1.0 - red) * v + blue * (1.0 - blue) * u) / green;
            push([r, g, b]);
        }
    }
    RgbImage::from_raw(width as u32, height as u32, rgb).ok_or_else(super::damaged)
}
