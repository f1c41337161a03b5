//! The model inside the executable: `models/mini/`, in the same layout as any directory.

use crate::Result;
use crate::files::ModelFiles;

#[cfg(feature = "mini")]
macro_rules! embedded {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_bytes!(concat!("../mini/", $path)).as_slice())),*]
    };
}

/// Every file of `models/mini/` that loading reads.
#[cfg(feature = "mini")]
static MINI: &[(&str, &[u8])] = embedded![
    "model_index.json",
    "safety_checker/config.json",
    "safety_checker/model.safetensors",
    "safety_checker/preprocessor_config.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "text_encoder_2/config.json",
    "text_encoder_2/model.safetensors",
    "text_encoder_3/config.json",
    "text_encoder_3/model.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "tokenizer_2/merges.txt",
    "tokenizer_2/tokenizer_config.json",
    "tokenizer_2/vocab.json",
    "tokenizer_3/tokenizer.json",
    "tokenizer_3/tokenizer_config.json",
    "transformer/config.json",
    "transformer/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
    "vocabulary.json",
];

/// The files as a model directory.
///
/// # Errors
/// This build has none.
#[cfg(feature = "mini")]
pub(crate) fn files() -> Result<ModelFiles> {
    Ok(ModelFiles::Embedded(MINI))
}

#[cfg(not(feature = "mini"))]
pub(crate) fn files() -> Result<ModelFiles> {
    Err(crate::Error::Model(
        "this executable has no built-in model: name a directory, or build it with the feature `mini`".into(),
    ))
}
