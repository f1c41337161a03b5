//! Waits for a PostgreSQL database or a bucket that is away when the server starts, and answers clients meanwhile.

use super::ServeError;
use super::services::listen;
use crate::config::ServeConfig;
use crate::fault::Fault;
use crate::identity::IdentityError;
use latentd_fal::Connections;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// First and longest pause between attempts.
const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(5)];

/// How long a client gets no connection: an attempt to open a store that is away may take longer.
const SILENCE: Duration = Duration::from_secs(1);

/// The status while it is not known yet whether something is away.
const STARTING: &str = "starting";

/// A start that may have to wait.
#[derive(Default)]
pub(super) struct StartupWait {
    /// From when something was waited for first.
    answering: Option<Answering>,
}

/// The port, and the task that answers there.
struct Answering {
    listener: std::net::TcpListener,
    status: watch::Sender<&'static str>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl StartupWait {
    /// Repeats `open` until it succeeds or fails for a reason that does not pass by itself.
    pub(super) async fn until<T>(
        &mut self,
        config: &ServeConfig,
        open: impl AsyncFn() -> Result<T, ServeError>,
    ) -> Result<T, ServeError> {
        let [mut pause, longest] = PAUSES;
        loop {
            let mut opening = std::pin::pin!(open());
            let opened = tokio::select! {
                opened = &mut opening => opened,
                () = tokio::time::sleep(SILENCE) => {
                    self.answer(config, STARTING).await?;
                    opening.await
                }
            };
            let error = match opened {
                Ok(opened) => return Ok(opened),
                Err(error) => error,
            };
            let Some(status) = unavailable(config, &error) else { return Err(error) };
            self.answer(config, status).await?;
            tracing::warn!(?pause, "{error}: waiting for it, and answering 503 meanwhile");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// Answers clients with 503 from now on.
    async fn answer(&mut self, config: &ServeConfig, status: &'static str) -> Result<(), ServeError> {
        if let Some(answering) = &self.answering {
            if status != STARTING {
                answering.status.send_replace(status);
            }
            return Ok(());
        }
        let listener = listen(config).await?.into_std()?;
        // Of the two handles of one socket, this one is closed when the server is ready: no client is refused in between.
        let shared = TcpListener::from_std(listener.try_clone()?)?;
        let ((status, statuses), (stop, stopped)) = (watch::channel(status), watch::channel(false));
        let router = latentd_fal::starting_router(statuses);
        let connections = Arc::new(Connections::new(None, config.trusted_proxies.clone()));
        let plain = async |stream| Some(stream);
        let stop_signal = super::is_true(stopped);
        let task = tokio::spawn(latentd_fal::listen_through(shared, plain, router, connections, stop_signal));
        tracing::warn!(
            "listening on {}, where calls get 503 until the server is ready",
            listener.local_addr()?
        );
        self.answering = Some(Answering { listener, status, stop, task });
        Ok(())
    }

    /// Ends the answers; the port is still listened on, if it was.
    pub(super) async fn end(self) -> Result<Option<TcpListener>, ServeError> {
        let Some(Answering { listener, stop, task, .. }) = self.answering else { return Ok(None) };
        stop.send_replace(true);
        let _ = task.await;
        Ok(Some(TcpListener::from_std(listener)?))
    }
}

/// What `/health/ready` reports while it is waited for what an error is about; `None`: waiting would not help. A database
/// in a file is not waited for: what is wrong there, only the operator can change.
fn unavailable(config: &ServeConfig, error: &ServeError) -> Option<&'static str> {
    match error {
        ServeError::Queue(error) | ServeError::Identity(IdentityError::Queue(error)) => {
            let is_server = config.store.database.path().is_none();
            (is_server && error.is_machines()).then_some("database unavailable")
        }
        ServeError::Storage(error) | ServeError::Identity(IdentityError::Storage(error)) => {
            error.is_away().then_some("storage unavailable")
        }
        _ => None,
    }
}
