//! What the tests share: a server without a socket, engines that a test controls, and a clock to turn.

use crate::databases::Databases;
pub(crate) use crate::eventually::{eventually, within};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::BodyExt;
use jiff::{SignedDuration, Timestamp};
use latentd::disk::Disks;
use latentd::engine::{
    Control, Engine, EngineError, Generated, Image, InitImage, Observer, PendingImages, Step, Timings,
};
use latentd::identity;
use latentd::keys::KeyHash;
use latentd::keys::KeyRing;
use latentd::queue::{LEASE_CHECKS, LeaseCheck, LeaseClock, Queue, Reclaimed};
use latentd::signing::SigningKey;
use latentd::storage::Storage;
use latentd::worker::{EngineThread, StepLimits, Tick, Worker};
use latentd_egress::{Client, Egress};
use latentd_fal::WebAccess;
use latentd_fal::endpoint::{Endpoint, Served};
use latentd_fal::{Api, ConnectionMemory, Documents, Probe, Refusals, WaitingClients, router};
use latentd_request::{ImageRequest, Limits};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::sync::watch;
use tower::ServiceExt;

pub(crate) const ENDPOINT: &str = "fal-ai/stable-diffusion-v35-large";

/// In seconds.
pub(crate) const HOUR: i64 = 3600;

/// The names of all models.
pub(crate) fn every_model() -> Vec<String> {
    Endpoint::known(|_| None).into_iter().map(|endpoint| endpoint.model).collect()
}

/// Every endpoint, each served by a model that generates up to so many pixels.
pub(crate) fn endpoints(max_side: usize) -> Vec<Endpoint> {
    Endpoint::known(|_| Some(Served::published(Limits::of_model(max_side))))
}

/// Clocks that move when they are told to, on top of the real ones.
#[derive(Clone)]
pub(crate) struct TestClock {
    began: Instant,
    date: Arc<AtomicI64>,
    advanced: Arc<AtomicI64>,
    /// Of PostgreSQL, whose clock is the database's.
    databases: Databases,
}

impl Default for TestClock {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            date: Arc::default(),
            advanced: Arc::default(),
            databases: Databases::default(),
        }
    }
}

impl TestClock {
    /// Time passes.
    pub(crate) fn advance(&self, seconds: i64) {
        self.set_date(seconds);
        let before = self.advanced.fetch_add(seconds, Ordering::Relaxed);
        self.databases.set_ahead(before + seconds);
    }

    /// Somebody sets the time of day: no time passes.
    pub(crate) fn set_date(&self, seconds: i64) {
        self.date.fetch_add(seconds, Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::now() + SignedDuration::from_secs(self.date.load(Ordering::Relaxed))
    }

    /// Of a machine that started a day ago.
    pub(crate) fn lease_clock(&self) -> LeaseClock {
        let Self { began, advanced, .. } = self.clone();
        LeaseClock::new("boot", move || {
            let at_start = 24 * HOUR + advanced.load(Ordering::Relaxed);
            began.elapsed() + Duration::from_secs(at_start.unsigned_abs())
        })
    }
}

/// The names by which tests call a server that has no keys.
fn hosts_of_tests() -> WebAccess {
    let mut web = WebAccess::default();
    for name in ["10.0.0.5", "inside", "me", "images.example", "real", "test"] {
        web.allow_host(name).expect("a host name");
    }
    web
}

/// The server: everything but the socket and the process.
pub(crate) struct Server {
    pub(crate) router: Router,
    pub(crate) queue: Queue,
    pub(crate) storage: Storage,
    pub(crate) clock: TestClock,
    pub(crate) closing: watch::Sender<bool>,
    pub(crate) directory: TempDir,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// A server whose settings a test changes first.
    pub(crate) async fn with(change: impl FnOnce(&mut Api)) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let clock = TestClock::default();
        let queue = open(directory.path(), &clock).await;
        let storage = Storage::local(&directory.path().join("files")).expect("a fresh directory");
        // Files may be removed: the first hour of the two is over.
        clock.advance(-HOUR);
        identity::join(&queue, &storage).await.expect("a database and a folder, both new");
        clock.advance(HOUR);
        queue.note_time().await.expect("a database");
        let (closing, is_closing) = watch::channel(false);
        let mut api = Api {
            queue: queue.clone(),
            storage: storage.clone(),
            disks: Disks::default(),
            endpoints: endpoints(1536),
            keys: KeyRing::default(),
            web: hosts_of_tests(),
            metrics_open: false,
            public_url: None,
            trusted_proxies: Vec::new(),
            max_queue: 100,
            max_upload: 64 * 1024,
            max_open_uploads: 100,
            validate_on_submit: false,
            egress: Egress::default(),
            signing: Arc::new(SigningKey::open(directory.path()).expect("a new key")),
            run_patience: std::time::Duration::from_secs(240),
            refusals: Refusals::default(),
            documents: Documents::default(),
            memory: ConnectionMemory::default(),
            waiting_clients: WaitingClients::default(),
            probe: Probe::default(),
            closing: is_closing,
            commit: "test",
        };
        change(&mut api);
        Self { router: router(api), queue, storage, clock, closing, directory }
    }

    pub(crate) async fn with_key(key: &str) -> Self {
        Self::with(|api| api.keys = KeyRing::new(vec![KeyHash::of(key)])).await
    }

    /// A call to `http://test:1`.
    pub(crate) async fn call(&self, method: Method, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let request = Request::builder().method(method).uri(path).header("host", "test:1");
        self.send(request.body(body).expect("a request")).await
    }

    /// Any call; one that names no host goes to `http://test:1`.
    pub(crate) async fn send(&self, mut request: Request<Body>) -> Answer {
        request.headers_mut().entry("host").or_insert(HeaderValue::from_static("test:1"));
        let response = self.router.clone().oneshot(request).await.expect("the router always answers");
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("a whole body").to_bytes();
        Answer { status: parts.status, headers: parts.headers, bytes }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, &Value::Null).await
    }

    pub(crate) async fn put(&self, path: &str) -> Answer {
        self.call(Method::PUT, path, &Value::Null).await
    }

    /// Submits to the queue; returns the request's path below the server.
    pub(crate) async fn submit(&self, input: &Value) -> String {
        let answer = self.call(Method::POST, &format!("/queue/{ENDPOINT}"), input).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let id = answer.json()["request_id"].as_str().expect("an id").to_owned();
        format!("/queue/{ENDPOINT}/requests/{id}")
    }

    /// The whole status, log lines included.
    pub(crate) async fn status(&self, request: &str) -> Value {
        self.get(&format!("{request}/status?logs=1")).await.json()
    }

    /// A worker around an engine.
    pub(crate) async fn worker(&self, name: &str, engine: impl Engine + 'static) -> Worker {
        let engine = EngineThread::load(Box::new(|| Ok(Box::new(engine)))).await.expect("a loaded engine");
        Worker {
            id: name.into(),
            device: "test".into(),
            queue: self.queue.clone(),
            storage: self.storage.clone(),
            outgoing: Client::new(Egress::default(), "--fetch-allow"),
            models: every_model(),
            engine,
            limits: StepLimits::default(),
        }
    }

    /// A worker with connections of its own, as in a process of its own.
    pub(crate) async fn worker_apart(&self, name: &str, engine: impl Engine + 'static) -> Worker {
        let queue = open(self.directory.path(), &self.clock).await;
        Worker { queue, ..self.worker(name, engine).await }
    }

    /// Looks for expired leases as often as it takes to void one.
    pub(crate) async fn reclaim_expired(&self) -> Reclaimed {
        let mut check = LeaseCheck::default();
        for _ in 1..LEASE_CHECKS {
            let early = self.queue.reclaim_expired(&mut check).await.expect("a database");
            assert_eq!(early, Reclaimed::default(), "a lease is voided only when all checks find it over");
        }
        self.queue.reclaim_expired(&mut check).await.expect("a database")
    }

    /// Generates whatever waits.
    pub(crate) async fn generate_all(&self) {
        let mut worker = self.worker("worker", GreyEngine).await;
        while worker.tick().await.expect("a worker that goes on") == Tick::Worked {}
    }

    /// Names of the stored files, and of whatever else was put beside them.
    pub(crate) fn files(&self) -> Vec<String> {
        files(&self.directory.path().join("files"))
    }
}

async fn open(directory: &std::path::Path, clock: &TestClock) -> Queue {
    let reading = clock.clone();
    let database = clock.databases.of(directory).await;
    let queue = Queue::open(database, Arc::new(move || reading.now())).await;
    queue.expect("a database").with_lease_clock(clock.lease_clock())
}

/// What is in the folder of a database's files, but for the mark that says whose it is.
pub(crate) fn files(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("the directory").map(|entry| entry.expect("an entry"));
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name != "identity.json").collect()
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), "application/json", "{self:?}");
        serde_json::from_slice(&self.bytes).expect("JSON")
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }
}

/// A valid input that is generated in no time.
pub(crate) fn small() -> Value {
    json!({ "prompt": "a fox", "image_size": { "width": 32, "height": 16 }, "num_inference_steps": 3, "seed": 7 })
}

/// Generates grey, or the first colour of the image that it is to begin from.
pub(crate) struct GreyEngine;

impl Engine for GreyEngine {
    fn generate(
        &mut self,
        request: &ImageRequest,
        begin: Option<InitImage>,
        observer: &mut dyn Observer,
    ) -> Result<PendingImages, EngineError> {
        for index in 1..=request.steps {
            if observer.step(step(index, request.steps)) == Control::Stop {
                return Err(EngineError::Stopped);
            }
        }
        let images = vec![grey(request, begin.map_or(128, |begin| begin.image.rgb[0])); request.num_images];
        Ok(Box::new(|| Ok(Generated { images, verdicts: Vec::new(), timings: Timings::default() })))
    }
}

fn grey(request: &ImageRequest, level: u8) -> Image {
    let ImageRequest { width, height, .. } = *request;
    Image { width, height, rgb: vec![level; width * height * 3] }
}

fn step(index: usize, of: usize) -> Step {
    Step { index, of, sigma: 1.0 / index as f64, seconds: 0.0 }
}

/// Generates grey, but takes each step only when it is told to, and fails as it is told to. A preview is as light as its
/// step is late.
pub(crate) struct SteppedEngine {
    orders: Receiver<Order>,
    steps_taken: Sender<usize>,
}

/// What a stepped_engine engine is told.
pub(crate) enum Order {
    /// Take the next step.
    Step,
    /// Take the steps that are left.
    Run,
    /// Fail this way.
    Fail(EngineError),
    /// Panic.
    Panic,
}

/// The other end of the control.
pub(crate) struct StepControl {
    orders: Sender<Order>,
    steps_taken: Arc<Mutex<Receiver<usize>>>,
}

/// An engine and its control.
pub(crate) fn stepped_engine() -> (SteppedEngine, StepControl) {
    let (order, orders) = channel();
    let (took, steps_taken) = channel();
    let control = StepControl { orders: order, steps_taken: Arc::new(Mutex::new(steps_taken)) };
    (SteppedEngine { orders, steps_taken: took }, control)
}

impl StepControl {
    pub(crate) fn order(&self, order: Order) {
        self.orders.send(order).expect("the engine lives");
    }

    /// Lets the engine take one step and waits until it has.
    pub(crate) async fn step(&self) {
        self.order(Order::Step);
        let taken = self.steps_taken.clone();
        let wait = move || taken.lock().expect("one waiter").recv().expect("a step");
        tokio::task::spawn_blocking(wait).await.expect("a step");
    }
}

impl Engine for SteppedEngine {
    fn generate(
        &mut self,
        request: &ImageRequest,
        begin: Option<InitImage>,
        observer: &mut dyn Observer,
    ) -> Result<PendingImages, EngineError> {
        let mut free = false;
        for index in 1..=request.steps {
            if !free {
                match self.orders.recv() {
                    Ok(Order::Step) => {}
                    Ok(Order::Run) | Err(_) => free = true,
                    Ok(Order::Fail(error)) => return Err(error),
                    Ok(Order::Panic) => panic!("told to"),
                }
            }
            let control = observer.step(step(index, request.steps));
            if observer.wants_preview() {
                observer.preview(grey(request, 10 * index as u8));
            }
            let _ = self.steps_taken.send(index);
            if control == Control::Stop {
                return Err(EngineError::Stopped);
            }
        }
        GreyEngine.generate(&ImageRequest { steps: 0, ..request.clone() }, begin, observer)
    }
}

/// The messages of a status.
pub(crate) fn messages(status: &Value) -> Vec<String> {
    let logs = status["logs"].as_array().expect("logs is always a list");
    logs.iter().map(|log| log["message"].as_str().expect("text").to_owned()).collect()
}
