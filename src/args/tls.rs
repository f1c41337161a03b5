//! Flags of TLS on the port of the API.

use clap::Args;
use std::path::PathBuf;

/// The certificate of the server.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "TLS")]
pub struct TlsArgs {
    /// File of the server's certificate, PEM, with those between it and the root: the server answers by HTTPS alone. SIGHUP
    /// reads both files again, for connections from then on.
    #[arg(long, env = "LATENTD_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// File of the certificate's private key, PEM.
    #[arg(long, env = "LATENTD_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
}
