//! What a model needs in memory, known before a tensor of it is read: from its config files and its files' headers.

mod activations;
mod weights;

use crate::config::Configs;
use crate::load_options::Streamed;
use crate::lora;
use crate::target::Target;
use crate::weight_file::TensorHeader;
use crate::weights::Weights;
use crate::{Device, LoadOptions, MemoryMode, ModelSource, Result, SafetyOptions};
pub use activations::Activations;
use activations::Estimator;
use weights::LoadedFormat;

/// What is going to be generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// Images of a request.
    pub images: usize,
    /// Prompt tokens that T5 reads.
    pub t5_tokens: usize,
    /// Whether there is a negative branch in addition to the prompt's.
    pub guided: bool,
    /// Denoising steps.
    pub steps: usize,
    /// Whether requests may start from an image.
    pub init_image: bool,
    /// Whether requests may bring LoRA adapters.
    pub adapters: bool,
    /// Whether requests may have skip-layer guidance.
    pub skip_layers: bool,
    /// Values of all tensors of the largest ControlNet that requests may have; 0 without ([`crate::check_controlnet`]).
    pub controlnet: u64,
    /// Values of all tensors of the largest IP-Adapter with its image encoder that requests may have; 0 without
    /// ([`crate::check_ip_adapter`]).
    pub ip_adapter: u64,
}

impl Default for Work {
    /// One guided image of 1024x1024 in 28 steps, which may start from another, without adapters, skip-layer guidance, a
    /// ControlNet and an IP-Adapter.
    fn default() -> Self {
        Self {
            width: 1024,
            height: 1024,
            images: 1,
            t5_tokens: 256,
            guided: true,
            steps: 28,
            init_image: true,
            adapters: false,
            skip_layers: false,
            controlnet: 0,
            ip_adapter: 0,
        }
    }
}

/// One part of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedPart {
    /// Its folder: `transformer`, `text_encoder_3`.
    pub name: &'static str,
    /// Values of all its tensors.
    pub parameters: u64,
    /// Bytes of them, loaded.
    pub bytes: u64,
}

/// What a model needs on its device, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which they are loaded.
    pub parts: Vec<PlannedPart>,
    /// The most that is held in addition to the weights while they are loaded.
    pub loading: u64,
    /// Memory that generating takes in addition to the weights, stage by stage.
    pub activations: Activations,
    /// The most that the LoRA adapters of requests take; 0 without them.
    pub adapters: u64,
    /// A ControlNet and what its blocks add; 0 without.
    pub controlnet: u64,
    /// An IP-Adapter with its image encoder, and what its attentions compute; 0 without.
    pub ip_adapter: u64,
    /// What a process takes on the device before it does anything, and what it keeps from request to request.
    pub process: u64,
    /// Whether stages work at the same time.
    overlapping: bool,
}

/// Folders of weights and the stem of their files.
const PARTS: [(&str, &str); 5] = [
    ("text_encoder", "model"),
    ("text_encoder_2", "model"),
    (T5, "model"),
    (TRANSFORMER, "diffusion_pytorch_model"),
    ("vae", "diffusion_pytorch_model"),
];

const T5: &str = "text_encoder_3";

const TRANSFORMER: &str = "transformer";

/// What their names begin with.
const TEXT_ENCODERS: &str = "text_encoder";

/// What lies in host memory on its way from a file to a tensor (`weights/read.rs`).
const STAGED: u64 = 64 << 20;

/// The program itself (30 MB measured), the encoded prompts that are kept (`prompts.rs`: 64 MiB), and files being written.
const HOST_PROCESS: u64 = 128 << 20;

/// A context of the driver with this program's kernels, the workspaces of cuBLASLt for each stage's stream and the second
/// one of the loop (64 MiB each), and the encoders' outputs.
/// An assumption: no card was at hand to measure it.
const CUDA_PROCESS: u64 = 1 << 30;

impl Plan {
    /// Plans a model as `options` would load it, without a safety checker.
    ///
    /// # Errors
    /// A config file or a header cannot be read.
    pub fn of(source: &ModelSource, options: &LoadOptions, work: &Work) -> Result<Self> {
        let files = source.files()?;
        let configs = Configs::read(&files)?;
        let on_host = options.device == Device::Cpu;
        let estimator = Estimator::new(options.dtype, options.device);
        let (vae, factor) = (&configs.vae, configs.vae.factor());
        let element = LoadedFormat::new(options.dtype, options.device).element;
        // Of a value of the networks that are added to the transformer.
        let kept = if options.memory == MemoryMode::Stream { 0 } else { element };
        let mut plan = Self {
            parts: Vec::new(),
            loading: 0,
            activations: Activations {
                text: 0,
                init_image: if work.init_image { estimator.init_image(vae, work) } else { 0 },
                denoise: estimator.denoise(&configs.transformer, factor, work),
                decode: estimator.decode(vae, work),
                decode_in_tiles: estimator.decode_in_tiles(vae, work),
            },
            adapters: 0,
            controlnet: controlnet(&configs, work, (element, kept)),
            ip_adapter: match work.ip_adapter {
                0 => 0,
                values => kept * values + estimator.image_attention(&configs.transformer, factor, work),
            },
            process: if on_host { HOST_PROCESS } else { CUDA_PROCESS },
            overlapping: !on_host,
        };
        for (name, stem) in PARTS {
            if name == T5 && !(options.t5 && configs.index.has_t5()) {
                continue;
            }
            let tensors = needed(Weights::open(&files, name, stem, &Target::host())?.stored());
            let format = LoadedFormat::new(options.dtype, options.device).streaming(match name {
                TRANSFORMER => options.memory.of_transformer(),
                _ if name.starts_with(TEXT_ENCODERS) => options.memory.of_text(),
                _ => Streamed::Nothing,
            });
            plan.add(name, &tensors, format);
            if work.adapters && name == TRANSFORMER {
                let limit = lora::limit(tensors.iter().map(TensorHeader::elements).sum(), format.element);
                // Those that layers read: of the transformer and of the encoders. On the processor those that are kept too.
                plan.adapters = if on_host { 3 * limit } else { 2 * limit };
            }
            let product = tensors.iter().map(|tensor| format.product(tensor)).max().unwrap_or_default();
            if name.starts_with(TEXT_ENCODERS) {
                let tokens = if name == T5 { work.t5_tokens as u64 } else { activations::CLIP_TOKENS };
                let text = estimator.text(&tensors, tokens) + product;
                plan.activations.text = plan.activations.text.max(text);
            }
            if name == TRANSFORMER {
                plan.activations.denoise += product;
            }
        }
        Ok(plan)
    }

    /// Adds the safety checker that `options` name, if there is one. It is in f32 whatever the model is in.
    ///
    /// # Errors
    /// Its files cannot be read.
    pub fn add_safety(&mut self, source: &ModelSource, options: &SafetyOptions) -> Result<()> {
        if let Some(tensors) = options.stored(source)? {
            self.add("safety_checker", &tensors, LoadedFormat::F32);
        }
        Ok(())
    }

    fn add(&mut self, name: &'static str, tensors: &[TensorHeader], format: LoadedFormat) {
        let parameters = tensors.iter().map(TensorHeader::elements).sum();
        let bytes = tensors.iter().map(|tensor| format.bytes(tensor)).sum();
        self.parts.push(PlannedPart { name, parameters, bytes });
        let loading = tensors.iter().map(|tensor| STAGED + format.loading(tensor)).max();
        self.loading = self.loading.max(loading.unwrap_or_default());
    }

    /// Bytes of all weights.
    pub fn weights(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// Bytes of T5, which a model can do without; 0 if it does.
    pub fn t5(&self) -> u64 {
        self.parts.iter().find(|part| part.name == T5).map_or(0, |part| part.bytes)
    }

    /// Bytes that generating takes in addition to the weights. On a GPU the stages of two requests overlap and its pools keep what
    /// is freed; on the processor one stage follows the other.
    pub fn generating(&self) -> u64 {
        let Activations { text, init_image, denoise, decode, decode_in_tiles: _ } = self.activations;
        self.adapters
            + self.controlnet
            + self.ip_adapter
            + if self.overlapping {
                text + init_image + denoise + decode
            } else {
                text.max(init_image).max(denoise).max(decode)
            }
    }

    /// The most bytes that are held at any time.
    pub fn peak(&self) -> u64 {
        self.process + self.weights() + self.loading.max(self.generating())
    }

    /// The same plan where images are decoded in tiles. Less can be generated in than that.
    #[must_use]
    pub fn in_tiles(&self) -> Self {
        let Activations { decode, decode_in_tiles, .. } = self.activations;
        let activations = Activations { decode: decode.min(decode_in_tiles), ..self.activations };
        Self { activations, ..self.clone() }
    }

    /// Whether so many bytes are enough.
    pub fn fits(&self, available: u64) -> bool {
        self.peak() <= available
    }
}

/// Bytes of a ControlNet, of which each value takes `kept`, and of what its blocks add, which stays until the transformer has
/// read it. A block has at least 19 squares of its width: 6 of adaLN, 4 of attention, 8 of the MLP and the output's.
fn controlnet(configs: &Configs, work: &Work, (element, kept): (u64, u64)) -> u64 {
    let (width, factor) = (configs.transformer.width() as u64, configs.vae.factor());
    let tokens = configs.transformer.tokens(work.height / factor, work.width / factor) as u64;
    let rows = work.images as u64 * if work.guided { 2 } else { 1 };
    let blocks = work.controlnet / (19 * width * width);
    kept * work.controlnet + element * blocks * rows * tokens * width
}

/// Leaves out what loading leaves out: positions that are counted, not learned, and the second name of T5's table.
fn needed(mut tensors: Vec<TensorHeader>) -> Vec<TensorHeader> {
    let has_shared = tensors.iter().any(|tensor| tensor.name == "shared.weight");
    tensors.retain(|tensor| {
        let is_twice = has_shared && tensor.name == "encoder.embed_tokens.weight";
        !is_twice && !tensor.name.ends_with("position_ids")
    });
    tensors
}

#[cfg(test)]
mod tests;
