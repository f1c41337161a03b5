//! Where things are kept: the data directory, Hugging Face's cache, the safety checker; and the port.

use super::Finding;
use crate::args::HuggingFaceArgs;
use crate::config::{EngineConfig, StoreConfig, safety};
use crate::data_dir;
use crate::machine::{disk, gigabytes};
use latentd_models::SafetyOptions;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Less free disk than this is told.
const LITTLE: u64 = 1_000_000_000;

/// How long whoever has the port gets to say who it is.
const PATIENCE: Duration = Duration::from_millis(500);

/// The data directory, and the disk below it.
pub(super) fn data(store: &StoreConfig) -> Vec<Finding> {
    let (about, place) = ("data directory", store.data_dir.display().to_string());
    let first = match data_dir::probe(&store.data_dir) {
        Ok(true) => Finding::good(about, place),
        Ok(false) => Finding::good(about, format!("{place}, which `serve` will make")),
        Err(error) => Finding::error(about, &error),
    };
    vec![first, free_disk("disk", &store.data_dir)]
}

fn free_disk(about: &str, path: &Path) -> Finding {
    match disk(path) {
        None => Finding::warning(about, "unknown", "this system does not tell how much is free"),
        Some(disk) => {
            let found = format!("{} free, {}", gigabytes(disk.free), disk.file_system);
            match disk.free < LITTLE {
                true => Finding::warning(about, found, "make room, or put --data-dir elsewhere"),
                false => Finding::good(about, found),
            }
        }
    }
}

/// Hugging Face's cache with what is in it, and whether there is a token, which is never shown.
pub(super) fn hugging_face(args: &HuggingFaceArgs) -> Vec<Finding> {
    let given = |path: &Option<PathBuf>| path.clone().filter(|path| !path.as_os_str().is_empty());
    let Some(home) = given(&args.hf_home).or_else(crate::args::default_hugging_face_home) else {
        let advice = "set HF_HOME to a folder to fetch models";
        return vec![Finding::warning("hub cache", "no place: there is no home", advice)];
    };
    let cache = given(&args.hf_hub_cache).unwrap_or_else(|| home.join("hub"));
    let free = disk(&cache).map_or("unknown".to_owned(), |disk| gigabytes(disk.free));
    let has_token = args.hf_token.as_ref().is_some_and(|token| !token.trim().is_empty());
    let has_token = has_token || home.join("token").is_file();
    let token = match has_token {
        true => Finding::good("hub token", "there is one"),
        false => {
            Finding::good("hub token", "none; gated models such as SD3.5 need one to be fetched: HF_TOKEN")
        }
    };
    let mut findings = vec![Finding::good("hub cache", format!("{}, {free} free", cache.display())), token];
    findings.push(Finding::good("model", "mini: built in"));
    findings.extend(cached(&cache));
    findings
}

/// Models in the cache: a download that is not done leaves a file that says so.
fn cached(cache: &Path) -> Vec<Finding> {
    let names = |path: PathBuf| {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
    };
    let mut folders: Vec<_> =
        names(cache.to_path_buf()).filter(|name| name.starts_with("models--")).collect();
    folders.sort();
    let model = |folder: String| {
        let id = folder.trim_start_matches("models--").replacen("--", "/", 1);
        let is_incomplete =
            names(cache.join(&folder).join("blobs")).any(|name| name.ends_with(".incomplete"));
        match is_incomplete {
            true => {
                let advice = format!("go on with `latentd models pull {id}`");
                Finding::warning("model", format!("{id}: fetched in part"), advice)
            }
            false => Finding::good("model", format!("{id}: in the cache")),
        }
    };
    folders.into_iter().map(model).collect()
}

/// What looks for unsafe pictures.
pub(super) fn checker(engine: &EngineConfig, options: &SafetyOptions) -> Finding {
    match options.verify(&engine.model) {
        Err(error) => Finding::error("safety checker", &error),
        Ok(true) => Finding::good("safety checker", format!("found, threshold {}", options.threshold)),
        Ok(false) => match safety::warning(options, false) {
            Some(warning) => {
                Finding { state: super::State::Warning, ..Finding::good("safety checker", warning) }
            }
            None => Finding::good("safety checker", "none, as asked for"),
        },
    }
}

/// Whether the port is free, or whose it is.
pub(super) fn port(address: SocketAddr) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => Finding::good("port", format!("{address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let who = if is_latentd(address) { "another `latentd serve`" } else { "another program" };
            Finding::wrong(
                "port",
                format!("{address} is taken by {who}"),
                "stop it, or give another --listen",
            )
        }
        Err(error) => Finding::wrong("port", format!("{address}: {error}"), "give another --listen"),
    }
}

/// Asks whoever has the port as health checks do.
fn is_latentd(address: SocketAddr) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET /health/live HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut answer = [0; 2048];
        let read = stream.read(&mut answer)?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer[..read]).to_ascii_lowercase())
    };
    ask().is_ok_and(|answer| answer.contains(r#"{"status":"live"}"#))
}
