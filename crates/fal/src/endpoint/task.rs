//! What an endpoint generates images from.

/// The input that a request generates images from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    TextToImage,
    ImageToImage,
    /// An image, of which a mask says what to generate anew.
    Inpaint,
}

impl Task {
    /// Every task; an endpoint that starts from no image has the first alone.
    pub(crate) const ALL: [Self; 3] = [Self::TextToImage, Self::ImageToImage, Self::Inpaint];

    /// What the id of its endpoint ends in, below that of the model.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::TextToImage => "",
            Self::ImageToImage => "image-to-image",
            Self::Inpaint => "inpaint",
        }
    }

    /// Does a request bring an image?
    pub(crate) fn has_image(self) -> bool {
        self != Self::TextToImage
    }

    /// What fal calls such endpoints.
    pub(crate) fn category(self) -> &'static str {
        match self {
            Self::TextToImage => "text-to-image",
            Self::ImageToImage | Self::Inpaint => "image-to-image",
        }
    }
}
