//! An engine whose work is a closure of the test.

use latentd::engine::{
    Control, ControlNet, Engine, EngineError, Generated, Image, InitImage, Inputs, IpAdapter, Lora, Observer,
    PendingImages, Prefetch, Step, Timings,
};
use latentd_request::ImageRequest;
use std::sync::Arc;

/// One call of [`Engine::generate`].
pub(crate) struct Call<'a> {
    pub(crate) request: &'a ImageRequest,
    pub(crate) init_image: Option<InitImage>,
    pub(crate) loras: Vec<Lora>,
    pub(crate) controlnet: Option<ControlNet>,
    pub(crate) ip_adapter: Option<IpAdapter>,
    pub(crate) observer: &'a mut dyn Observer,
}

impl Call<'_> {
    /// Takes every step, and generates images of one grey: 128, or the first value of the initial image, if a mask keeps it.
    pub(crate) fn grey(self) -> Result<PendingImages, EngineError> {
        self.grey_after(|| {})
    }

    /// The same with images that are decoded only after `decode` has returned.
    pub(crate) fn grey_after(
        self,
        decode: impl FnOnce() + Send + 'static,
    ) -> Result<PendingImages, EngineError> {
        for index in 1..=self.request.steps {
            if self.observer.step(step(index, self.request.steps)) == Control::Stop {
                return Err(EngineError::Stopped);
            }
        }
        Ok(self.images_after(decode))
    }

    /// The images without the steps.
    pub(crate) fn images_after(self, decode: impl FnOnce() + Send + 'static) -> PendingImages {
        let kept = self.init_image.filter(|image| image.mask.as_ref().is_none_or(|mask| mask.rgb[0] < 128));
        let level = kept.map_or(128, |image| image.image.rgb[0]);
        let images = vec![grey_image(self.request, level); self.request.num_images];
        let mut decode = Some(decode);
        Box::new(move |_| {
            if let Some(decode) = decode.take() {
                decode();
            }
            let images = images.clone();
            Ok(Generated { images, verdicts: Vec::new(), timings: Timings::default() })
        })
    }
}

/// An image of a request's size and of one grey.
pub(crate) fn grey_image(request: &ImageRequest, level: u8) -> Image {
    let ImageRequest { width, height, .. } = *request;
    Image { width, height, rgb: vec![level; width * height * 3] }
}

pub(crate) fn step(index: usize, of: usize) -> Step {
    Step { index, of, sigma: 1.0 / index as f64, seconds: 0.0 }
}

type Generate = dyn FnMut(Call<'_>) -> Result<PendingImages, EngineError> + Send;

/// An engine that does what its closures do.
pub(crate) struct Scripted {
    generate: Box<Generate>,
    prefetch: Option<Prefetch>,
}

impl Scripted {
    /// An engine that calls `generate` for each request, and prefetches nothing.
    pub(crate) fn new(
        generate: impl FnMut(Call<'_>) -> Result<PendingImages, EngineError> + Send + 'static,
    ) -> Self {
        Self { generate: Box::new(generate), prefetch: None }
    }

    /// An engine that generates grey images at once.
    pub(crate) fn grey() -> Self {
        Self::new(|call| call.grey())
    }

    /// The same engine, which calls `prefetch` for the request that comes next.
    pub(crate) fn with_prefetch(self, prefetch: impl Fn(&ImageRequest) + Send + Sync + 'static) -> Self {
        let prefetch = move |request: &ImageRequest| {
            prefetch(request);
            Ok(())
        };
        Self { prefetch: Some(Arc::new(prefetch)), ..self }
    }
}

impl Engine for Scripted {
    fn generate(
        &mut self,
        request: &ImageRequest,
        inputs: Inputs,
        observer: &mut dyn Observer,
    ) -> Result<PendingImages, EngineError> {
        let Inputs { init_image, loras, controlnet, ip_adapter } = inputs;
        (self.generate)(Call { request, init_image, loras, controlnet, ip_adapter, observer })
    }

    fn prefetch(&self) -> Option<Prefetch> {
        self.prefetch.clone()
    }
}
