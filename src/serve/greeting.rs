//! What `latentd serve` prints when it is up.

use crate::config::{Model, ServeConfig};
use latentd_fal::endpoint::Endpoint;
use std::io::Write;
use std::net::SocketAddr;

/// Prints where the server listens and how to use it.
pub(super) fn greet(
    config: &ServeConfig,
    endpoints: &[Endpoint],
    models: &[Model],
    address: SocketAddr,
    is_open: bool,
) {
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let url = match &config.public_url {
        Some(url) => url.as_str().trim_end_matches('/').to_owned(),
        None if address.ip().is_unspecified() => format!("{scheme}://localhost:{}", address.port()),
        None => format!("{scheme}://{address}"),
    };
    let (key, header) = match is_open {
        true => ("local:key", ""),
        false => ("YOUR_KEY", " -H 'Authorization: Key YOUR_KEY'"),
    };
    let names: Vec<&str> = models.iter().map(Model::name).collect();
    let served: Vec<String> = endpoints.iter().filter(|one| one.served.is_some()).map(Endpoint::id).collect();
    let first = served.first().map_or("", String::as_str);
    let text = format!(
        r#"latentd listens on {url}
{word}: {names}
endpoints: {served}

Generate in a browser: {url}/

Try it:
  curl {url}/run/{first}{header} -H 'Content-Type: application/json' \
    -d '{{"prompt": "a red house on the left of a lake at sunset, two boats"}}'

Point a program that uses @fal-ai/client here:
  import {{ fal }} from "@fal-ai/client";
  fal.config({{ credentials: "{key}", proxyUrl: {{ url: "{url}/api/fal/proxy", when: "always" }} }});

"#,
        word = if names.len() == 1 { "model" } else { "models" },
        names = names.join(", "),
        served = served.join(", "),
    );
    // Nobody may be listening; the server runs all the same.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Prints how to run unchanged programs against the server.
pub(super) fn greet_unchanged(config: &ServeConfig, address: SocketAddr) {
    let data_dir = config.store.data_dir.display();
    let text = format!(
        r#"Run a program that you do not change:
  latentd run --data-dir '{data_dir}' -- PROGRAM
for which https://fal.run and fal's other hosts are here, and which reaches nothing else. Or, for Python and Node, in a shell:
  eval "$(latentd env --data-dir '{data_dir}')"
which makes fal's hosts the port {address}.

"#
    );
    let _ = std::io::stdout().write_all(text.as_bytes());
}
