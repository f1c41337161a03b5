//! The data directory, Hugging Face's cache, the port, and the namespaces of `latentd run`.

use super::Finding;
use crate::config::{HubConfig, ServeConfig, StoreConfig};
use crate::data_dir;
use crate::hub_models::list::{self, ListedModel};
use crate::isolate;
use crate::queue::Database;
use crate::serve::{ServeError, preflight};
use crate::system::{disk, gigabytes};
use crate::tls::Certificate;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

/// Bytes of free disk below which a warning is given.
const LITTLE: u64 = 1_000_000_000;

/// How long the program that has the port gets to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// The data directory, and the disk below it.
pub(super) fn data(store: &StoreConfig) -> Vec<Finding> {
    let (about, place) = ("data directory", store.data_dir.display().to_string());
    let first = match data_dir::probe(&store.data_dir) {
        Ok(true) => Finding::good(about, place),
        Ok(false) => Finding::good(about, format!("{place}, which `serve` will make")),
        Err(error) => Finding::error(about, &error),
    };
    [first, free_disk("disk", &store.data_dir)].into_iter().chain(database(&store.database)).collect()
}

/// A database server, and whether `serve` could use it.
fn database(database: &Database) -> Option<Finding> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    match runtime.block_on(database.look()) {
        Ok(version) => {
            version.map(|version| Finding::good("database", format!("{database}, PostgreSQL {version}")))
        }
        Err(error) => Some(Finding::error("database", &format_args!("{database}: {error}"))),
    }
}

/// A bucket of files, and whether `serve` could use it; `None` where files are in a directory.
pub(super) fn bucket(store: &StoreConfig) -> Option<Finding> {
    let about = "storage";
    let bucket = store.files.bucket()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    Some(match runtime.block_on(preflight::check_storage(store)) {
        Ok(()) => Finding::good(about, format!("{bucket} can be listed, read and written")),
        Err(error) => Finding::error(about, &error),
    })
}

fn free_disk(about: &str, path: &Path) -> Finding {
    match disk(path) {
        None => Finding::warning(about, "unknown", "this system does not report free space"),
        Some(disk) => {
            let found = format!("{} free, {}", gigabytes(disk.free), disk.file_system);
            match disk.free < LITTLE {
                true => Finding::warning(about, found, "free some, or put --data-dir elsewhere"),
                false => Finding::good(about, found),
            }
        }
    }
}

/// Hugging Face's cache with what is in it, and whether there is a token, which is never shown.
pub(super) fn hugging_face(hub: &HubConfig) -> Vec<Finding> {
    let free = disk(&hub.cache).map_or("unknown".to_owned(), |disk| gigabytes(disk.free));
    let token = match hub.token.is_some() || hub.token_path.is_file() {
        true => "there is one",
        false => "none; gated models such as SD3.5 need one to be fetched: HF_TOKEN",
    };
    let cache = format!("{}, {free} free", hub.cache.display());
    let mut findings = vec![Finding::good("hub cache", cache), Finding::good("hub token", token)];
    findings.push(Finding::good("model", "mini: built in"));
    match list::all(hub) {
        Ok(listed) => findings.extend(listed.into_iter().filter_map(listed_model)),
        Err(error) => findings.push(Finding::warning("hub cache", error.to_string(), "see the line above")),
    }
    findings
}

/// A model of the hub, unless nothing of it is here.
fn listed_model(listed: ListedModel) -> Option<Finding> {
    let ListedModel { name, bytes, path, .. } = listed;
    let size = gigabytes(bytes.unwrap_or_default());
    match (path, listed.state) {
        (Some(_), _) => Some(Finding::good("model", format!("{name}: in the cache, {size}"))),
        (None, "incomplete") => {
            let advice = format!("go on with `latentd models pull {name}`");
            Some(Finding::warning("model", format!("{name}: fetched in part, {size}"), advice))
        }
        _ => None,
    }
}

/// Whether the address can be listened on, and whether the server may be reached there.
pub(super) fn listen(config: &ServeConfig) -> Vec<Finding> {
    let mut findings = vec![port(config.listen)];
    // Keys of an existing database are not looked at: to open it could change it.
    let has_keys = !config.access.keys.is_empty() || config.store.database.exists();
    if let Err(error) = preflight::check_reach(config, !has_keys) {
        findings.push(Finding::error("port", &error));
    }
    findings
}

/// Whether the certificate can be used, if there is one.
pub(super) fn certificate(config: &ServeConfig) -> Option<Finding> {
    let files = config.tls.clone()?;
    let found = files.certificate.display().to_string();
    Some(match Certificate::open(files) {
        Ok(_) => Finding::good("certificate", found),
        Err(error) => Finding::error("certificate", &error),
    })
}

/// Whether the port is free, or which process has it.
fn port(address: SocketAddr) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => Finding::good("port", format!("{address} is free")),
        Err(error) => {
            let advice = match error.kind() {
                ErrorKind::AddrInUse if is_latentd(address) => {
                    "another `latentd serve` has it: stop it, or give another --listen"
                }
                ErrorKind::AddrInUse => "another program has it: stop it, or give another --listen",
                _ => "give another --listen",
            };
            Finding::wrong("port", ServeError::Listen(address, error).to_string(), advice)
        }
    }
}

/// Whether `latentd run` can keep programs from everything but this server.
pub(super) fn namespaces() -> Finding {
    let about = "latentd run";
    match isolate::works() {
        Ok(()) => Finding::good(about, "works here: the system gives namespaces"),
        Err(why) => Finding::warning(
            about,
            why,
            "programs reach the server by `latentd env`, or as README.md describes",
        ),
    }
}

/// Asks the program that has the port, as health checks do.
fn is_latentd(address: SocketAddr) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&address, ANSWER_TIMEOUT)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.write_all(b"GET /health/live HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut answer = [0; 2048];
        let read = stream.read(&mut answer)?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer[..read]).to_ascii_lowercase())
    };
    ask().is_ok_and(|answer| answer.contains(r#"{"status":"live"}"#))
}
