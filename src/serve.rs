//! `latentd serve`: puts the parts together, and takes them apart in order.

use crate::config::{ConfigError, ModelSource, ServeConfig, safety};
use crate::data_dir::{self, DataDirError};
use crate::http::{self, Api, Lines};
use crate::intercept::{InterceptError, Interceptor};
use crate::keys::KeyRing;
use crate::queue::{Lost, Queue, QueueError};
use crate::request::Limits;
use crate::signing::{SigningError, SigningKey};
use crate::storage::{Storage, StorageError};
use crate::supervisor::{self, Stage};
use crate::sweep;
use crate::webhooks::Deliverer;
use latentd_models::ModelCard;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How often leases that ran out are looked for.
const LOOK: Duration = Duration::from_secs(1);

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
    /// The key that signs webhooks.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// The model's description.
    #[error(transparent)]
    Model(#[from] latentd_models::Error),
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

/// Serves until a signal, then drains: running requests end or go back to the queue.
///
/// # Errors
/// When something the server stands on cannot be opened.
pub async fn serve(config: ServeConfig) -> Result<(), ServeError> {
    let card = card(&config.model)?;
    check_safety_checker(&config)?;
    if !config.store.database.exists() {
        check_reach(&config, &KeyRing::new(config.keys.clone()))?; // before anything is made
    }
    let _lock = data_dir::hold(&config.store.data_dir)?;
    let queue = Queue::open(&config.store.database, Arc::new(jiff::Timestamp::now)).await?;
    let keys = KeyRing::new(config.keys.clone());
    keys.refresh(&queue).await?;
    check_reach(&config, &keys)?;
    if !config.engines.is_empty() {
        let orphans = queue.reclaim(Lost::Everything).await?;
        if orphans.waiting > 0 {
            tracing::info!(
                requests = orphans.waiting,
                "requests that a stopped server left running start again"
            );
        }
    }
    queue.release_webhooks().await?;
    let signing = Arc::new(SigningKey::open(&config.store.data_dir)?);
    let listener =
        TcpListener::bind(config.listen).await.map_err(|error| ServeError::Listen(config.listen, error))?;
    let address = listener.local_addr()?;
    let interceptor = match config.intercept.clone() {
        Some(settings) => {
            let needs_key = !config.keys.is_empty();
            Some(Interceptor::open(&config.store.data_dir, settings, needs_key).await?)
        }
        None => None,
    };

    let (closing, is_closing) = watch::channel(false);
    let storage = Storage::local(&config.store.files)?;
    let api = Api {
        queue: queue.clone(),
        storage: storage.clone(),
        limits: limits(&card),
        keys: keys.clone(),
        public_url: config.public_url.clone(),
        trusted_proxies: config.trusted_proxies.clone(),
        max_queue: config.max_queue,
        max_upload: config.max_upload,
        validate_on_submit: config.validate_on_submit,
        egress: config.egress.clone(),
        signing: signing.clone(),
        run_patience: config.run_patience,
        lines: Lines::default(),
        closing: is_closing,
    };
    let (stage, stages) = watch::channel(Stage::Run);
    tokio::spawn(hear_signals(stage, closing)?);
    tokio::spawn(watch_times(queue.clone()));
    let is_shared = !config.store.files.starts_with(&config.store.data_dir);
    tokio::spawn(sweep::run(queue.clone(), storage, is_shared));
    tokio::spawn(keys.clone().follow(queue.clone()));
    greet(&config, &card, address, keys.is_open());
    if let Some(interceptor) = &interceptor {
        greet_unchanged(&config, interceptor.address());
    }

    let program = std::env::current_exe()?;
    let (workers_gone, all_gone) = watch::channel(false);
    let [stop, no_more, no_calls] = [(); 3].map(|()| while_false(all_gone.clone()));
    let deliverer = Deliverer::new(queue.clone(), config.egress.clone(), move |webhook, outcome| {
        http::webhook_message(&signing, webhook, outcome)
    });
    let now = stages.clone();
    let tell = async {
        tokio::select! { () = deliverer.run(no_more) => {}, () = second_signal(now) => {} }
    };
    let work = async {
        supervisor::supervise(&config, &program, &queue, stages.clone()).await;
        let mut stages = stages;
        let _ = stages.wait_for(|stage| *stage > Stage::Run).await;
        workers_gone.send_replace(true);
    };
    let router = http::router(api);
    let answer_for_fal = async {
        if let Some(interceptor) = interceptor {
            interceptor.run(router.clone(), no_calls).await;
        }
    };
    tokio::join!(http::listen(listener, router.clone(), stop), answer_for_fal, work, tell);
    if let Err(error) = keys.write_uses(&queue).await {
        tracing::warn!(%error, "last uses of keys not written down");
    }
    queue.close().await;
    tracing::info!("stopped");
    Ok(())
}

async fn while_false(mut flag: watch::Receiver<bool>) {
    let _ = flag.wait_for(|flag| *flag).await;
}

/// Whoever asks twice does not wait for receivers: what is on its way is sent again by the next start.
async fn second_signal(mut stages: watch::Receiver<Stage>) {
    let _ = stages.wait_for(|stage| *stage >= Stage::Now).await;
}

/// Refuses to be open to other machines.
fn check_reach(config: &ServeConfig, keys: &KeyRing) -> Result<(), ConfigError> {
    if config.listen.ip().is_loopback() || !keys.is_open() {
        return Ok(());
    }
    Err(ConfigError(format!(
        "--listen {} is reachable from other machines: make a key with `latentd keys create`, set --api-key (or LATENTD_API_KEY), or listen on 127.0.0.1",
        config.listen
    )))
}

/// What can be asked of a model.
fn limits(card: &ModelCard) -> Limits {
    Limits { max_side: card.max_side }
}

fn card(model: &ModelSource) -> Result<ModelCard, latentd_models::Error> {
    match model {
        ModelSource::Mini => ModelCard::builtin(),
        ModelSource::Directory(path) => ModelCard::read(path),
    }
}

/// Says now what every worker would fail on, or paint without.
fn check_safety_checker(config: &ServeConfig) -> Result<(), latentd_models::Error> {
    if config.engines.is_empty() {
        return Ok(()); // workers elsewhere have checkers of their own
    }
    let has_checker = config.safety.verify(config.model.directory())?;
    if let Some(warning) = safety::warning(&config.safety, has_checker) {
        tracing::warn!("{warning}");
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

/// Ends what did not start in time, and puts back what workers without a supervisor left behind.
async fn watch_times(queue: Queue) {
    let mut clock = tokio::time::interval(LOOK);
    loop {
        clock.tick().await;
        match queue.expire_late().await {
            Ok(0) => {}
            Ok(late) => tracing::info!(late, "requests did not start in time"),
            Err(error) => tracing::warn!(%error, "times to start not checked"),
        }
        match queue.reclaim_expired().await {
            Ok(reclaimed) if reclaimed.waiting + reclaimed.ended > 0 => {
                tracing::warn!(?reclaimed, "leases ran out");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "leases not checked"),
        }
    }
}

/// Says where the server is and how to use it.
fn greet(config: &ServeConfig, card: &ModelCard, address: SocketAddr, is_open: bool) {
    let url = match &config.public_url {
        Some(url) => url.as_str().trim_end_matches('/').to_owned(),
        None if address.ip().is_unspecified() => format!("http://localhost:{}", address.port()),
        None => format!("http://{address}"),
    };
    let (key, header) = match is_open {
        true => ("local:key", ""),
        false => ("YOUR_KEY", " -H 'Authorization: Key YOUR_KEY'"),
    };
    let text = format!(
        r#"latentd listens on {url}
model: {name}

Try it:
  curl {url}/run/fal-ai/stable-diffusion-v35-large{header} -H 'Content-Type: application/json' \
    -d '{{"prompt": "a red house on the left of a lake at sunset, two boats"}}'

Point a program that uses @fal-ai/client here:
  import {{ fal }} from "@fal-ai/client";
  fal.config({{ credentials: "{key}", proxyUrl: {{ url: "{url}/api/fal/proxy", when: "always" }} }});

"#,
        name = card.name
    );
    // Nobody may be listening; the server runs all the same.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Says how programs that nobody changes come here.
fn greet_unchanged(config: &ServeConfig, address: SocketAddr) {
    let data_dir = config.store.data_dir.display();
    let text = format!(
        r#"Run programs that you do not change, in Python or Node, from a shell in which you said
  eval "$(latentd env --data-dir '{data_dir}')"
which makes https://fal.run and fal's other hosts the port {address}.

"#
    );
    let _ = std::io::stdout().write_all(text.as_bytes());
}
