//! Where the server answers for fal's own host names, and what else passes there.

use super::{ConfigError, refuse};
use crate::args::InterceptArgs;
use latentd_egress::Egress;
use std::net::SocketAddr;

/// Settings of `latentd serve --intercept`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterceptConfig {
    /// Address to listen on, of this machine alone.
    pub listen: SocketAddr,
    /// What other hosts programs may reach; `None`: none.
    pub tunnel: Option<Egress>,
}

/// Checks the flags.
pub(super) fn parse(args: InterceptArgs) -> Result<Option<InterceptConfig>, ConfigError> {
    let InterceptArgs { intercept, intercept_tunnel, intercept_tunnel_allow } = args;
    let allowed: Vec<_> =
        intercept_tunnel_allow.iter().map(|text| text.trim()).filter(|text| !text.is_empty()).collect();
    let Some(listen) = intercept else {
        return match intercept_tunnel || !allowed.is_empty() {
            true => refuse("--intercept-tunnel: give --intercept too".into()),
            false => Ok(None),
        };
    };
    if !listen.ip().is_loopback() {
        return refuse(format!(
            "--intercept {listen}: who can connect is answered as fal, so it listens on this machine only: give 127.0.0.1:{}",
            listen.port()
        ));
    }
    if !intercept_tunnel && !allowed.is_empty() {
        return refuse("--intercept-tunnel-allow: give --intercept-tunnel too".into());
    }
    let mut egress = Egress::new(false);
    for text in allowed {
        egress.allow(text).map_err(|why| ConfigError(format!("--intercept-tunnel-allow {text}: {why}")))?;
    }
    Ok(Some(InterceptConfig { listen, tunnel: intercept_tunnel.then_some(egress) }))
}
