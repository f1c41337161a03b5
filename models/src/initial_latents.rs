//! The latents before the first step: noise, or an image with as much noise as the first step takes away; and what a mask
//! keeps of that image.

use crate::config::{ControlNetConfig, VaeConfig};
use crate::files::ModelFiles;
use crate::generate::{GenerateRequest, InitImage};
use crate::inpaint::{KeptRegion, mask_latents};
use crate::noise::Generator;
use crate::resize::{Filter, resize};
use crate::target::Target;
use crate::vae::{Encoder, Posterior};
use crate::weights::Weights;
use crate::{Error, Image, Result, image};
use candle_core::{Device, Tensor};

/// Makes what the loop starts from.
pub(crate) struct InitialLatents {
    /// What images need; not every VAE has one.
    encoder: Option<Encoder>,
    channels: usize,
    factor: usize,
    target: Target,
}

/// What a loop starts from.
pub(crate) struct Start {
    /// `[N, C, h, w]` f32.
    pub(crate) latents: Tensor,
    /// What a mask keeps, if there is one.
    pub(crate) kept: Option<KeptRegion>,
}

impl InitialLatents {
    pub(crate) fn load(
        files: &ModelFiles,
        config: &VaeConfig,
        target: &Target,
        problems: &mut Vec<String>,
    ) -> Result<Self> {
        let weights = Weights::open(files, "vae", "diffusion_pytorch_model", target)?;
        let encoder = Encoder::load(&weights, config)?;
        problems.extend(weights.problems());
        Ok(Self {
            encoder,
            channels: config.latent_channels,
            factor: config.factor(),
            target: target.clone(),
        })
    }

    /// The shape of the latents of a request, `[N, C, h, w]`.
    pub(crate) fn shape(&self, images: usize, canvas: (usize, usize)) -> [usize; 4] {
        [images, self.channels, canvas.1 / self.factor, canvas.0 / self.factor]
    }

    /// F32 whatever the precision. Torch's CPU generator draws for the encoding of an image first, then
    /// once for all images to generate (diffusers `StableDiffusion3Img2ImgPipeline.prepare_latents`).
    pub(crate) fn sample(
        &self,
        request: &GenerateRequest,
        canvas: (usize, usize),
        sigma: f32,
    ) -> Result<Start> {
        let mut generator = Generator::new(request.seed);
        let mut draw = |images: usize| {
            let shape = self.shape(images, canvas);
            let values = generator.normal(shape.iter().product());
            Tensor::from_vec(values, &shape, &self.target.device)
        };
        let (skipped, count) = (request.skipped_images, request.num_images);
        let generated = |noise: Tensor| noise.narrow(0, skipped, count)?.contiguous();
        let Some(init_image) = &request.init_image else {
            return Ok(Start { latents: generated(draw(skipped + count)?)?, kept: None });
        };
        let image = self.encode(request, init_image, canvas, &draw(1)?)?;
        let (noise, sigma) = (generated(draw(skipped + count)?)?, f64::from(sigma));
        let latents = (&noise * sigma)?.broadcast_add(&(&image * (1.0 - sigma))?)?;
        let size = (request.width, request.height);
        let mask = |mask| mask_latents(mask, size, canvas, self.factor, &self.target.device);
        let mask = init_image.mask.as_ref().map(mask).transpose()?;
        Ok(Start { latents, kept: mask.map(|mask| KeptRegion { image, noise, mask }) })
    }

    /// `[1, C, h, w]` f32.
    fn encode(
        &self,
        request: &GenerateRequest,
        init_image: &InitImage,
        canvas: (usize, usize),
        noise: &Tensor,
    ) -> Result<Tensor> {
        let (encoder, posterior) = self.posterior(request, &init_image.image, canvas, image::to_pixels)?;
        Ok(encoder.normalise(&posterior.sample(noise)?, true)?)
    }

    /// Samples of a control image's latents, `[B, C, h, w]` f32: one an image for each of `branches`, the rows of a branch
    /// together, with the pixels and the VAE's shift as the ControlNet was trained.
    ///
    /// diffusers draws them from torch's global generator (pipeline_stable_diffusion_3_controlnet.py:1077). Here it is one
    /// with the request's seed, from which each image draws for its branches in turn: the same numbers as there for one
    /// image, and for the third of four images the same whether it is generated with the others or alone.
    pub(crate) fn control(
        &self,
        request: &GenerateRequest,
        image: &Image,
        canvas: (usize, usize),
        (branches, config): (usize, &ControlNetConfig),
    ) -> Result<Tensor> {
        let pixels = if config.has_canny_pixels { image::to_canny_pixels } else { image::to_pixels };
        let (encoder, posterior) = self.posterior(request, image, canvas, pixels)?;
        let mut generator = Generator::new(request.seed);
        let shape = self.shape(branches, canvas);
        let mut drawn = Vec::with_capacity(request.num_images);
        for index in 0..request.skipped_images + request.num_images {
            let values = generator.normal(shape.iter().product());
            if index >= request.skipped_images {
                drawn.push(Tensor::from_vec(values, &shape, &self.target.device)?);
            }
        }
        let branch = |branch: usize| drawn.iter().map(move |image| image.narrow(0, branch, 1));
        let rows = (0..branches).flat_map(branch).collect::<candle_core::Result<Vec<_>>>()?;
        let is_shifted = !config.force_zeros_for_pooled_projection;
        Ok(encoder.normalise(&posterior.sample(&Tensor::cat(&rows, 0)?)?, is_shifted)?)
    }

    fn posterior(
        &self,
        request: &GenerateRequest,
        image: &Image,
        (width, height): (usize, usize),
        to_pixels: fn(&Image, &Device) -> Result<Tensor>,
    ) -> Result<(&Encoder, Posterior)> {
        let Some(encoder) = &self.encoder else {
            return Err(Error::Request("this model cannot read an image: its VAE has no encoder".into()));
        };
        let image = resize(image, request.width, request.height, Filter::Lanczos);
        let pixels = to_pixels(&image.on_canvas(width, height), &self.target.device)?;
        Ok((encoder, encoder.encode(&pixels.to_dtype(self.target.dtype)?)?))
    }
}
