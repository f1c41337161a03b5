//! The host names of fal that programs have built in.

/// fal's domains, those that its clients fall back to included. Every name below them is fal's too.
pub const FAL_DOMAINS: [&str; 4] = ["fal.run", "falrun.com", "fal.ai", "fal.media"];

/// Where fal serves files from.
pub(crate) const FILE_ORIGIN: &str = "https://v3.fal.media";

/// Is a host name, without its port, one of fal's?
pub fn is_fal(host: &str) -> bool {
    domain(host).is_some()
}

/// The same for a host with or without a port.
pub(crate) fn is_fal_host(host: &str) -> bool {
    is_fal(without_port(host))
}

/// fal's hosts that know no models: there, a path that is nobody's must not become a model's name.
pub(crate) fn is_without_models(host: &str) -> bool {
    matches!(domain(without_port(host)), Some("fal.ai" | "fal.media"))
}

/// Did a client call one of fal's own URLs, and reached this server all the same?
pub(crate) fn is_fal_origin(origin: &str) -> bool {
    origin.strip_prefix("https://").is_some_and(|host| is_fal(without_port(host)))
}

fn domain(host: &str) -> Option<&'static str> {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let is_below =
        |domain: &&&str| host.strip_suffix(**domain).is_some_and(|sub| sub.is_empty() || sub.ends_with('.'));
    FAL_DOMAINS.iter().find(is_below).copied()
}

fn without_port(host: &str) -> &str {
    host.split(':').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_below_the_domains_are_fals_and_lookalikes_are_not() {
        for host in
            ["fal.run", "queue.fal.run", "rest.alpha.fal.ai", "V3.Fal.Media", "queue.falrun.com", "fal.run."]
        {
            assert!(is_fal(host), "{host}");
        }
        for host in [
            "",
            ".",
            "run",
            "notfal.run",
            "fal.run.example.com",
            "fal.runner",
            "fal-run",
            "127.0.0.1",
            "fal.run:443",
        ] {
            assert!(!is_fal(host), "{host}");
        }
        assert!(is_without_models("rest.fal.ai") && is_without_models("v3.fal.media:443"));
        assert!(!is_without_models("queue.fal.run") && !is_without_models("localhost:8080"));
        assert!(is_fal_origin("https://queue.fal.run") && is_fal_origin("https://fal.run:443"));
        assert!(!is_fal_origin("http://queue.fal.run") && !is_fal_origin("https://127.0.0.1:8443"));
    }
}
