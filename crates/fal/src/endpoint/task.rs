//! What an endpoint generates images from.

/// The input that a request generates images from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    TextToImage,
    ImageToImage,
}

impl Task {
    /// What fal calls such endpoints.
    pub(crate) fn category(self) -> &'static str {
        match self {
            Self::TextToImage => "text-to-image",
            Self::ImageToImage => "image-to-image",
        }
    }
}
