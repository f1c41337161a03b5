//! Files that a program sees in place of the system's: the resolver's configuration and trusted certificates. They are mounted
//! over the system's in the program's mount namespace alone.

use super::namespaces::refused;
use super::network::NAME_SERVER;
use crate::intercept::Trust;
use anyhow::Context;
use latentd_fal::is_fal;
use rustix::fs::{Mode, OFlags, open};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};
use rustix::system::uname;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Bundles of certificates that systems trust.
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
];

/// The same for Java.
const JAVA_BUNDLES: [&str; 2] = ["/etc/ssl/certs/java/cacerts", "/etc/pki/ca-trust/extracted/java/cacerts"];

/// Directories in which OpenSSL finds a certificate by a digest of its name.
const HASHED: [&str; 2] = ["/etc/ssl/certs", "/etc/pki/tls/certs"];

/// The name of the authority's certificate there: OpenSSL's digest of its subject, which is the same for all authorities.
const HASHED_NAME: &str = "9bad372c.0";

/// Sockets of programs outside that look up names for others.
const RESOLVERS: [&str; 5] = [
    "/run/systemd/resolve/io.systemd.Resolve",
    "/run/systemd/resolve/io.systemd.Resolve.Monitor",
    "/run/nscd/socket",
    "/var/run/nscd/socket",
    "/run/avahi-daemon/socket",
];

/// Puts the files in place. The directory that is returned is gone when the last process of the namespace is.
pub(super) fn cover(trust: &Trust) -> anyhow::Result<OwnedFd> {
    // What is mounted here must not show outside; what is mounted outside may show here.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(|error| refused("mounts of its own in a mount namespace", error))?;
    let place = &trust.inside;
    let lifetime = mount_empty(place)?;
    for (index, directory) in HASHED.iter().enumerate().filter(|(_, directory)| Path::new(directory).is_dir())
    {
        let copy = place.join(format!("certificates-{index}"));
        let copied = copy_tree(Path::new(directory), &copy)
            .and_then(|()| fs::copy(&trust.certificate, copy.join(HASHED_NAME)));
        copied.with_context(|| copy.display().to_string())?;
        over(&copy, directory)?;
    }
    let bundles = BUNDLES.iter().map(|target| (&*trust.bundle, target));
    let java = JAVA_BUNDLES.iter().map(|target| (&*trust.trust_store, target));
    let resolvers = RESOLVERS.iter().map(|target| (Path::new("/dev/null"), target));
    for (file, target) in bundles.chain(java).chain(resolvers) {
        over(file, target)?;
    }
    let host_name = uname().nodename().to_string_lossy().into_owned();
    for (name, content) in [
        ("hosts", hosts(&read("/etc/hosts"), &host_name)),
        ("resolv.conf", resolv_conf(&read("/etc/resolv.conf"))),
        ("nsswitch.conf", nsswitch_conf(&read("/etc/nsswitch.conf"))),
    ] {
        let file = place.join(name);
        fs::write(&file, content).with_context(|| file.display().to_string())?;
        over(&file, &format!("/etc/{name}"))?;
    }
    Ok(lifetime)
}

/// Mounts an empty file system in memory on a directory, and opens it.
pub(super) fn mount_empty(place: &Path) -> anyhow::Result<OwnedFd> {
    mount("latentd", place, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=755")
        .map_err(|error| refused(&format!("a mount on {}", place.display()), error))?;
    open(place, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .with_context(|| place.display().to_string())
}

/// Mounts a file over another. One that is not there needs none over it, nor does a link to what is not.
fn over(file: &Path, target: &str) -> anyhow::Result<()> {
    match mount_bind(file, target) {
        Ok(()) => Ok(()),
        Err(error) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&error.kind()) => Ok(()),
        Err(error) => Err(refused(&format!("a mount on {target}"), error)),
    }
}

/// A file of the system, or nothing where there is none.
fn read(path: &str) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// Copies what links lead to, too. What cannot be read by this user is of no use to the program either.
fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let (source, target) =
            (entry.as_ref().map(fs::DirEntry::path), entry.as_ref().map(fs::DirEntry::file_name));
        let (Ok(source), Ok(target)) = (source, target.map(|name| to.join(name))) else { continue };
        let copied = match fs::metadata(&source) {
            Ok(known) if known.is_dir() => copy_tree(&source, &target),
            Ok(known) if known.is_file() => fs::copy(&source, &target).map(drop),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        match copied {
            Err(error) if ![ErrorKind::NotFound, ErrorKind::PermissionDenied].contains(&error.kind()) => {
                return Err(error);
            }
            _ => {}
        }
    }
    Ok(())
}

/// The system's hosts without fal's names, which only the name server has; and this machine's own name.
fn hosts(system: &str, host_name: &str) -> String {
    let mut text = format!("127.0.0.1 localhost {host_name}\n::1 localhost\n");
    for line in system.lines() {
        let entry = line.split('#').next().unwrap_or_default();
        let mut words = entry.split_whitespace();
        let address = words.next();
        let names: Vec<_> = words.filter(|name| !is_fal(name)).collect();
        if let (Some(address), false) = (address, names.is_empty()) {
            text.push_str(&format!("{address} {}\n", names.join(" ")));
        }
    }
    text
}

/// The system's file with the name server inside in place of its own.
fn resolv_conf(system: &str) -> String {
    let kept = system.lines().filter(|line| !line.trim_start().starts_with("nameserver"));
    let kept: String = kept.map(|line| format!("{line}\n")).collect();
    format!("nameserver {NAME_SERVER}\n{kept}")
}

/// The system's file, but hosts are looked up in the files above alone: modules for others ask programs outside.
fn nsswitch_conf(system: &str) -> String {
    let kept = system.lines().filter(|line| !line.trim_start().starts_with("hosts:"));
    let kept: String = kept.map(|line| format!("{line}\n")).collect();
    format!("hosts: files dns\n{kept}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_leads_fals_names_elsewhere() {
        let system = "127.0.0.1\tlocalhost\n10.0.0.5 db db.internal # of ours\n# 1.2.3.4 fal.run\n\
                      127.0.0.7 queue.fal.run v3.fal.media\n10.0.0.6 FAL.run. build\n";
        assert_eq!(
            hosts(system, "here"),
            "127.0.0.1 localhost here\n::1 localhost\n127.0.0.1 localhost\n10.0.0.5 db db.internal\n10.0.0.6 build\n"
        );
        let system = "# made by hand\nnameserver 10.0.0.1\n nameserver ::1\nsearch corp.example\n";
        assert_eq!(resolv_conf(system), "nameserver 127.0.0.1\n# made by hand\nsearch corp.example\n");
        assert_eq!(resolv_conf(""), "nameserver 127.0.0.1\n");
        let system = "passwd: files\nhosts:\tfiles mymachines resolve [!UNAVAIL=return] dns\n";
        assert_eq!(nsswitch_conf(system), "hosts: files dns\npasswd: files\n");
    }

    #[test]
    fn a_directory_is_copied_with_what_its_links_lead_to() {
        let root = tempfile::tempdir().expect("a directory");
        let (from, to) = (root.path().join("from"), root.path().join("to"));
        fs::create_dir_all(from.join("java")).expect("a directory");
        fs::write(root.path().join("real.pem"), "words").expect("a file");
        std::os::unix::fs::symlink("../real.pem", from.join("link.0")).expect("a link");
        std::os::unix::fs::symlink("nothing", from.join("broken.0")).expect("a link");
        fs::write(from.join("java/cacerts"), "store").expect("a file");
        copy_tree(&from, &to).expect("a copy");
        assert_eq!(fs::read_to_string(to.join("link.0")).expect("a file"), "words");
        assert_eq!(fs::read_to_string(to.join("java/cacerts")).expect("a file"), "store");
        assert!(!to.join("broken.0").exists() && !to.join("link.0").is_symlink());
    }
}
