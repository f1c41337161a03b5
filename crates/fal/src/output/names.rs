//! Wire names that requests and responses share.

/// The header of an idempotency key.
pub(crate) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The field of the initial image, and in `ip_adapter` of the image prompt.
pub(crate) const IMAGE_URL: &str = "image_url";

/// The field of the mask, in `ip_adapter` too.
pub(crate) const MASK_URL: &str = "mask_image_url";

/// The field of LoRA adapters.
pub(crate) const LORAS: &str = "loras";

/// The field of the ControlNet, and in it that of the control image.
pub(crate) const CONTROLNET: &str = "controlnet";
pub(crate) const CONTROL_IMAGE: &str = "control_image_url";

/// The field of the IP-Adapter, and in it that of the image encoder.
pub(crate) const IP_ADAPTER: &str = "ip_adapter";
pub(crate) const IMAGE_ENCODER: &str = "image_encoder_path";

/// The field of the file in an item of `loras`, in `controlnet` and in `ip_adapter`.
pub(crate) const ADAPTER_PATH: &str = "path";
