//! Several models behind one server: each endpoint with its own defaults, and models that are evicted for each other.

use crate::support::{
    ENDPOINT, RunningWorker, Scripted, Server, endpoints, eventually, messages, small_with, tick_until_idle,
};
use axum::http::{Method, StatusCode};
use latentd::engine::{Engine, EngineError, ModelPool, ModelSlot};
use latentd::queue::WorkerState;
use latentd::worker::{Tick, WorkerError};
use latentd_fal::endpoint::{Endpoint, Published, Served};
use latentd_request::Limits;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const TURBO: &str = "fal-ai/stable-diffusion-v35-large/turbo";
const MEDIUM: &str = "fal-ai/stable-diffusion-v35-medium";

const MODELS: [&str; 3] =
    ["stable-diffusion-3.5-large", "stable-diffusion-3.5-large-turbo", "stable-diffusion-3.5-medium"];

/// Bytes in use, and the most that ever were.
#[derive(Clone, Default)]
struct Memory(Arc<(AtomicUsize, AtomicUsize)>);

impl Memory {
    fn take(&self, bytes: usize) {
        let now = self.0.0.fetch_add(bytes, Ordering::SeqCst) + bytes;
        self.0.1.fetch_max(now, Ordering::SeqCst);
    }

    fn most(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }
}

/// Memory that is taken until it is dropped.
struct Taken(Memory, usize);

impl Taken {
    fn new(memory: &Memory, bytes: usize) -> Arc<Self> {
        memory.take(bytes);
        Arc::new(Self(memory.clone(), bytes))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.0.0.fetch_sub(self.1, Ordering::SeqCst);
    }
}

/// Generates grey; as with a model on a GPU, decoding takes a while, and it and prefetching use the model's memory too.
fn engine(taken: Arc<Taken>, prefetched: Log) -> Scripted {
    let decoding = taken.clone();
    let generate = Scripted::new(move |call| {
        let taken = decoding.clone();
        call.grey_after(move || {
            std::thread::sleep(Duration::from_millis(20));
            drop(taken);
        })
    });
    generate.with_prefetch(move |request| {
        let _taken = taken.clone();
        prefetched.lock().expect("one at a time").push(request.model.clone());
    })
}

type Log = Arc<Mutex<Vec<String>>>;

/// Models that can be loaded, and a record of what was loaded and prefetched.
#[derive(Clone, Default)]
struct Library {
    memory: Memory,
    /// Models in the order in which their loading began.
    loads: Log,
    prefetched: Log,
}

impl Library {
    /// A model of so many bytes.
    fn slot(&self, name: &'static str, bytes: usize) -> ModelSlot {
        let library = self.clone();
        self.scripted(name, bytes, move || {
            let taken = Taken::new(&library.memory, bytes);
            Ok(Box::new(engine(taken, library.prefetched.clone())) as Box<dyn Engine>)
        })
    }

    /// A model that is loaded as the test says.
    fn scripted(
        &self,
        name: &'static str,
        bytes: usize,
        mut load: impl FnMut() -> Result<Box<dyn Engine>, EngineError> + Send + 'static,
    ) -> ModelSlot {
        let loads = self.loads.clone();
        let load = Box::new(move || {
            loads.lock().expect("one at a time").push(name.to_owned());
            load()
        });
        ModelSlot { name: name.into(), answers_for: vec![name.into()], bytes: bytes as u64, load }
    }

    fn loads(&self) -> Vec<String> {
        self.loads.lock().expect("one at a time").clone()
    }
}

fn tiny() -> Value {
    json!({ "prompt": "a fox", "image_size": { "width": 32, "height": 16 }, "seed": 7 })
}

#[tokio::test]
async fn each_endpoint_has_its_own_defaults() {
    let server = Server::start().await;
    for (endpoint, steps, guidance) in [(ENDPOINT, 28, 3.5), (TURBO, 4, 1.0), (MEDIUM, 40, 4.5)] {
        let request = server.submit_to(endpoint, &tiny()).await;
        let published = Published::all().iter().find(|known| known.id() == endpoint).expect("it is known");
        let peeked = server.queue.peek(&[published.model.to_owned()]).await.expect("a database");
        let body = peeked.expect("a request");
        assert_eq!((&body["steps"], &body["guidance"]), (&json!(steps), &json!(guidance)), "{endpoint}");
        server.generate_all().await;
        let lines = messages(&server.status(&request).await);
        assert!(lines.iter().any(|line| line.starts_with(&format!("step {steps}/{steps} "))), "{lines:?}");
        let mut input = tiny();
        input["num_inference_steps"] = json!(51);
        let refused = server.call(Method::POST, &format!("/run/{endpoint}"), &input).await;
        assert_eq!(refused.json()["detail"][0]["ctx"], json!({ "le": 50 }), "{endpoint}");
    }
    let image_to_image = server.call(Method::POST, &format!("/queue/{MEDIUM}/image-to-image"), &tiny()).await;
    assert_eq!(image_to_image.status, StatusCode::NOT_FOUND, "fal has none");
}

#[tokio::test]
async fn what_is_not_served_is_not_found_and_says_what_to_start() {
    let served = |name: &'static str| {
        Server::with(move |api| {
            let published = || Served::published(Limits::of_model(512), 38);
            api.endpoints = Endpoint::known(|model| (model == name).then(published));
        })
    };
    let large = served(MODELS[0]).await;
    for (endpoint, words) in [
        (TURBO, "Path /turbo not found: start the server with `--model stable-diffusion-3.5-large-turbo`"),
        (
            MEDIUM,
            "Application \"stable-diffusion-v35-medium\" not found: start the server with `--model stable-diffusion-3.5-medium`",
        ),
    ] {
        for way in ["queue", "run"] {
            let answer = large.call(Method::POST, &format!("/{way}/{endpoint}"), &tiny()).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND);
            let detail = answer.json()["detail"].as_str().expect("a text").to_owned();
            assert!(detail.starts_with(words), "{detail}");
        }
        let document = large.get(&format!("/openapi.json?endpoint_id={endpoint}")).await;
        assert_eq!(document.status, StatusCode::NOT_FOUND);
    }
    let medium = served(MODELS[2]).await;
    let answer = medium.call(Method::POST, &format!("/run/{ENDPOINT}/image-to-image"), &tiny()).await;
    let detail = answer.json()["detail"].as_str().expect("a text").to_owned();
    assert!(detail.starts_with("Application \"stable-diffusion-v35-large\" not found: start"), "{detail}");
    let paths = medium.get("/openapi.json").await.json()["paths"].clone();
    assert!(paths[format!("/queue/{MEDIUM}")].is_object() && paths[format!("/queue/{ENDPOINT}")].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn models_that_do_not_fit_together_take_turns_in_the_order_of_submission() {
    let server = Server::start().await;
    let library = Library::default();
    let pool = ModelPool::open(vec![library.slot(MODELS[0], 60), library.slot(MODELS[2], 50)], 100);
    let worker = server.worker("w", pool.expect("the first loads")).await;
    let mut requests = Vec::new();
    for _ in 0..3 {
        requests.push((server.submit_to(ENDPOINT, &tiny()).await, MODELS[0]));
        requests.push((server.submit_to(MEDIUM, &tiny()).await, MODELS[2]));
    }
    let worker = RunningWorker::start(worker);
    let mut started = Vec::new();
    for (index, (request, model)) in requests.iter().enumerate() {
        let status = server.completed(request).await;
        assert_eq!(status["error"], Value::Null, "{status}");
        let lines = messages(&status);
        let is_loaded = index > 0;
        assert_eq!(lines.contains(&format!("loading {model}")), is_loaded, "{lines:?}");
        let output = server.get(request).await.json();
        assert_eq!(output["timings"]["load"].is_f64(), is_loaded, "{output}");
        let first = status["logs"][0]["timestamp"].as_str().expect("a time").to_owned();
        started.push(first);
    }
    worker.kill().await;
    assert!(started.is_sorted(), "{started:?}");
    let alternating: Vec<_> = requests.iter().map(|(_, model)| (*model).to_owned()).collect();
    assert_eq!(library.loads(), alternating);
    assert_eq!(library.memory.most(), 60, "never both");
}

#[tokio::test]
async fn the_least_recently_used_model_is_evicted() {
    let server = Server::start().await;
    let library = Library::default();
    let slots = MODELS.map(|name| library.slot(name, 50));
    let mut worker = server.worker("w", ModelPool::open(slots.into(), 100).expect("the first loads")).await;
    for endpoint in [ENDPOINT, TURBO, ENDPOINT, MEDIUM, ENDPOINT, TURBO] {
        server.submit_to(endpoint, &tiny()).await;
    }
    tick_until_idle(&mut worker).await;
    assert_eq!(library.loads(), [MODELS[0], MODELS[1], MODELS[2], MODELS[1]]);
    assert_eq!(library.memory.most(), 100);
}

#[tokio::test]
async fn a_request_whose_model_cannot_be_loaded_keeps_its_place_and_others_go_on() {
    let server = Server::start().await;
    let library = Library::default();
    let damaged = library.scripted(MODELS[2], 10, || Err(EngineError::Load("a file is damaged".into())));
    let pool = ModelPool::open(vec![library.slot(MODELS[0], 10), damaged], 100).expect("the first loads");
    let mut worker = server.worker("w", pool).await;
    let waiting = [server.submit_to(MEDIUM, &tiny()).await, server.submit_to(MEDIUM, &tiny()).await];
    let fine = server.submit_to(ENDPOINT, &tiny()).await;
    tick_until_idle(&mut worker).await;
    assert_eq!(server.get(&fine).await.status, StatusCode::OK);
    for request in &waiting {
        let status = server.status(request).await;
        assert_eq!(status["status"], "IN_QUEUE", "{status}");
        let words = "stable-diffusion-3.5-medium cannot be loaded: a file is damaged: the request is tried again in 60 s";
        assert!(messages(&status).iter().any(|line| line == words), "{status}");
    }
    assert_eq!(library.loads(), [MODELS[0], MODELS[2]], "it is not tried for each");

    // With the file mended all of it is done, in order, but not before the minute is over.
    let library = Library::default();
    let slots = vec![library.slot(MODELS[0], 10), library.slot(MODELS[2], 10)];
    let mut worker = server.worker("w2", ModelPool::open(slots, 100).expect("the first loads")).await;
    server.clock.advance(58);
    assert_eq!(worker.tick().await.expect("a worker that goes on"), Tick::Idle);
    server.clock.advance(3);
    let last = server.submit_to(MEDIUM, &tiny()).await;
    for request in waiting.iter().chain([&last]) {
        assert_eq!(worker.tick().await.expect("a worker that goes on"), Tick::Worked);
        assert_eq!(server.get(request).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn after_a_while_a_model_that_could_not_be_loaded_is_tried_again() {
    let server = Server::start().await;
    let library = Library::default();
    let damaged = library.scripted(MODELS[2], 10, || Err(EngineError::Load("a file is damaged".into())));
    let pool = ModelPool::open(vec![library.slot(MODELS[0], 10), damaged], 100).expect("the first loads");
    let mut worker = server.worker("w", pool.retry_after(Duration::ZERO)).await;
    server.submit_to(MEDIUM, &tiny()).await;
    server.submit_to(MEDIUM, &tiny()).await;
    tick_until_idle(&mut worker).await;
    assert_eq!(library.loads(), [MODELS[0], MODELS[2], MODELS[2]]);
}

#[tokio::test]
async fn a_fault_of_the_device_ends_the_worker_and_the_request_goes_back() {
    let server = Server::start().await;
    let library = Library::default();
    let faulty = library.scripted(MODELS[2], 10, || Err(EngineError::Fault("the bus fell off".into())));
    let pool = ModelPool::open(vec![library.slot(MODELS[0], 10), faulty], 100);
    let mut worker = server.worker("w", pool.expect("the first loads")).await;
    let request = server.submit_to(MEDIUM, &tiny()).await;
    let Err(WorkerError::Engine(words)) = worker.tick().await else { panic!("the worker must end") };
    assert_eq!(words, "stable-diffusion-3.5-medium cannot be loaded: the bus fell off");
    assert_eq!(server.status(&request).await["status"], "IN_PROGRESS", "until it is reclaimed");
}

#[tokio::test]
async fn a_worker_claims_only_requests_for_its_models() {
    let server = Server::start().await;
    let only = |name: &str| vec![name.to_owned()];
    let medium = server.submit_to(MEDIUM, &tiny()).await;
    let large = server.submit_to(ENDPOINT, &tiny()).await;
    let mut worker = server.worker("w", Scripted::grey()).await;
    worker.models = only(MODELS[0]);
    tick_until_idle(&mut worker).await;
    assert_eq!(server.status(&large).await["status"], "COMPLETED");
    assert_eq!(server.status(&medium).await["status"], "IN_QUEUE");
    assert_eq!(server.queue.peek(&only(MODELS[0])).await.expect("a database"), None);
    let waiting = server.queue.waiting_for_others(&only(MODELS[0])).await.expect("a database");
    assert_eq!(waiting, [(MODELS[2].to_owned(), 1)].into());
    worker.models = only(MODELS[2]);
    tick_until_idle(&mut worker).await;
    assert_eq!(server.status(&medium).await["status"], "COMPLETED");
}

#[tokio::test]
async fn a_request_from_before_there_was_a_choice_is_generated_by_the_first_model() {
    let server = Server::start().await;
    server.submit_to(ENDPOINT, &tiny()).await;
    let claim = server.queue.claim("w", &[MODELS[0].into()]).await.expect("a database").expect("a request");
    let mut body = claim.body;
    body.as_object_mut().expect("an object").remove("model").expect("it is there now");
    let old = latentd::queue::NewRequest {
        endpoint: ENDPOINT.into(),
        origin: latentd::queue::Origin::Queued,
        priority: latentd::queue::Priority::Normal,
        body,
        model: None,
        max_waiting: None,
        options: latentd::queue::RequestOptions::default(),
        webhook: None,
        api_key: None,
        client: None,
        traceparent: None,
        idempotency: None,
    };
    let latentd::queue::Submission::Accepted { id, .. } =
        server.queue.submit(&old).await.expect("a database")
    else {
        panic!("there is room")
    };
    let library = Library::default();
    let pool = ModelPool::open(vec![library.slot(MODELS[2], 10)], 10).expect("it loads");
    let mut worker = server.worker("w2", pool).await;
    worker.models = vec![MODELS[2].into()];
    tick_until_idle(&mut worker).await;
    let result = server.get(&format!("/queue/{ENDPOINT}/requests/{id}")).await;
    assert_eq!(result.json()["seed"], 7, "{result:?}");
}

#[tokio::test]
async fn prompts_are_encoded_ahead_by_the_model_of_the_request_if_it_is_loaded() {
    let server = Server::start().await;
    let library = Library::default();
    let slots = vec![library.slot(MODELS[0], 60), library.slot(MODELS[2], 60)];
    let mut worker = server.worker("w", ModelPool::open(slots, 100).expect("the first loads")).await;
    for endpoint in [ENDPOINT, ENDPOINT, MEDIUM] {
        server.submit_to(endpoint, &tiny()).await;
    }
    worker.tick().await.expect("a worker that goes on");
    let prefetched = || library.prefetched.lock().expect("one at a time").clone();
    eventually(async || (!prefetched().is_empty()).then_some(())).await;
    assert!(prefetched().iter().all(|model| model == MODELS[0]));
    worker.tick().await.expect("a worker that goes on");
    assert!(prefetched().iter().all(|model| model == MODELS[0]), "medium is not loaded yet");
    assert_eq!(library.loads(), [MODELS[0]]);
}

#[tokio::test]
async fn health_lists_what_is_served_and_loaded() {
    let server = Server::with(|api| api.endpoints = endpoints(64)).await;
    let library = Library::default();
    let slots = vec![library.slot(MODELS[0], 60), library.slot(MODELS[2], 60)];
    let mut worker = server.worker("w", ModelPool::open(slots, 100).expect("the first loads")).await;
    server.queue.heartbeat("w", "test", WorkerState::Ready, &[]).await.expect("a database");
    server.queue.report_loaded_models("w", &worker.engine.loaded).await.expect("a database");
    let loaded = async || {
        let health = server.get("/health").await.json();
        assert_eq!(health["models"][1]["endpoint"], TURBO);
        let models = health["models"].as_array().expect("a list");
        models.iter().map(|model| model["loaded"].as_u64().expect("a number")).collect::<Vec<_>>()
    };
    assert_eq!(loaded().await, [1, 0, 0]);
    server.submit_to(MEDIUM, &small_with("image_size", json!({ "width": 32, "height": 32 }))).await;
    tick_until_idle(&mut worker).await;
    assert_eq!(loaded().await, [0, 0, 1]);
    server.clock.advance(60);
    assert_eq!(loaded().await, [0, 0, 0], "the worker is not registered");
}
