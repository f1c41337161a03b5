//! Wire names that responses share with what reads requests.

/// The header of an idempotency key.
pub(crate) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The field of the initial image.
pub(crate) const IMAGE_URL: &str = "image_url";
