//! The environment variables of a program inside: the certificates to trust, without proxies that are unreachable there.

use super::relay::Server;
use crate::args::variable;
use crate::intercept::Trust;
use crate::intercept::env::without_preloads;
use anyhow::Context;
use latentd_fal::FAL_DOMAINS;
use std::path::Path;
use std::process::Command;

/// Proxies, which are outside.
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "WS_PROXY", "WSS_PROXY"];

/// Variables that replace fal's hosts. They could name the server's address, which is outside.
const HOSTS: [&str; 2] = ["FAL_RUN_HOST", "FAL_QUEUE_RUN_HOST"];

/// Sets the variables of a program.
pub(super) fn prepare(
    command: &mut Command,
    data_dir: &Path,
    trust: &Trust,
    server: &Server,
    allow_network: bool,
) -> anyhow::Result<()> {
    let bundle = text(&trust.bundle)?;
    let java = quoted(&format!("-Djavax.net.ssl.trustStore={}", text(&trust.trust_store)?));
    let java = [variable("JAVA_TOOL_OPTIONS").unwrap_or_default(), java].join(" ");
    for name in ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"] {
        command.env(name, bundle);
    }
    let certificate = text(&trust.certificate)?;
    command.env("NODE_EXTRA_CA_CERTS", certificate).env("DENO_CERT", certificate);
    command.env("JAVA_TOOL_OPTIONS", java.trim_start());
    // This program may run in a shell that evaluated `latentd env`, whose ways to the server end here.
    let (node_options, python_path) = without_preloads(
        data_dir,
        &variable("NODE_OPTIONS").unwrap_or_default(),
        &variable("PYTHONPATH").unwrap_or_default(),
    );
    for (name, value) in [("NODE_OPTIONS", node_options), ("PYTHONPATH", python_path)] {
        if value.is_empty() {
            command.env_remove(name)
        } else {
            command.env(name, value)
        };
    }
    let own = server.address.to_string();
    for name in both_cases(&PROXIES) {
        if !allow_network || variable(&name).is_some_and(|proxy| proxy.contains(&own)) {
            command.env_remove(name);
        }
    }
    for name in HOSTS {
        if variable(name).is_some_and(|host| host.starts_with(&own)) {
            command.env_remove(name);
        }
    }
    if allow_network {
        let direct = FAL_DOMAINS.iter().flat_map(|domain| [(*domain).to_owned(), format!(".{domain}")]);
        let direct: Vec<_> = direct.collect();
        for name in both_cases(&["NO_PROXY"]) {
            let listed = variable(&name).into_iter().chain(direct.iter().cloned());
            command.env(&name, listed.collect::<Vec<_>>().join(","));
        }
    }
    if variable("FAL_KEY").is_none() {
        match server.needs_key {
            false => drop(command.env("FAL_KEY", "local:key")),
            true => eprintln!(
                "latentd: this server asks for a key: export FAL_KEY=\"$(latentd keys create --name NAME)\", or one that you have"
            ),
        }
    }
    Ok(())
}

/// A variable's names: some programs read them in capitals, some in small letters.
fn both_cases(names: &[&str]) -> impl Iterator<Item = String> {
    names.iter().flat_map(|name| [(*name).to_owned(), name.to_lowercase()])
}

/// One option of `JAVA_TOOL_OPTIONS`, which ends at white space outside of quotes of either kind.
fn quoted(option: &str) -> String {
    match option.contains(|c: char| c.is_whitespace() || c == '\'' || c == '"') {
        true => format!("\"{}\"", option.replace('"', "\"'\"'\"")),
        false => option.to_owned(),
    }
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().with_context(|| format!("{}: the name of the data directory must be UTF-8", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_reads_back_what_was_quoted() {
        assert_eq!(quoted("-Da=/plain"), "-Da=/plain");
        assert_eq!(quoted("-Da=/it's here"), r#""-Da=/it's here""#);
        assert_eq!(quoted(r#"-Da=/a"b"#), r#""-Da=/a"'"'"b""#);
    }
}
