//! The flags that say who may use the server.

use super::{ConfigError, refuse};
use crate::args::AccessArgs;
use crate::keys::KeyHash;
use latentd_fal::WebAccess;
use std::net::SocketAddr;
use std::path::Path;
use url::Url;

/// Who may use the server.
#[derive(Debug, Clone)]
pub struct AccessConfig {
    /// Keys that open the API, beside those of the database.
    pub keys: Vec<KeyHash>,
    /// Host names and web pages that count while there are no keys.
    pub web: WebAccess,
    /// Whether each key sees its own requests and files alone.
    pub isolate_keys: bool,
    /// Whether the metrics are read without a key.
    pub metrics_open: bool,
}

pub(super) fn parse(
    args: &AccessArgs,
    listen: SocketAddr,
    public_url: Option<&Url>,
) -> Result<AccessConfig, ConfigError> {
    let AccessArgs { api_keys, api_key_file, allow_host, allow_origin, isolate_keys, metrics_open } = args;
    let given = api_keys.iter().map(|key| key.trim()).filter(|key| !key.is_empty());
    let mut keys: Vec<KeyHash> = given.map(KeyHash::of).collect();
    if let Some(path) = api_key_file.as_deref() {
        keys.extend(keys_in(path)?);
    }
    let mut web = WebAccess::default();
    web.allow_address(listen.ip());
    if let Some(url) = public_url {
        let host = url.host_str().unwrap_or_default();
        let allowed = web.allow_host(host).and_then(|()| web.allow_origin(&url[..url::Position::BeforePath]));
        allowed.map_err(|why| ConfigError(format!("--public-url {url}: {why}")))?;
    }
    for host in words(allow_host) {
        web.allow_host(host).map_err(|why| ConfigError(format!("--allow-host {host}: {why}")))?;
    }
    for origin in words(allow_origin) {
        web.allow_origin(origin).map_err(|why| ConfigError(format!("--allow-origin {origin}: {why}")))?;
    }
    Ok(AccessConfig { keys, web, isolate_keys: *isolate_keys, metrics_open: *metrics_open })
}

/// The values of a list, which may end in a comma.
fn words(given: &[String]) -> impl Iterator<Item = &str> {
    given.iter().map(|text| text.trim()).filter(|text| !text.is_empty())
}

/// A file without a key is a mistake: the server would be open.
fn keys_in(path: &Path) -> Result<Vec<KeyHash>, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError(format!("--api-key-file {}: {error}", path.display())))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys: Vec<KeyHash> = lines.map(KeyHash::of).collect();
    match keys.is_empty() {
        true => refuse(format!("--api-key-file {}: there is no key in it", path.display())),
        false => Ok(keys),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_around_a_key_is_not_of_it() -> Result<(), Box<dyn std::error::Error>> {
        let api_keys = ["first:one", " second:two ", ""].map(str::to_owned).to_vec();
        let (api_key_file, allow_host, allow_origin) = (None, Vec::new(), Vec::new());
        let (isolate_keys, metrics_open) = (false, false);
        let args =
            AccessArgs { api_keys, api_key_file, allow_host, allow_origin, isolate_keys, metrics_open };
        let access = parse(&args, "127.0.0.1:80".parse()?, None)?;
        assert_eq!(access.keys, [KeyHash::of("first:one"), KeyHash::of("second:two")]);
        Ok(())
    }

    #[test]
    fn a_file_has_a_key_a_line() -> Result<(), Box<dyn std::error::Error>> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("keys");
        std::fs::write(&path, "# ours\n first:one \n\nsecond:two\n")?;
        assert_eq!(keys_in(&path)?, [KeyHash::of("first:one"), KeyHash::of("second:two")]);
        std::fs::write(&path, "# none\n")?;
        assert!(keys_in(&path).is_err_and(|error| error.0.contains("no key")));
        assert!(keys_in(&directory.path().join("missing")).is_err());
        Ok(())
    }
}
