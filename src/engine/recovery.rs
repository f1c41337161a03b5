//! What follows when the device runs out of memory: everything that the request does not need is freed, and what failed is
//! tried once more. What was done by then is not repeated: steps go on from the last saved state, and latents are decoded
//! in tiles.

use super::{Decoding, Engine, EngineError, Generated, Inputs, Observer, PendingImages};
use latentd_request::ImageRequest;
use latentd_trace::Span;

/// Generates, on engines that decode one request beside the steps of the next up to the latents, and to the images on
/// all others. Decoding is a child of `span`.
///
/// # Errors
/// See [`EngineError`]; [`EngineError::OutOfMemory`] when memory ran out twice.
pub fn generate(
    engine: &mut dyn Engine,
    request: &ImageRequest,
    inputs: Inputs,
    observer: &mut dyn Observer,
    span: &Span,
) -> Result<PendingImages, EngineError> {
    let pending = match engine.generate(request, inputs.clone(), observer) {
        Err(EngineError::OutOfMemory(why)) => {
            observer.note("the device ran out of memory: trying once more, with everything else freed");
            free(engine, request, &why)?;
            engine.generate(request, inputs, observer).map_err(second)?
        }
        generated => generated?,
    };
    let mut pending = traced(pending, span.clone());
    if engine.stages_overlap() {
        return Ok(pending);
    }
    match pending(Decoding::Whole) {
        Err(EngineError::OutOfMemory(why)) => {
            observer.note(DECODING_IN_TILES);
            decode_in_tiles(engine, request, pending, &why)
        }
        decoded => Ok(decoded_images(decoded?)),
    }
}

/// The same with a span each time that images are decoded.
fn traced(mut pending: PendingImages, span: Span) -> PendingImages {
    Box::new(move |decoding| {
        let _span = span.child("decode");
        pending(decoding)
    })
}

/// What a request's log says of it.
pub const DECODING_IN_TILES: &str =
    "the device ran out of memory while decoding: decoding once more in tiles, with everything else freed";

/// Decodes latents in tiles after everything else was freed, on the thread that runs the engine; `why` decoding them as a
/// whole failed.
///
/// # Errors
/// See [`EngineError`]; [`EngineError::OutOfMemory`] when memory ran out again.
pub fn decode_in_tiles(
    engine: &mut dyn Engine,
    request: &ImageRequest,
    mut pending: PendingImages,
    why: &str,
) -> Result<PendingImages, EngineError> {
    free(engine, request, why)?;
    pending(Decoding::Tiled).map(decoded_images).map_err(second)
}

fn free(engine: &mut dyn Engine, request: &ImageRequest, why: &str) -> Result<(), EngineError> {
    tracing::warn!("{why}: freeing everything that the request does not need");
    engine.free_memory(request)
}

/// Images that are decoded.
fn decoded_images(generated: Generated) -> PendingImages {
    let mut generated = Some(generated);
    Box::new(move |_| {
        generated.take().ok_or_else(|| EngineError::Fault("the images were taken already".into()))
    })
}

/// The error of the second try.
fn second(error: EngineError) -> EngineError {
    match error {
        EngineError::OutOfMemory(why) => EngineError::OutOfMemory(format!("{why} (it was tried twice)")),
        other => other,
    }
}
