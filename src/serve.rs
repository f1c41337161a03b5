//! `latentd serve`: starts the parts of the server, and stops them in order.

mod gpus;
mod greeting;
mod listeners;
pub(crate) mod preflight;
mod services;
mod waiting;

use crate::checker::{self, DownloadError};
use crate::config::{ConfigError, Model, ModelsError, ServeConfig, model};
use crate::data_dir::DataDirError;
use crate::identity::IdentityError;
use crate::intercept::InterceptError;
use crate::model_error::ModelError;
use crate::queue::{Queue, QueueError};
use crate::service_manager;
use crate::signing::SigningError;
use crate::storage::StorageError;
use crate::supervisor::{self, Stage};
use crate::tls::Certificate;
use crate::webhooks::Deliverer;
use latentd_fal::endpoint::{Endpoint, Served};
use latentd_hub::HubError;
use latentd_trace::Exporter;
use listeners::Listeners;
use services::Services;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsAcceptor;
use waiting::StartupWait;

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
    /// A model that is not here.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// The download of a model or of its safety checker.
    #[error(transparent)]
    Download(#[from] DownloadError),
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

/// Serves until a signal or an administrator's call, then drains: running requests end or go back to the queue.
///
/// # Errors
/// A model cannot be had or does not fit, or the data directory, a store or an address cannot be opened.
pub async fn serve(mut config: ServeConfig) -> Result<(), ServeError> {
    let (closing, is_closing) = watch::channel(false);
    let (stage, mut stages) = watch::channel(Stage::Run);
    let drain = Arc::new(Notify::new());
    tokio::spawn(forward_signals(stage, closing, drain.clone())?);
    tokio::spawn(service_manager::keep_alive());
    let certificate = config.tls.clone().map(Certificate::open).transpose()?;
    if let Some(certificate) = &certificate {
        tokio::spawn(reload_at_hangup(certificate.clone())?);
    }
    let tls = certificate.map(|certificate| certificate.acceptor()).transpose()?;
    let exporter = config.otlp.as_ref().map(Exporter::start).transpose().map_err(ConfigError)?;
    let Started { services, listeners, models, endpoints } = tokio::select! {
        started = start(&mut config, tls) => started?,
        _ = stages.wait_for(|stage| *stage > Stage::Run) => return Ok(()),
    };
    let mut tasks = services.spawn_background(&config);
    greeting::greet(&config, &endpoints, &models, listeners.address()?, services.keys.is_open());
    if let Some(interceptor) = &listeners.interceptor {
        greeting::greet_unchanged(&config, interceptor.address());
    }

    let router = latentd_fal::router(services.api(&config, endpoints, is_closing, drain));
    let (workers_stopped, all_stopped) = watch::channel(false);
    let answer = listeners.run(router, all_stopped.clone());
    let webhooks = deliver(&services, &config, all_stopped, stages.clone());
    let work = run_workers(&config, &services, stages, workers_stopped)?;
    service_manager::ready("serving");
    tokio::join!(answer, webhooks, work);
    tasks.shutdown().await; // they use the stores, which are closed next
    services.close().await;
    if let Some(exporter) = exporter {
        exporter.stop().await;
    }
    tracing::info!("stopped");
    Ok(())
}

/// What a server has once it has started.
struct Started {
    services: Services,
    listeners: Listeners,
    models: Vec<Model>,
    endpoints: Vec<Endpoint>,
}

/// Makes every check, downloads what is missing and opens the stores, of which it waits for those that are away.
async fn start(config: &mut ServeConfig, tls: Option<TlsAcceptor>) -> Result<Started, ServeError> {
    preflight::before_download(config)?;
    let mut wait = StartupWait::new(tls.clone());
    wait.until(config, async || preflight::check_storage(&config.store).await).await?;
    checker::ensure_downloaded(&config.hub, &config.safety, &mut config.models).await?;
    let models = model::assign(&config.models)?;
    preflight::check_models(config, &models)?;
    preflight::check_adapters(config, &models)?;
    let endpoints = Endpoint::known(|name| served(&models, name));
    let open = async || {
        let services = Services::open(config).await?;
        warn_of_unserved(&services.queue, &endpoints).await?;
        Ok(services)
    };
    let services = wait.until(config, open).await?;
    let listeners = Listeners::open(config, tls, wait.end()).await?;
    Ok(Started { services, listeners, models, endpoints })
}

/// Runs the workers until they are to stop, and until clients have what workers elsewhere make for them.
fn run_workers(
    config: &ServeConfig,
    services: &Services,
    stages: watch::Receiver<Stage>,
    workers_stopped: watch::Sender<bool>,
) -> std::io::Result<impl Future<Output = ()>> {
    let program = std::env::current_exe()?;
    Ok(async move {
        let clients = wait_for_clients(config, services, stages.clone());
        tokio::join!(supervisor::supervise(config, &program, &services.queue, stages), clients);
        workers_stopped.send_replace(true);
    })
}

/// Waits until the server is to stop. Where other servers share the database, their workers may still finish what clients
/// of this one wait for: they get the time that workers here have, and what is not finished then is cancelled.
async fn wait_for_clients(config: &ServeConfig, services: &Services, mut stages: watch::Receiver<Stage>) {
    let _ = stages.wait_for(|stage| *stage > Stage::Run).await;
    if !services.queue.is_shared() {
        return;
    }
    tokio::select! {
        () = services.clients.all_gone() => {}
        () = tokio::time::sleep(config.drain_timeout) => {}
        () = second_signal(stages) => {}
    }
    services.clients.cancel_all(&services.queue).await;
}

/// Delivers webhooks until the workers have stopped, and then those that are due, unless a second signal comes.
async fn deliver(
    services: &Services,
    config: &ServeConfig,
    workers_stopped: watch::Receiver<bool>,
    stages: watch::Receiver<Stage>,
) {
    let signing = services.signing.clone();
    let deliverer = Deliverer::new(services.queue.clone(), config.egress.clone(), move |webhook, outcome| {
        latentd_fal::webhook_message(&signing, webhook, outcome)
    });
    tokio::select! {
        () = deliverer.run(is_true(workers_stopped)) => {}
        () = second_signal(stages) => {}
    }
}

async fn is_true(mut flag: watch::Receiver<bool>) {
    let _ = flag.wait_for(|flag| *flag).await;
}

/// After a second signal no receiver is waited for: unfinished deliveries are repeated by the next start.
async fn second_signal(mut stages: watch::Receiver<Stage>) {
    let _ = stages.wait_for(|stage| *stage >= Stage::Now).await;
}

/// The model that answers for a published one, if there is one.
fn served(models: &[Model], name: &str) -> Option<Served> {
    let model = models.iter().find(|model| model.answers_for.iter().any(|manifest| manifest.name == name))?;
    let (stand_in, layers) = (model.stand_in().map(str::to_owned), model.card.layers);
    Some(Served { stand_in, limits: model.limits(), layers })
}

/// Warns of waiting requests whose model was served by an earlier start and is not served now.
async fn warn_of_unserved(queue: &Queue, endpoints: &[Endpoint]) -> Result<(), QueueError> {
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

/// Turns signals into stages: the first one drains, the second one ends. `drain` is as good as a signal for the first stage.
fn forward_signals(
    stage: watch::Sender<Stage>,
    closing: watch::Sender<bool>,
    drain: Arc<Notify>,
) -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        for next in [Stage::Drain, Stage::Now] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                () = drain.notified(), if next == Stage::Drain => {}
            }
            tracing::info!(?next, "stopping");
            if next == Stage::Drain {
                service_manager::stopping();
            }
            closing.send_replace(true);
            stage.send_replace(next);
        }
        stage.closed().await;
    })
}

/// Reads the certificate's files again at each SIGHUP. Without TLS that signal ends the server, as a terminal's end should.
fn reload_at_hangup(certificate: Arc<Certificate>) -> std::io::Result<impl Future<Output = ()>> {
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        while hangup.recv().await.is_some() {
            certificate.reload();
        }
    })
}
