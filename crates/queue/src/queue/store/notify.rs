//! Signals between processes, by LISTEN and NOTIFY of PostgreSQL.
//!
//! A signal is a hint: whoever waits also looks at the tables now and then, and after a connection was lost everybody
//! looks, because signals may have been missed. It needs a session of its own, so a pooler in front of the server must
//! pool sessions, not transactions.

use super::statement::in_time;
use crate::queue::Events;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use std::time::Duration;
use tokio::task::JoinHandle;
use uuid::Uuid;

const CHANNEL: &str = "latentd";

/// Signals of so long go out as one: a commit with NOTIFY takes a lock that all of the server's commits share.
const TOGETHER: Duration = Duration::from_millis(10);

/// How long to wait before a connection is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// After so long without a signal the connection is made anew: one that was cut off silently would never bring another.
const SILENCE: Duration = Duration::from_secs(60);

/// The tasks that pass signals on, until this is dropped.
pub(in super::super) struct Signals([JoinHandle<()>; 2]);

impl Drop for Signals {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// Passes the signals of this process on to the others, and theirs to it.
pub(in super::super) fn spawn(pool: &PgPool, events: &Events) -> Signals {
    let us = Uuid::new_v4().to_string();
    let send = tokio::spawn(send(pool.clone(), events.clone(), us.clone()));
    Signals([send, tokio::spawn(receive(pool.clone(), events.clone(), us))])
}

async fn send(pool: PgPool, events: Events, us: String) {
    let mut ours = events.ours();
    let (mut work, mut moved) = *ours.borrow_and_update();
    while ours.changed().await.is_ok() {
        let now = *ours.borrow_and_update();
        let words = [("work", now.0 != work), ("moved", now.1 != moved)];
        for (word, _) in words.into_iter().filter(|(_, is_new)| *is_new) {
            let notify = sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(format!("{word} {us}"));
            if let Err(error) = notify.execute(&pool).await {
                tracing::debug!(%error, "a signal was not sent: the others look by themselves");
            }
        }
        (work, moved) = now;
        tokio::time::sleep(TOGETHER).await;
    }
}

async fn receive(pool: PgPool, events: Events, us: String) {
    while !pool.is_closed() {
        match in_time(connect(&pool)).await {
            Ok(listener) => {
                wake(&events, ""); // signals from before this connection were missed
                let error = pool.close_event().do_until(listen(listener, &events, &us)).await;
                let error = error.unwrap_or_else(|closed| closed);
                tracing::debug!(%error, "cannot listen for signals of other processes; polling goes on");
            }
            Err(error) => tracing::debug!(%error, "signals of other processes cannot be received yet"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// A connection that is none of the pool's: at its end a listener waits for the server without a limit, and closing the pool
/// would wait for that.
async fn connect(pool: &PgPool) -> Result<PgListener, sqlx::Error> {
    let options = PgConnectOptions::clone(&pool.connect_options());
    let own = PgPoolOptions::new().max_connections(1).connect_lazy_with(options);
    let mut listener = PgListener::connect_with(&own).await?;
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

/// Until the connection fails in a way that the listener does not repair.
async fn listen(mut listener: PgListener, events: &Events, us: &str) -> sqlx::Error {
    loop {
        let received = tokio::time::timeout(SILENCE, listener.try_recv()).await;
        match received.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into())) {
            Ok(Some(signal)) => match signal.payload().split_once(' ') {
                Some((_, sender)) if sender == us => {}
                Some((word, _)) => wake(events, word),
                None => wake(events, ""),
            },
            Ok(None) => wake(events, ""), // connected anew
            Err(error) => return error,
        }
    }
}

fn wake(events: &Events, word: &str) {
    if word != "moved" {
        events.received_work();
    }
    if word != "work" {
        events.received_moved();
    }
}
