//! The latents before the first step: noise, or a picture with as much noise as the first step takes away.

use crate::config::VaeConfig;
use crate::files::ModelFiles;
use crate::generate::{Begin, GenerateRequest};
use crate::noise::Generator;
use crate::resize::{Filter, resize};
use crate::target::Target;
use crate::vae::Encoder;
use crate::weights::Weights;
use crate::{Error, Result, picture};
use candle_core::Tensor;

/// Makes what the loop starts from.
pub(crate) struct Start {
    /// What pictures need; not every VAE has one.
    encoder: Option<Encoder>,
    channels: usize,
    factor: usize,
    target: Target,
}

impl Start {
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

    /// `[N, C, h, w]` f32 whatever the precision. Torch's CPU generator draws for the encoding of a picture first, then
    /// once for all pictures to paint (diffusers `StableDiffusion3Img2ImgPipeline.prepare_latents`).
    pub(crate) fn latents(
        &self,
        request: &GenerateRequest,
        canvas: (usize, usize),
        sigma: f32,
    ) -> Result<Tensor> {
        let mut generator = Generator::new(request.seed);
        let mut draw = |pictures: usize| {
            let shape = [pictures, self.channels, canvas.1 / self.factor, canvas.0 / self.factor];
            let values = generator.normal(shape.iter().product());
            Tensor::from_vec(values, &shape, &self.target.device)
        };
        let Some(begin) = &request.begin else { return Ok(draw(request.num_images)?) };
        let picture = self.encode(request, begin, canvas, &draw(1)?)?;
        let (noise, sigma) = (draw(request.num_images)?, f64::from(sigma));
        Ok((noise * sigma)?.broadcast_add(&(picture * (1.0 - sigma))?)?)
    }

    /// `[1, C, h, w]` f32.
    fn encode(
        &self,
        request: &GenerateRequest,
        begin: &Begin,
        (width, height): (usize, usize),
        noise: &Tensor,
    ) -> Result<Tensor> {
        let Some(encoder) = &self.encoder else {
            return Err(Error::Request(
                "this model cannot begin from a picture: its VAE has no encoder".into(),
            ));
        };
        let picture = resize(&begin.picture, request.width, request.height, Filter::Lanczos);
        let pixels = picture::to_pixels(&picture.on_canvas(width, height), &self.target.device)?;
        let posterior = encoder.encode(&pixels.to_dtype(self.target.dtype)?)?;
        Ok(encoder.normalise(&posterior.sample(noise)?)?)
    }
}
