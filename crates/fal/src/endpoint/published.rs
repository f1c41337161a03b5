//! Where fal has the published models, and what it fills in and allows there.

/// fal's endpoint of a published model.
#[derive(Debug, PartialEq)]
pub struct Published {
    /// The model's name: `stable-diffusion-3.5-large`.
    pub model: &'static str,
    /// The model's name for people.
    pub title: &'static str,
    /// When it was released, in seconds since 1970.
    pub released: i64,
    /// `owner/alias`.
    pub application: &'static str,
    /// Below the application: empty, or `turbo`.
    pub path: &'static str,
    /// Are there endpoints below it that start from an image?
    pub image_to_image: bool,
    /// Denoising steps where none are asked for.
    pub steps: usize,
    /// Most of them.
    pub max_steps: usize,
    /// Guidance scale where none is asked for.
    pub guidance: f64,
    /// Largest of them.
    pub max_guidance: f64,
}

const LARGE: Published = Published {
    model: "stable-diffusion-3.5-large",
    title: "Stable Diffusion 3.5 Large",
    released: 1_729_555_200,
    application: "fal-ai/stable-diffusion-v35-large",
    path: "",
    image_to_image: true,
    steps: 28,
    max_steps: 50,
    guidance: 3.5,
    max_guidance: 20.0,
};

static PUBLISHED: [Published; 3] = [
    LARGE,
    Published {
        model: "stable-diffusion-3.5-large-turbo",
        title: "Stable Diffusion 3.5 Large Turbo",
        path: "turbo",
        steps: 4,
        guidance: 1.0,
        ..LARGE
    },
    Published {
        model: "stable-diffusion-3.5-medium",
        title: "Stable Diffusion 3.5 Medium",
        released: 1_730_160_000,
        application: "fal-ai/stable-diffusion-v35-medium",
        image_to_image: false,
        steps: 40,
        guidance: 4.5,
        ..LARGE
    },
];

impl Published {
    /// Every endpoint of fal that latentd knows.
    pub fn all() -> &'static [Self] {
        &PUBLISHED
    }

    /// The endpoint of the published model of this name.
    pub fn of(model: &str) -> Option<&'static Self> {
        PUBLISHED.iter().find(|endpoint| endpoint.model == model)
    }

    /// Its id: `fal-ai/stable-diffusion-v35-large/turbo`.
    pub fn id(&self) -> String {
        super::join(self.application, self.path)
    }
}
