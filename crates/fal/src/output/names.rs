//! Wire names that requests and responses share.

/// The header of an idempotency key.
pub(crate) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The field of the initial image.
pub(crate) const IMAGE_URL: &str = "image_url";

/// The field of the mask.
pub(crate) const MASK_URL: &str = "mask_image_url";
