//! What goes into a pipeline and what comes out: plain data, no tensors.

use crate::{Image, SafetyVerdict, Skipped};
use std::path::{Path, PathBuf};

/// One request: `num_images` images of one prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateRequest {
    /// What to generate.
    pub prompt: String,
    /// What to avoid; empty is the usual unconditional branch.
    pub negative_prompt: String,
    /// Pixels, at most [`crate::ModelCard::max_side`]; see [`crate::ModelCard::canvas`].
    pub width: usize,
    /// Pixels, at most [`crate::ModelCard::max_side`]; see [`crate::ModelCard::canvas`].
    pub height: usize,
    /// Denoising steps, at least 1.
    pub steps: usize,
    /// Classifier-free guidance scale; at 1 or below only the prompt's branch runs.
    pub guidance: f64,
    /// torch's CPU generator seed, of which the low 32 bits count.
    pub seed: i64,
    /// Images from one generator, one after the other.
    pub num_images: usize,
    /// Images of the generator that come before them and are left out: 2 and one image is the third of three.
    pub skipped_images: usize,
    /// T5 tokens the prompt is padded or cut to (diffusers' `max_sequence_length`): 1..=512.
    pub t5_tokens: usize,
    /// Whether a safety checker, if one is loaded, checks the images.
    pub check_safety: bool,
    /// What to start from instead of noise alone.
    pub init_image: Option<InitImage>,
    /// LoRA adapters that change the model for this request, summed.
    pub loras: Vec<Lora>,
    /// A further branch of the prompt that leaves out some blocks, which the images are led away from.
    pub skip_layers: Option<SkipLayerGuidance>,
    /// What the images shall have the outlines, depths or the like of.
    pub controlnet: Option<ControlNet>,
    /// What the images shall have content and style of.
    pub ip_adapter: Option<IpAdapter>,
}

/// An IP-Adapter with its image prompt (diffusers `SD3IPAdapterMixin`).
#[derive(Debug, Clone, PartialEq)]
pub struct IpAdapter {
    /// What messages call it.
    pub name: String,
    /// A safetensors file, or a folder with `ip-adapter.safetensors`. It is untrusted.
    pub path: PathBuf,
    /// What makes features of the image.
    pub encoder: ImageEncoderFiles,
    /// The image prompt, of any size.
    pub image: Image,
    /// What its attentions' outputs are multiplied by (`set_ip_adapter_scale`), at least 0, which leaves it out.
    pub scale: f64,
}

/// Where an image encoder is: a SigLIP of transformers.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageEncoderFiles {
    /// What messages call it.
    pub name: String,
    /// A folder with `model.safetensors`, or a safetensors file. It is untrusted.
    pub path: PathBuf,
    /// Its config; `None`: `config.json` with the weights.
    pub config: Option<PathBuf>,
    /// What is done to images; `None`: `preprocessor_config.json` with the weights.
    pub processor: Option<PathBuf>,
}

impl ImageEncoderFiles {
    /// The one in the folder of an IP-Adapter (diffusers' `image_encoder_folder`).
    pub fn inside(name: &str, adapter: &Path) -> Self {
        Self { name: name.to_owned(), path: adapter.join("image_encoder"), config: None, processor: None }
    }
}

/// A ControlNet with its control image (diffusers `StableDiffusion3ControlNetPipeline`).
#[derive(Debug, Clone, PartialEq)]
pub struct ControlNet {
    /// What messages call it.
    pub name: String,
    /// A directory with `config.json` and `diffusion_pytorch_model.safetensors` (diffusers `SD3ControlNetModel`), or a
    /// safetensors file, also in Stability's original layout. It is untrusted.
    pub path: PathBuf,
    /// The config of a file; `None`: `config.json` beside it, or what its tensors say.
    pub config: Option<PathBuf>,
    /// Edges, depths or whatever the ControlNet was trained for. Resized to the request's size.
    pub image: Image,
    /// What its residuals are multiplied by (`controlnet_conditioning_scale`); 0 leaves it out.
    pub scale: f64,
    /// Of the steps, the share after which it begins (`control_guidance_start`).
    pub start: f64,
    /// Of the steps, the share after which it ends (`control_guidance_end`).
    pub end: f64,
}

impl ControlNet {
    /// Whether it takes part in step `index` of `steps` (pipeline_stable_diffusion_3_controlnet.py:1130-1136).
    pub(crate) fn applies(&self, index: usize, steps: usize) -> bool {
        let (index, steps) = (index as f64, steps as f64);
        self.scale != 0.0 && index / steps >= self.start && (index + 1.0) / steps <= self.end
    }
}

/// Skip-layer guidance (diffusers `StableDiffusion3Pipeline`, pipeline_stable_diffusion_3.py:1082-1109): at some steps the
/// velocity gets `scale * (prompt - prompt without the layers)` in addition. Needs classifier-free guidance.
#[derive(Debug, Clone, PartialEq)]
pub struct SkipLayerGuidance {
    /// Transformer blocks that the branch leaves out, from 0; at least one.
    pub layers: Vec<usize>,
    /// What the difference is multiplied by; Stability recommends 2.8.
    pub scale: f64,
    /// Of the steps, the share after which it begins.
    pub start: f64,
    /// Of the steps, the share before which it ends.
    pub stop: f64,
}

impl SkipLayerGuidance {
    /// Whether it is applied in step `index` of `steps`.
    pub(crate) fn applies(&self, index: usize, steps: usize) -> bool {
        let (index, steps) = (index as f64, steps as f64);
        index > steps * self.start && index < steps * self.stop
    }
}

/// A LoRA adapter: low-rank products that are added to linear layers.
#[derive(Debug, Clone, PartialEq)]
pub struct Lora {
    /// What messages call it.
    pub name: String,
    /// A safetensors file with the keys of diffusers, kohya or Comfy. It is untrusted.
    pub path: PathBuf,
    /// What its products are multiplied by, in addition to its own alpha / rank; 0 leaves it out.
    pub scale: f64,
}

/// The image that a request starts from (diffusers `StableDiffusion3Img2ImgPipeline`).
#[derive(Debug, Clone, PartialEq)]
pub struct InitImage {
    /// Resized to the request's size.
    pub image: Image,
    /// The share of the steps that are taken, above 0 up to 1: how little of the image is kept.
    pub strength: f64,
    /// White, from the middle grey up, where the image is generated anew; the rest is kept (diffusers
    /// `StableDiffusion3InpaintPipeline`). Resized to the request's size. Without one no place is kept.
    pub mask: Option<Image>,
}

impl GenerateRequest {
    /// Whether an unconditional branch runs (diffusers `do_classifier_free_guidance`).
    pub(crate) fn is_guided(&self) -> bool {
        self.guidance > 1.0
    }
}

/// One denoising step that has just ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// 1-based.
    pub index: usize,
    /// Steps in all.
    pub of: usize,
    /// Noise level the step started from, 1 (pure noise) to 0.
    pub sigma: f64,
    /// How long the step took.
    pub seconds: f64,
}

/// Observes a request on the thread that generates it. A closure that takes steps is one.
pub trait Observer {
    /// Called when the prompts are encoded.
    fn encoded(&mut self) {}

    /// Called after every step.
    fn step(&mut self, step: Step) -> Control;

    /// Called with what the user should know of the request: that a prompt is cut, that the size is beyond what the model was
    /// trained for, or that the device ran out of memory and what was done about it.
    fn note(&mut self, words: &str) {
        let _ = words;
    }

    /// Whether previews are wanted now. Asked whenever one may be made; none is made otherwise.
    fn wants_preview(&mut self) -> bool {
        false
    }

    /// Gets a small preview of the first image.
    fn preview(&mut self, image: Image) {
        drop(image);
    }

    /// The state that an interrupted attempt at the same request left, if any: asked for once, before the first step.
    fn saved_state(&mut self) -> Option<Vec<u8>> {
        None
    }

    /// Whether the state of the loop is wanted now. Asked after every step but the last.
    fn wants_state(&mut self) -> bool {
        false
    }

    /// Gets the state of the loop after so many steps, opaque: [`Self::saved_state`] gives it back to another attempt.
    fn state(&mut self, steps: usize, bytes: Vec<u8>) {
        drop((steps, bytes));
    }
}

impl<F: FnMut(Step) -> Control> Observer for F {
    fn step(&mut self, step: Step) -> Control {
        self(step)
    }
}

/// What an observer wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Go on.
    Continue,
    /// End the request with [`crate::Error::Stopped`].
    Stop,
}

/// Where the time went: seconds spent in each stage.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Timings {
    /// Tokenising and the text encoders.
    pub text: f64,
    /// The denoising loop.
    pub denoise: f64,
    /// VAE decoding and conversion to 8 bits.
    pub decode: f64,
    /// The safety checker.
    pub safety: f64,
    /// Of the prompt and the negative one, how many were encoded before.
    pub known_prompts: usize,
    /// What shortcuts left out of the loop.
    pub skipped: Skipped,
}

/// What a request produced.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// `num_images` images, the unsafe ones black.
    pub images: Vec<Image>,
    /// The safety checker's result for each; empty if there was none.
    pub verdicts: Vec<SafetyVerdict>,
    /// Where the time went.
    pub timings: Timings,
}

impl Generated {
    /// For each image: was it found unsafe?
    pub fn flagged(&self) -> Vec<bool> {
        let flagged = |index| self.verdicts.get(index).is_some_and(|verdict: &SafetyVerdict| verdict.flagged);
        (0..self.images.len()).map(flagged).collect()
    }
}
