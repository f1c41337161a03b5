//! Tunnels to hosts that are not fal's: their bytes are carried, not read.

use latentd_egress::Egress;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use url::Url;

/// A host has this long to be found and to accept.
const DIAL_TIMEOUT: Duration = Duration::from_secs(15);

/// Connects to an address of the host that the policy permits.
pub(super) async fn dial(egress: &Egress, host: &str, port: u16) -> Result<TcpStream, String> {
    let url = Url::parse(&format!("https://{host}:{port}")).map_err(|error| error.to_string())?;
    let dialled = async {
        let addresses = egress
            .resolve(&url)
            .await
            .map_err(|why| format!("{why}; the operator can allow the host with --intercept-tunnel-allow"))?;
        TcpStream::connect(addresses.as_slice()).await.map_err(|error| format!("no connection: {error}"))
    };
    let stream = tokio::time::timeout(DIAL_TIMEOUT, dialled)
        .await
        .map_err(|_| format!("no connection within {} seconds", DIAL_TIMEOUT.as_secs()))??;
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Carries bytes both ways until both sides are done or one breaks.
pub(super) async fn carry(mut client: impl AsyncRead + AsyncWrite + Unpin, mut host: TcpStream) {
    if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut host).await {
        tracing::debug!(%error, "a tunnel broke");
    }
}
