//! `latentd env`: what a shell sets so that its programs reach this machine in place of fal.

use super::folder::{self, BUNDLE, CERTIFICATE, PRELOAD, PYTHON, Running};
use crate::args::EnvArgs;
use crate::config::StoreConfig;
use crate::queue::{Database, Queue};
use anyhow::Context;
use jiff::Timestamp;
use latentd_fal::FAL_DOMAINS;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A server on this machine accepts at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Hosts that need no proxy on any machine. `::1` is left out: some clients take it for a host with a port.
const LOCAL: [&str; 2] = ["localhost", "127.0.0.1"];

/// Prints the variables for a POSIX shell to evaluate.
pub(crate) async fn run(args: EnvArgs) -> anyhow::Result<()> {
    let store = StoreConfig::resolve(args.store.clone().into())?;
    let data_dir = store.data_dir.display();
    let running = folder::running(&store.data_dir).with_context(|| format!("data directory {data_dir}"))?;
    let Some(Running { address, needs_key }) = running else {
        anyhow::bail!(
            "no server ran with --intercept in {data_dir}: start `latentd serve --intercept`, or give the --data-dir of the one that runs"
        );
    };
    if TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).is_err() {
        eprintln!("latentd: nothing listens on {address} now: start `latentd serve --intercept {address}`");
    }
    let variables = variables(&args, address, &folder::path(&store.data_dir))?;
    println!("# Programs of this shell reach latentd on {address} as fal.");
    for (name, value) in variables {
        println!("export {name}={}", quoted(&value));
    }
    if needs_key || has_keys(&store.database).await? {
        println!(
            "# FAL_KEY: this server asks for a key. export FAL_KEY=\"$(latentd keys create --name NAME)\""
        );
        eprintln!(
            "latentd: this server asks for a key: export FAL_KEY=\"$(latentd keys create --name NAME)\", or one that you have"
        );
    } else {
        println!("export FAL_KEY='local:key'");
    }
    Ok(())
}

fn variables(
    before: &EnvArgs,
    address: SocketAddr,
    folder: &Path,
) -> anyhow::Result<Vec<(&'static str, String)>> {
    let proxy = format!("http://{address}");
    let file = |name: &str| {
        let path = folder.join(name);
        let text = path.to_str().map(str::to_owned);
        text.with_context(|| format!("{}: the name of the data directory must be UTF-8", path.display()))
    };
    let (authority, bundle) = (file(CERTIFICATE)?, file(BUNDLE)?);
    let no_proxy = unproxied(&format!("{},{}", before.no_proxy, before.lower_no_proxy));
    Ok(vec![
        ("HTTPS_PROXY", proxy.clone()),
        ("https_proxy", proxy.clone()),
        ("WSS_PROXY", proxy.clone()),
        ("wss_proxy", proxy),
        ("NO_PROXY", no_proxy.clone()),
        ("no_proxy", no_proxy),
        ("SSL_CERT_FILE", bundle.clone()),
        ("REQUESTS_CA_BUNDLE", bundle.clone()),
        ("CURL_CA_BUNDLE", bundle),
        ("NODE_EXTRA_CA_CERTS", authority),
        ("NODE_USE_ENV_PROXY", "1".to_owned()),
        ("NODE_OPTIONS", preloading(&before.node_options, &file(PRELOAD)?)),
        ("PYTHONPATH", leading(&before.python_path, &file(PYTHON)?)),
    ])
}

/// `NODE_OPTIONS` and `PYTHONPATH` without what a shell that evaluated `latentd env` has there.
pub(crate) fn without_preloads(data_dir: &Path, node_options: &str, python_path: &str) -> (String, String) {
    let folder = folder::path(data_dir);
    let [preload, python] = [PRELOAD, PYTHON].map(|name| folder.join(name).display().to_string());
    let others = python_path.split(':').filter(|other| *other != python);
    (node_options.replace(&requiring(&preload), "").trim().to_owned(), others.collect::<Vec<_>>().join(":"))
}

/// The option by which Node loads a file first.
fn requiring(path: &str) -> String {
    format!("--require \"{}\"", path.replace('\\', "\\\\").replace('"', "\\\""))
}

/// `NODE_OPTIONS` with the preload added, once, however often a shell evaluates it.
fn preloading(options: &str, path: &str) -> String {
    let flag = requiring(path);
    if options.contains(&flag) { options.to_owned() } else { format!("{options} {flag}").trim().to_owned() }
}

/// `PYTHONPATH` with the folder first, once.
fn leading(paths: &str, path: &str) -> String {
    let others = paths.split(':').filter(|other| !other.is_empty() && *other != path);
    [path].into_iter().chain(others).collect::<Vec<_>>().join(":")
}

/// What takes no proxy, without what would let calls for fal past it.
fn unproxied(listed: &str) -> String {
    let entries =
        listed.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty() && !frees_fal(entry));
    let mut kept = LOCAL.to_vec();
    for entry in entries {
        if !kept.contains(&entry) {
            kept.push(entry);
        }
    }
    kept.join(",")
}

/// Does an entry of `NO_PROXY` mean a name of fal's: `*`, `fal.run`, `queue.fal.run:443`, `.run`?
fn frees_fal(entry: &str) -> bool {
    let entry = entry.to_ascii_lowercase();
    let entry = entry.rsplit_once("://").map_or(entry.as_str(), |(_, host)| host);
    let name = entry.split(':').next().unwrap_or_default().trim_matches(['*', '.']);
    let within = |inner: &str, outer: &str| {
        inner.strip_suffix(outer).is_some_and(|sub| sub.is_empty() || sub.ends_with('.'))
    };
    name.is_empty() || FAL_DOMAINS.iter().any(|domain| within(domain, name) || within(name, domain))
}

/// One word of a POSIX shell.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

/// Keys of `latentd keys create`, whether they still open anything or not.
pub(crate) async fn has_keys(database: &Database) -> anyhow::Result<bool> {
    if !database.exists() {
        return Ok(false);
    }
    let queue = Queue::open(database, Arc::new(Timestamp::now)).await?;
    let keys = queue.keys().await?;
    queue.close().await;
    Ok(!keys.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_let_fal_past_the_proxy_is_left_out() {
        let listed = "10.0.0.0/8, .corp.example,*,fal.run,.fal.ai,*.fal.media,queue.fal.run:443,run,https://falrun.com,localhost,::1";
        assert_eq!(unproxied(listed), "localhost,127.0.0.1,10.0.0.0/8,.corp.example");
        assert_eq!(unproxied(","), "localhost,127.0.0.1");
        assert!(!frees_fal("notfal.run") && !frees_fal("example.run") && frees_fal(".AI"));
    }

    #[test]
    fn node_and_python_get_the_preload_once_and_keep_their_other_options() {
        let once = preloading("--max-old-space-size=64", "/a b/p.cjs");
        assert_eq!(once, r#"--max-old-space-size=64 --require "/a b/p.cjs""#);
        assert_eq!(preloading(&once, "/a b/p.cjs"), once);
        assert_eq!(leading("/x::/y", "/a"), "/a:/x:/y");
        assert_eq!(leading("/a:/x", "/a"), "/a:/x");
        let data = Path::new("/a b");
        let (preload, python) = ("/a b/intercept/preload.cjs", "/a b/intercept/python");
        let (options, paths) = (preloading("--no-warnings", preload), leading("/x", python));
        let before = ("--no-warnings".to_owned(), "/x".to_owned());
        assert_eq!(without_preloads(data, &options, &paths), before);
        assert_eq!(without_preloads(data, "--no-warnings", "/x"), before);
        assert_eq!(preloading("", r#"/a"b\c"#), r#"--require "/a\"b\\c""#);
    }

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
