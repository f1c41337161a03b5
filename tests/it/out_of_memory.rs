//! A device that runs out of memory: what failed is tried once more, what was done is not repeated, and a request that still
//! does not fit fails alone. The real pipeline on the CPU, where allocations fail as the test plants them, and scripted
//! engines for what a device with several models does.

use crate::support::engine::step;
use crate::support::{
    ENDPOINT, RunningWorker, Scripted, Server, messages, small_with, steps_of_attempt, tick_until_idle,
    within,
};
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use latentd::engine::{
    Control, Engine, EngineError, Generated, Inputs, ModelPool, ModelSlot, Observer, PendingImages, Sd3Engine,
};
use latentd_models::{Allocation, DType, Decoding, Device, LoadOptions, ModelSource, Pipeline};
use latentd_request::ImageRequest;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const MEDIUM: &str = "fal-ai/stable-diffusion-v35-medium";

const STEPS: usize = 4;

/// How far an image from tiles may be from the one that is decoded as a whole, of 255 levels on average. Each tile has norms
/// of its own: in diffusers the same VAE is off by 3.8 to 4.6 in images of this size, and ours equals it (`vae/tiles`).
const TILED: f64 = 8.0;

/// Decoded in nine tiles.
fn input() -> Value {
    json!({ "prompt": "a red house by a lake", "image_size": { "width": 512, "height": 512 }, "seed": 5,
        "num_inference_steps": STEPS, "output_format": "png", "sync_mode": true })
}

fn pipeline(failures: &[Allocation]) -> Pipeline {
    let options = LoadOptions::new(Device::Cpu, DType::F32);
    let pipeline = Pipeline::load(&ModelSource::Builtin, &options).expect("the built-in model");
    pipeline.plant(failures);
    pipeline
}

/// The built-in model as on a device whose stages overlap, or as on the processor.
struct OnDevice {
    engine: Sd3Engine,
    overlap: bool,
}

impl OnDevice {
    fn new(overlap: bool, failures: &[Allocation]) -> Self {
        Self { engine: Sd3Engine::new(pipeline(failures), 64), overlap }
    }
}

impl Engine for OnDevice {
    fn generate(
        &mut self,
        request: &ImageRequest,
        inputs: Inputs,
        observer: &mut dyn Observer,
    ) -> Result<PendingImages, EngineError> {
        self.engine.generate(request, inputs, observer)
    }

    fn stages_overlap(&self) -> bool {
        self.overlap
    }

    fn free_memory(&mut self, request: &ImageRequest) -> Result<(), EngineError> {
        self.engine.free_memory(request)
    }
}

/// The image of a request that ended well.
async fn image(server: &Server, request: &str) -> Vec<u8> {
    let output = server.get(request).await.json();
    let url = output["images"][0]["url"].as_str().expect("a data URL");
    let (_, base64) = url.split_once("base64,").expect("base64");
    let png = STANDARD.decode(base64).expect("bytes");
    image::load_from_memory(&png).expect("an image").to_rgb8().into_raw()
}

/// Generates two requests, the second undisturbed; returns their ids.
async fn twice(server: &Server, overlap: bool, failures: &[Allocation]) -> [String; 2] {
    let requests = [server.submit(&input()).await, server.submit(&input()).await];
    let worker = RunningWorker::start(server.worker("w", OnDevice::new(overlap, failures)).await);
    for request in &requests {
        let done = async || (server.state(request).await == "COMPLETED").then_some(());
        within(Duration::from_secs(120), done).await;
    }
    worker.drained().await;
    let undisturbed = server.status(&requests[1]).await;
    assert_eq!(undisturbed.get("error"), None, "{undisturbed}");
    assert_eq!(steps_of_attempt(&undisturbed, 1), (1..=STEPS).collect::<Vec<_>>());
    assert!(!logs(&undisturbed, "ran out of memory"), "{undisturbed}");
    requests
}

fn logs(status: &Value, words: &str) -> bool {
    messages(status).iter().any(|line| line.contains(words))
}

/// Mean and maximum difference of 8-bit values.
fn difference(ours: &[u8], theirs: &[u8]) -> (f64, u8) {
    assert_eq!(ours.len(), theirs.len());
    let differences: Vec<u8> = ours.iter().zip(theirs).map(|(a, b)| a.abs_diff(*b)).collect();
    let sum: u64 = differences.iter().map(|value| u64::from(*value)).sum();
    (sum as f64 / differences.len() as f64, differences.into_iter().max().unwrap_or(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_decoded_as_a_whole_is_decoded_in_tiles_and_not_denoised_again() {
    for overlap in [false, true] {
        let server = Server::start().await;
        let requests = twice(&server, overlap, &[Allocation::Decode]).await;
        let status = server.status(&requests[0]).await;
        assert_eq!(status.get("error"), None, "{status}");
        assert!(logs(&status, "decoding once more in tiles"), "{status}");
        assert_eq!(steps_of_attempt(&status, 1), (1..=STEPS).collect::<Vec<_>>(), "no step twice");
        let (tiled, whole) = (image(&server, &requests[0]).await, image(&server, &requests[1]).await);
        let (mean, most) = difference(&tiled, &whole);
        assert!(most > 0 && mean < TILED, "overlap {overlap}: {mean} on average, {most} at most");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_decoded_in_tiles_either_fails_alone() {
    for overlap in [false, true] {
        let server = Server::start().await;
        let requests = twice(&server, overlap, &[Allocation::Decode, Allocation::Tile]).await;
        assert_failed(&server, &requests[0]).await;
    }
}

/// Asserts the error that says what to change.
async fn assert_failed(server: &Server, request: &str) {
    let words = "the device ran out of memory: ask for fewer or smaller images, or free memory of the device (it was tried twice)";
    let status = server.status(request).await;
    assert_eq!(
        (&status["error"], &status["error_type"]),
        (&json!(words), &json!("runner_server_error")),
        "{status}"
    );
    let result = server.get(request).await;
    assert_eq!(result.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(result.json(), json!({ "detail": words, "error_type": "runner_server_error" }));
    let metrics = String::from_utf8(server.get("/metrics").await.bytes.to_vec()).expect("text");
    assert!(metrics.contains("outcome=\"out_of_memory\"} 1"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_without_memory_is_tried_once_more() {
    for overlap in [false, true] {
        let server = Server::start().await;
        let requests = twice(&server, overlap, &[Allocation::Step(2)]).await;
        let status = server.status(&requests[0]).await;
        assert_eq!(status.get("error"), None, "{status}");
        assert!(logs(&status, "trying once more, with everything else freed"), "{status}");
        let (again, undisturbed) = (image(&server, &requests[0]).await, image(&server, &requests[1]).await);
        assert_eq!(difference(&again, &undisturbed).1, 0, "the same pixels");

        let server = Server::start().await;
        let requests = twice(&server, overlap, &[Allocation::Step(2), Allocation::Step(0)]).await;
        assert_failed(&server, &requests[0]).await;
    }
}

#[test]
fn the_command_line_decodes_in_tiles_too() {
    let request = latentd_models::GenerateRequest {
        prompt: "a boat".into(),
        negative_prompt: String::new(),
        width: 512,
        height: 384,
        steps: 2,
        guidance: 3.5,
        seed: 1,
        num_images: 2,
        skipped_images: 0,
        t5_tokens: 64,
        check_safety: false,
        init_image: None,
        loras: Vec::new(),
        skip_layers: None,
        controlnet: None,
        ip_adapter: None,
    };
    let generate = |failures: &[Allocation]| {
        pipeline(failures).generate(&request, &mut |_: latentd_models::Step| Control::Continue)
    };
    let whole = generate(&[]).expect("images");
    let tiled = generate(&[Allocation::Decode]).expect("images");
    for (tiled, whole) in tiled.images.iter().zip(&whole.images) {
        assert_eq!((tiled.width, tiled.height), (512, 384));
        let (mean, most) = difference(&tiled.rgb, &whole.rgb);
        assert!(most > 0 && mean < TILED, "{mean} on average, {most} at most");
    }
    let full = generate(&[Allocation::Decode, Allocation::Tile]).expect_err("no memory");
    assert!(matches!(full, latentd_models::Error::OutOfMemory), "{full}");
}

fn full() -> EngineError {
    EngineError::OutOfMemory("the device is full".into())
}

/// Steps go on after the last one whose state was saved.
#[tokio::test(flavor = "multi_thread")]
async fn saved_steps_are_not_repeated() {
    let server = Server::start().await;
    let mut is_first = true;
    let engine = Scripted::new(move |call| {
        let done = call.observer.saved_state().map_or(0, |state| usize::from(state[0]));
        for index in done + 1..=call.request.steps {
            if std::mem::take(&mut is_first) {
                call.observer.step(step(1, call.request.steps));
                call.observer.state(1, vec![1]);
                return Err(full());
            }
            call.observer.step(step(index, call.request.steps));
        }
        Ok(call.images_after(|| {}))
    });
    let request = server.submit(&small_with("num_inference_steps", 3)).await;
    tick_until_idle(&mut server.worker("w", engine).await).await;
    let status = server.completed(&request).await;
    assert_eq!(status.get("error"), None, "{status}");
    assert_eq!(steps_of_attempt(&status, 1), [1, 2, 3], "{status}");
}

/// The models that are loaded, by name.
type Loaded = Arc<Mutex<Vec<&'static str>>>;

/// A model that is loaded until it is dropped.
struct Resident {
    name: &'static str,
    loaded: Loaded,
    engine: Scripted,
}

impl Resident {
    fn slot(
        name: &'static str,
        loaded: &Loaded,
        engine: impl Fn(Loaded) -> Result<Scripted, EngineError> + Send + 'static,
    ) -> ModelSlot {
        let loaded = loaded.clone();
        let load = move || {
            let engine = engine(loaded.clone())?;
            loaded.lock().expect("one at a time").push(name);
            Ok(Box::new(Self { name, loaded: loaded.clone(), engine }) as Box<dyn Engine>)
        };
        ModelSlot { name: name.into(), answers_for: vec![name.into()], bytes: 10, load: Box::new(load) }
    }
}

impl Engine for Resident {
    fn generate(
        &mut self,
        request: &ImageRequest,
        inputs: Inputs,
        observer: &mut dyn Observer,
    ) -> Result<PendingImages, EngineError> {
        self.engine.generate(request, inputs, observer)
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        self.loaded.lock().expect("one at a time").retain(|name| *name != self.name);
    }
}

const LARGE_MODEL: &str = "stable-diffusion-3.5-large";
const MEDIUM_MODEL: &str = "stable-diffusion-3.5-medium";

fn tiny() -> Value {
    json!({ "prompt": "a fox", "image_size": { "width": 32, "height": 16 }, "seed": 7 })
}

/// Fails while another model is loaded.
fn needs_all(loaded: Loaded) -> Scripted {
    Scripted::new(move |call| {
        let alone = loaded.lock().expect("one at a time").len() == 1;
        if alone { call.grey() } else { Err(full()) }
    })
}

/// Latents that are decoded only in tiles, and only while no other model is loaded.
fn decodes_alone(loaded: Loaded) -> Scripted {
    Scripted::new(move |call| {
        let loaded = loaded.clone();
        let mut grey = call.grey()?;
        Ok(Box::new(move |decoding| -> Result<Generated, EngineError> {
            // The other request is being generated meanwhile.
            std::thread::sleep(Duration::from_millis(50));
            let alone = loaded.lock().expect("one at a time").len() == 1;
            if decoding == Decoding::Tiled && alone { grey(decoding) } else { Err(full()) }
        }))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn other_models_are_evicted_for_a_request_that_does_not_fit_beside_them() {
    for engine in [needs_all, decodes_alone] {
        let server = Server::start().await;
        let loaded = Loaded::default();
        let medium = Resident::slot(MEDIUM_MODEL, &loaded, |_| Ok(Scripted::grey()));
        let large = Resident::slot(LARGE_MODEL, &loaded, move |loaded| Ok(engine(loaded)));
        let pool = ModelPool::open(vec![medium, large], 100).expect("the first loads");
        let request = server.submit_to(ENDPOINT, &tiny()).await;
        tick_until_idle(&mut server.worker("w", pool).await).await;
        let status = server.completed(&request).await;
        assert_eq!(status.get("error"), None, "{status}");
        assert!(logs(&status, "ran out of memory"), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_does_not_fit_beside_others_is_loaded_alone() {
    let server = Server::start().await;
    let loaded = Loaded::default();
    let medium = Resident::slot(MEDIUM_MODEL, &loaded, |_| Ok(Scripted::grey()));
    let large = Resident::slot(LARGE_MODEL, &loaded, |loaded| {
        if loaded.lock().expect("one at a time").is_empty() { Ok(Scripted::grey()) } else { Err(full()) }
    });
    let pool = ModelPool::open(vec![medium, large], 100).expect("the first loads");
    let request = server.submit_to(ENDPOINT, &tiny()).await;
    tick_until_idle(&mut server.worker("w", pool).await).await;
    assert_eq!(server.completed(&request).await.get("error"), None);
}

/// The engine evicts the first request's model for the second request, while the first waits to be decoded in tiles by the
/// same thread.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_evicted_while_its_request_waits_to_be_decoded_in_tiles() {
    let server = Server::start().await;
    let loaded = Loaded::default();
    let large = Resident::slot(LARGE_MODEL, &loaded, |loaded| Ok(decodes_alone(loaded)));
    let medium = Resident::slot(MEDIUM_MODEL, &loaded, |_| Ok(Scripted::grey()));
    let pool = ModelPool::open(vec![large, medium], 15).expect("the first loads");
    let requests = [server.submit_to(ENDPOINT, &tiny()).await, server.submit_to(MEDIUM, &tiny()).await];
    let worker = RunningWorker::start(server.worker("w", pool).await);
    for request in &requests {
        let status = server.completed(request).await;
        assert_eq!(status.get("error"), None, "{status}");
    }
    worker.drained().await;
}
