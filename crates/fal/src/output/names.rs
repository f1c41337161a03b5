//! Wire names that requests and responses share.

/// The header of an idempotency key.
pub(crate) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The field of the initial image.
pub(crate) const IMAGE_URL: &str = "image_url";

/// The field of the mask.
pub(crate) const MASK_URL: &str = "mask_image_url";
/// The field of LoRA adapters, and in an item of its list the field of the file.
pub(crate) const LORAS: &str = "loras";
pub(crate) const LORA_PATH: &str = "path";
