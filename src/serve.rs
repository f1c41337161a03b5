//! `latentd serve`: puts the parts together, and takes them apart in order.

mod greeting;
mod ground;

use crate::budget;
use crate::checker;
use crate::config::{ConfigError, EngineConfig, Model, ModelsError, ServeConfig, model};
use crate::data_dir::DataDirError;
use crate::identity::IdentityError;
use crate::intercept::InterceptError;
use crate::model_error::ModelError;
use crate::queue::{Queue, QueueError};
use crate::room;
use crate::signing::SigningError;
use crate::storage::StorageError;
use crate::supervisor::{self, Stage};
use crate::webhooks::Deliverer;
use ground::Ground;
use latentd_fal::endpoint::{Endpoint, Served};
use latentd_models::Work;
use std::net::SocketAddr;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Why the server could not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The command line, in the light of what the database holds.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The queue.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The file storage.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The database and the files.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The key that signs webhooks.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// The model's description.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The address.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// The port that answers for fal.
    #[error(transparent)]
    Intercept(#[from] InterceptError),
    /// The rest of the system.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl From<ModelsError> for ServeError {
    fn from(error: ModelsError) -> Self {
        match error {
            ModelsError::Config(error) => error.into(),
            ModelsError::Model(error) => error.into(),
        }
    }
}

/// Serves until a signal, then drains: running requests end or go back to the queue.
///
/// # Errors
/// When something the server stands on cannot be opened.
pub async fn serve(config: ServeConfig) -> Result<(), ServeError> {
    let models = model::assign(&config.models)?;
    check_models(&config, &models)?;
    let endpoints = Endpoint::known(|name| served(&models, name));
    let (ground, doors) = Ground::open(&config).await?;
    warn_of_others(&ground.queue, &endpoints).await?;

    let (closing, is_closing) = watch::channel(false);
    let (stage, stages) = watch::channel(Stage::Run);
    tokio::spawn(hear_signals(stage, closing)?);
    let mut tasks = ground.tend(&config);
    greeting::greet(&config, &endpoints, &models, doors.listener.local_addr()?, ground.keys.is_open());
    if let Some(interceptor) = &doors.interceptor {
        greeting::greet_unchanged(&config, interceptor.address());
    }

    let router = latentd_fal::router(ground.api(&config, endpoints, is_closing));
    let (workers_gone, all_gone) = watch::channel(false);
    let answer = doors.answer(router, all_gone.clone());
    let tell = deliver(&ground, &config, all_gone, stages.clone());
    let work = work(&config, &ground.queue, stages, workers_gone)?;
    tokio::join!(answer, tell, work);
    tasks.shutdown().await; // they use what is closed now
    ground.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// Keeps the workers alive until all of them are to go.
fn work(
    config: &ServeConfig,
    queue: &Queue,
    mut stages: watch::Receiver<Stage>,
    workers_gone: watch::Sender<bool>,
) -> std::io::Result<impl Future<Output = ()>> {
    let program = std::env::current_exe()?;
    Ok(async move {
        supervisor::supervise(config, &program, queue, stages.clone()).await;
        let _ = stages.wait_for(|stage| *stage > Stage::Run).await;
        workers_gone.send_replace(true);
    })
}

/// Posts webhooks until the workers are gone, and those that are due then, unless the operator asks twice.
async fn deliver(
    ground: &Ground,
    config: &ServeConfig,
    workers_gone: watch::Receiver<bool>,
    stages: watch::Receiver<Stage>,
) {
    let signing = ground.signing.clone();
    let deliverer = Deliverer::new(ground.queue.clone(), config.egress.clone(), move |webhook, outcome| {
        latentd_fal::webhook_message(&signing, webhook, outcome)
    });
    tokio::select! {
        () = deliverer.run(turned_true(workers_gone)) => {}
        () = second_signal(stages) => {}
    }
}

async fn turned_true(mut flag: watch::Receiver<bool>) {
    let _ = flag.wait_for(|flag| *flag).await;
}

/// Whoever asks twice does not wait for receivers: what is on its way is sent again by the next start.
async fn second_signal(mut stages: watch::Receiver<Stage>) {
    let _ = stages.wait_for(|stage| *stage >= Stage::Now).await;
}

/// The model that answers for a published one, if there is one.
fn served(models: &[Model], name: &str) -> Option<Served> {
    let model = models.iter().find(|model| model.answers_for.iter().any(|manifest| manifest.name == name))?;
    Some(Served { stand_in: model.stand_in().map(str::to_owned), limits: model.limits() })
}

/// Says now what every worker here would fail on; workers elsewhere have checkers and memory of their own.
fn check_models(config: &ServeConfig, models: &[Model]) -> Result<(), ServeError> {
    for engine in &config.engines {
        budget::sizes(models, engine, config.memory_budget)?;
    }
    for model in models.iter().filter(|_| !config.engines.is_empty()) {
        let safety = checker::resolve(&config.safety, &config.hub, &model.source)?;
        let engine = |engine: &EngineConfig| EngineConfig { model: model.source.clone(), ..engine.clone() };
        let engines: Vec<_> = config.engines.iter().map(engine).collect();
        room::check_all(&engines, &safety, &Work::default())?;
    }
    Ok(())
}

/// Requests whose model was served by an earlier start wait until it is served again.
async fn warn_of_others(queue: &Queue, endpoints: &[Endpoint]) -> Result<(), QueueError> {
    let served = endpoints.iter().filter(|endpoint| endpoint.served.is_some());
    let names: Vec<String> = served.map(|endpoint| endpoint.model.clone()).collect();
    for (model, requests) in queue.waiting_for_others(&names).await? {
        tracing::warn!(
            requests,
            "requests wait for {model}, which is not served: start with --model {model} too"
        );
    }
    Ok(())
}

/// Turns signals into stages: the first drains, the second ends.
fn hear_signals(
    stage: watch::Sender<Stage>,
    closing: watch::Sender<bool>,
) -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        for next in [Stage::Drain, Stage::Now] {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            tracing::info!(?next, "stopping");
            closing.send_replace(true);
            stage.send_replace(next);
        }
        stage.closed().await;
    })
}
