//! Where fal has the published models, and what it fills in and allows there.

use latentd_models::Manifest;

/// fal's endpoint of a published model.
#[derive(Debug, PartialEq)]
pub struct Published {
    /// The model's name: `stable-diffusion-3.5-large`.
    pub model: &'static str,
    /// `owner/alias`.
    pub application: &'static str,
    /// Below the application: empty, or `turbo`.
    pub path: &'static str,
    /// Is there an endpoint below it that starts from an image?
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
    Published { model: "stable-diffusion-3.5-large-turbo", path: "turbo", steps: 4, guidance: 1.0, ..LARGE },
    Published {
        model: "stable-diffusion-3.5-medium",
        application: "fal-ai/stable-diffusion-v35-medium",
        image_to_image: false,
        steps: 40,
        guidance: 4.5,
        ..LARGE
    },
];

impl Published {
    /// The endpoint of a published model.
    pub fn of(manifest: &Manifest) -> &'static Self {
        let found = PUBLISHED.iter().find(|endpoint| endpoint.model == manifest.name);
        found.expect("every manifest has an endpoint, as a test shows")
    }

    /// Its id: `fal-ai/stable-diffusion-v35-large/turbo`.
    pub fn id(&self) -> String {
        super::join(self.application, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_published_model_has_an_endpoint() {
        let ids: Vec<String> = Manifest::all().iter().map(|manifest| Published::of(manifest).id()).collect();
        assert_eq!(
            ids,
            [
                "fal-ai/stable-diffusion-v35-large",
                "fal-ai/stable-diffusion-v35-large/turbo",
                "fal-ai/stable-diffusion-v35-medium"
            ]
        );
        assert_eq!(Manifest::all().len(), PUBLISHED.len());
    }
}
