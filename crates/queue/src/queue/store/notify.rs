//! Signals between processes, by LISTEN and NOTIFY of PostgreSQL.
//!
//! A signal is a hint: whoever waits also looks at the tables now and then, and after a connection was lost everybody
//! looks, because signals may have been missed. It needs a session of its own, so a pooler in front of the server must
//! pool sessions, not transactions.

use crate::queue::Events;
use sqlx::PgPool;
use sqlx::postgres::PgListener;
use std::time::Duration;
use tokio::task::JoinHandle;
use uuid::Uuid;

const CHANNEL: &str = "latentd";

/// Signals of so long go out as one: a commit with NOTIFY takes a lock that all of the server's commits share.
const TOGETHER: Duration = Duration::from_millis(10);

/// How long to wait before a connection is tried again.
const AGAIN: Duration = Duration::from_secs(1);

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
        let listener = async {
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.listen(CHANNEL).await?;
            Ok::<_, sqlx::Error>(listener)
        };
        match listener.await {
            Ok(listener) => {
                wake(&events, ""); // signals from before this connection were missed
                let error = listen(listener, &events, &us).await;
                tracing::debug!(%error, "cannot listen for signals of other processes; polling goes on");
            }
            Err(error) => tracing::debug!(%error, "signals of other processes cannot be received yet"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Until the connection fails in a way that the listener does not repair.
async fn listen(mut listener: PgListener, events: &Events, us: &str) -> sqlx::Error {
    loop {
        match listener.try_recv().await {
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
