//! `preprocessor_config.json`, as transformers' `ViTImageProcessor`, `CLIPImageProcessor`, `SiglipImageProcessor` and their
//! predecessors write it.

use super::image_size::Sides;
use super::tower::LARGEST;
use crate::resize::Filter;
use serde::Deserialize;
use std::ops::Range;

/// The file. What is left out has the default of the kind.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ProcessorConfig {
    do_resize: Option<bool>,
    do_center_crop: Option<bool>,
    do_rescale: Option<bool>,
    do_normalize: Option<bool>,
    size: Option<Size>,
    crop_size: Option<Sides>,
    resample: Option<u32>,
    rescale_factor: Option<f64>,
    image_mean: Option<[f32; 3]>,
    image_std: Option<[f32; 3]>,
}

/// What an image is resized to.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Size {
    Shortest { shortest_edge: usize },
    Sides(Sides),
}

/// What is done to an image, checked against the network's own input.
#[derive(Debug, Clone)]
pub(crate) struct Processing {
    pub(crate) filter: Filter,
    resize: Resize,
    /// `(height, width)` of what the network reads.
    pub(crate) input: (usize, usize),
    /// What a byte is multiplied by.
    pub(crate) factor: f64,
    /// By channel.
    pub(crate) mean: [f32; 3],
    /// By channel.
    pub(crate) deviation: [f32; 3],
}

/// The size before the middle is cut out.
#[derive(Debug, Clone, Copy)]
enum Resize {
    /// `(height, width)`, whatever the aspect.
    Exactly(usize, usize),
    /// The shorter side, keeping the aspect.
    Shortest(usize),
}

/// Which network reads the images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NetworkKind {
    Vit,
    Clip,
    Siglip,
}

/// Where the processors of the kinds differ when their file says nothing.
struct Defaults {
    crop: bool,
    resample: u32,
    mean: [f32; 3],
    deviation: [f32; 3],
}

const VIT: Defaults = Defaults { crop: false, resample: 2, mean: [0.5; 3], deviation: [0.5; 3] };

const SIGLIP: Defaults = Defaults { resample: 3, ..VIT };

/// What CLIP was trained with, here as in every file that names it.
const CLIP: Defaults = Defaults {
    crop: true,
    resample: 3,
    mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
    deviation: [0.268_629_54, 0.261_302_6, 0.275_777_1],
};

impl Processing {
    /// What the file asks for, if that is what the network reads: `(height, width)` pixels.
    pub(crate) fn new(
        file: &ProcessorConfig,
        kind: NetworkKind,
        (height, width): (usize, usize),
    ) -> Result<Self, String> {
        let defaults = match kind {
            NetworkKind::Vit => VIT,
            NetworkKind::Clip => CLIP,
            NetworkKind::Siglip => SIGLIP,
        };
        let keeps_aspect = kind == NetworkKind::Clip;
        if !file.do_resize.unwrap_or(true) {
            return Err("images must be resized (do_resize)".into());
        }
        let resize = file.resize(keeps_aspect);
        let input = file.output(resize, file.do_center_crop.unwrap_or(defaults.crop))?;
        if input != (height, width) {
            let (given_height, given_width) = input;
            return Err(format!(
                "size is {given_height}x{given_width}, but the network reads {height}x{width}"
            ));
        }
        let (rescales, normalises) = (file.do_rescale.unwrap_or(true), file.do_normalize.unwrap_or(true));
        let processing = Self {
            filter: filter(file.resample.unwrap_or(defaults.resample))?,
            resize,
            input,
            factor: if rescales { file.rescale_factor.unwrap_or(1.0 / 255.0) } else { 1.0 },
            mean: if normalises { file.image_mean.unwrap_or(defaults.mean) } else { [0.0; 3] },
            deviation: if normalises { file.image_std.unwrap_or(defaults.deviation) } else { [1.0; 3] },
        };
        processing.check()
    }

    fn check(self) -> Result<Self, String> {
        let finite = |value: &f32| value.is_finite();
        if !self.factor.is_finite() || !self.mean.iter().all(finite) || self.deviation.contains(&0.0) {
            return Err("rescale_factor, image_mean and image_std must be numbers, the last not zero".into());
        }
        Ok(self)
    }

    /// `(height, width)` that an image of this height and width is resized to, and which rows and columns of that the
    /// network reads.
    pub(crate) fn place(&self, height: usize, width: usize) -> ((usize, usize), Range<usize>, Range<usize>) {
        let (tall, wide) = match self.resize {
            Resize::Exactly(tall, wide) => (tall, wide),
            Resize::Shortest(side) if width <= height => (side * height / width, side),
            Resize::Shortest(side) => (side, side * width / height),
        };
        let middle = |whole: usize, part: usize| ((whole - part) / 2)..((whole - part) / 2 + part);
        ((tall, wide), middle(tall, self.input.0), middle(wide, self.input.1))
    }
}

impl ProcessorConfig {
    /// A single number is both sides for ViT, and the shorter one for CLIP.
    fn resize(&self, keeps_aspect: bool) -> Resize {
        match self.size.unwrap_or(Size::Sides(Sides::One(224))) {
            Size::Shortest { shortest_edge } => Resize::Shortest(shortest_edge),
            Size::Sides(Sides::One(side)) if keeps_aspect => Resize::Shortest(side),
            Size::Sides(sides) => Resize::Exactly(sides.both().0, sides.both().1),
        }
    }

    /// `(height, width)` after resizing and cropping.
    fn output(&self, resize: Resize, crops: bool) -> Result<(usize, usize), String> {
        let (tall, wide) = match resize {
            Resize::Exactly(tall, wide) => (tall, wide),
            Resize::Shortest(side) if crops => (side, side),
            Resize::Shortest(_) => {
                return Err(
                    "a size by the shorter side alone needs the middle cut out (do_center_crop)".into()
                );
            }
        };
        if !crops {
            return Ok((tall, wide));
        }
        if tall.max(wide) > LARGEST {
            return Err(format!("size {tall}x{wide} is more than {LARGEST}"));
        }
        let (height, width) = self.crop_size.unwrap_or(Sides::One(224)).both();
        if height > tall || width > wide {
            return Err(format!("crop_size {height}x{width} is more than size, {tall}x{wide}"));
        }
        Ok((height, width))
    }
}

/// Of Pillow's numbers.
fn filter(resample: u32) -> Result<Filter, String> {
    match resample {
        1 => Ok(Filter::Lanczos),
        2 => Ok(Filter::Bilinear),
        3 => Ok(Filter::Bicubic),
        other => {
            Err(format!("resample {other} is not supported: only 1 (Lanczos), 2 (bilinear) and 3 (bicubic)"))
        }
    }
}
