//! What every call may use: the queue, the storage, the keys and the settings of this server.

use crate::endpoint::Endpoint;
use crate::server::memory::ConnectionMemory;
use crate::state::documents::Documents;
use crate::state::probe::Probe;
use crate::state::refusals::Refusals;
use crate::state::waiting_clients::WaitingClients;
use crate::state::web_access::WebAccess;
use ipnet::IpNet;
use latentd_egress::Egress;
use latentd_queue::disk::Disks;
use latentd_queue::keys::KeyRing;
use latentd_queue::queue::Queue;
use latentd_queue::signing::SigningKey;
use latentd_queue::storage::Storage;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use url::Url;

/// What the API stands on.
pub struct Api {
    /// Where requests go.
    pub queue: Queue,
    /// Where files come from.
    pub storage: Storage,
    /// What both are written to.
    pub disks: Disks,
    /// Every endpoint that is known, and what answers there.
    pub endpoints: Vec<Endpoint>,
    /// Keys that open the API.
    pub keys: KeyRing,
    /// Which host names and web pages may be used while there are no keys.
    pub web: WebAccess,
    /// Whether the metrics are read without a key.
    pub metrics_open: bool,
    /// Where clients reach the server; `None`: where their request says they did.
    pub public_url: Option<Url>,
    /// Peers that are believed when they say how a client reached them.
    pub trusted_proxies: Vec<IpNet>,
    /// Waiting requests above which new ones are refused.
    pub max_queue: u64,
    /// Bytes of the largest file that a client may send.
    pub max_upload: u64,
    /// Uploads that were announced and not sent yet, above which new ones are refused.
    pub max_open_uploads: u64,
    /// Refuse invalid input at submit.
    pub validate_on_submit: bool,
    /// Where webhooks may go.
    pub egress: Egress,
    /// Signs webhooks.
    pub signing: Arc<SigningKey>,
    /// How long a run is held back until its status is known.
    pub run_patience: Duration,
    /// How many calls were refused, and why.
    pub refusals: Refusals,
    /// What is told of this API.
    pub documents: Documents,
    /// What all calls and web sockets together may hold of what clients send.
    pub memory: ConnectionMemory,
    /// Who waits for what.
    pub waiting_clients: WaitingClients,
    /// Whether the database can be written.
    pub probe: Probe,
    /// Turns true when the server stops: no new work is accepted then.
    pub closing: watch::Receiver<bool>,
    /// The commit that the program was built from.
    pub commit: &'static str,
}
