//! Waits for a PostgreSQL database or a bucket that is away when the server starts, and answers clients meanwhile.

use super::ServeError;
use super::listeners::Answering;
use crate::config::{ServeConfig, StoreConfig};
use crate::fault::Fault;
use crate::identity::IdentityError;
use std::time::Duration;
use tokio_rustls::TlsAcceptor;

/// First and longest pause between attempts.
const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(5)];

/// How long a client gets no connection: an attempt to open a store that is away may take longer.
const SILENCE: Duration = Duration::from_secs(1);

/// The status while it is not known yet whether something is away.
const STARTING: &str = "starting";

/// A start that may have to wait.
pub(super) struct StartupWait {
    /// From when something was waited for first.
    answering: Option<Answering>,
    tls: Option<TlsAcceptor>,
}

impl StartupWait {
    pub(super) fn new(tls: Option<TlsAcceptor>) -> Self {
        Self { answering: None, tls }
    }

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
                () = tokio::time::sleep(SILENCE), if is_elsewhere(&config.store) => {
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
        self.answering = Some(Answering::start(config, self.tls.clone(), status).await?);
        Ok(())
    }

    /// Ends the wait. Where there was one, the port is answered already.
    pub(super) fn end(self) -> Option<Answering> {
        self.answering
    }
}

/// Whether another process, which may be away, keeps the database or the files.
fn is_elsewhere(store: &StoreConfig) -> bool {
    store.database.path().is_none() || store.files.bucket().is_some()
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
