//! What a service manager such as systemd is sent: that the process serves, that it stops, and that it is alive
//! (`Type=notify`, `WatchdogSec=`). Without one nothing is sent. Workers of `serve` send nothing: it removes the variables
//! that name the socket.

use sd_notify::NotifyState;
use std::process::Command;
use tokio::time::MissedTickBehavior;

/// Variables by which a process knows its service manager.
const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// Reports that the process does its work from now on.
pub(crate) fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Reports that the process ends, after what is in progress.
pub(crate) fn stopping() {
    send(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// Reports twice in the time that the service manager allows that this runtime still runs its tasks.
pub(crate) async fn keep_alive() {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else { return };
    let mut clock = tokio::time::interval(limit / 2);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        send(&[NotifyState::Watchdog]);
    }
}

/// Has a child process know of no service manager.
pub(crate) fn conceal(command: &mut Command) {
    for name in VARIABLES {
        command.env_remove(name);
    }
}

fn send(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be reached");
    }
}
