//! Namespaces for this process, and why a system refuses them.

use nix::sched::{CloneFlags, unshare};
use rustix::process::{getegid, geteuid};
use std::fmt::Display;

/// Puts this process into a mount and a network namespace of its own; without the right to that, into a user namespace
/// of its own too, which gives it. There the process keeps its user and group. `joined`: into a user namespace in any
/// case, for others to join it.
///
/// # Errors
/// One line that says what to change where the system refuses.
pub(super) fn enter(joined: bool) -> anyhow::Result<()> {
    let own = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET;
    if !joined && unshare(own).is_ok() {
        return Ok(());
    }
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    unshare(own | CloneFlags::CLONE_NEWUSER).map_err(|error| refused("a user namespace", error))?;
    // A process may map its group only after it gave up to change its groups.
    for (file, content) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("{user} {user} 1")),
        ("gid_map", format!("{group} {group} 1")),
    ] {
        std::fs::write(format!("/proc/self/{file}"), content)
            .map_err(|error| refused("a user of a user namespace", error))?;
    }
    Ok(())
}

/// The error for a step that the system refused, with what to change.
pub(super) fn refused(what: &str, error: impl Display) -> anyhow::Error {
    anyhow::anyhow!("the system refuses {what}: {error}: {}", remedy(&System::look()))
}

/// Settings of the kernel that can forbid namespaces.
struct System {
    apparmor_restricts: Option<String>,
    unprivileged_clone: Option<String>,
    most_namespaces: Option<String>,
    seccomp: bool,
}

impl System {
    fn look() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        let status = read("/proc/self/status").unwrap_or_default();
        Self {
            apparmor_restricts: read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
            unprivileged_clone: read("/proc/sys/kernel/unprivileged_userns_clone"),
            most_namespaces: read("/proc/sys/user/max_user_namespaces"),
            seccomp: status.lines().any(|line| line.split_whitespace().eq(["Seccomp:", "2"])),
        }
    }
}

/// What to change.
fn remedy(system: &System) -> &'static str {
    let System { apparmor_restricts, unprivileged_clone, most_namespaces, seccomp } = system;
    if most_namespaces.as_deref() == Some("0") {
        "no user namespaces are allowed here: run `sudo sysctl user.max_user_namespaces=10000`"
    } else if unprivileged_clone.as_deref() == Some("0") {
        "ordinary users may make none: run `sudo sysctl kernel.unprivileged_userns_clone=1`"
    } else if apparmor_restricts.as_deref() == Some("1") {
        "AppArmor restricts those of ordinary users: run `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`"
    } else if *seccomp {
        "a seccomp filter is in force, as in a container: start it with `--security-opt seccomp=unconfined \
         --security-opt apparmor=unconfined`"
    } else {
        "the kernel needs CONFIG_USER_NS and CONFIG_NET_NS, and a process in a chroot gets none"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_way_is_named_with_its_remedy() {
        let free = || System {
            apparmor_restricts: Some("0".into()),
            unprivileged_clone: Some("1".into()),
            most_namespaces: Some("96365".into()),
            seccomp: false,
        };
        assert!(remedy(&free()).contains("CONFIG_USER_NS"));
        assert!(remedy(&System { seccomp: true, ..free() }).contains("--security-opt seccomp=unconfined"));
        let restricted = System { apparmor_restricts: Some("1".into()), ..free() };
        assert!(remedy(&restricted).contains("kernel.apparmor_restrict_unprivileged_userns=0"));
        let old = System { unprivileged_clone: Some("0".into()), ..free() };
        assert!(remedy(&old).contains("kernel.unprivileged_userns_clone=1"));
        let none = System { most_namespaces: Some("0".into()), ..free() };
        assert!(remedy(&none).contains("user.max_user_namespaces"));
    }
}
