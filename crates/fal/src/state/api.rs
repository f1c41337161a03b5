//! What every call may use: the queue, the storage, the keys and the settings of this server.

use crate::endpoint::Endpoint;
use crate::output::error::ApiError;
use crate::server::memory::ConnectionMemory;
use crate::state::documents::Documents;
use crate::state::gpu::Gpu;
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
use latentd_queue::storage_limit::StorageLimit;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use url::Url;

/// The services and settings of the API.
pub struct Api {
    /// Where requests go.
    pub queue: Queue,
    /// Where files come from.
    pub storage: Storage,
    /// What both are written to.
    pub disks: Disks,
    /// How many bytes of files may be stored.
    pub storage_limit: StorageLimit,
    /// Every endpoint that is known, and what answers there.
    pub endpoints: Vec<Endpoint>,
    /// Keys that open the API.
    pub keys: KeyRing,
    /// Which host names and web pages may be used while there are no keys.
    pub web: WebAccess,
    /// Whether each key sees its own requests and files alone.
    pub isolate_keys: bool,
    /// Whether the metrics are read without a key.
    pub metrics_open: bool,
    /// Where clients reach the server; `None`: at the host of their request.
    pub public_url: Option<Url>,
    /// Proxies whose `Forwarded` headers are trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// Waiting requests above which new ones are refused.
    pub max_queue: u64,
    /// Bytes of the largest file that a client may send.
    pub max_upload: u64,
    /// Uploads that were announced and not sent yet, above which new ones are refused.
    pub max_open_uploads: u64,
    /// Names of the LoRA adapters that every worker has.
    pub lora_names: Vec<String>,
    /// Names of the ControlNets that every worker has.
    pub controlnet_names: Vec<String>,
    /// Names of the operator's IP-Adapters.
    pub ip_adapter_names: Vec<String>,
    /// Bytes of the LoRA adapters that are kept on this machine, of whose disk it asks.
    pub adapter_cache_bytes: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// The GPUs of this machine, whose driver it asks.
    pub gpus: Arc<dyn Fn() -> Vec<Gpu> + Send + Sync>,
    /// Refuse invalid input at submit.
    pub validate_on_submit: bool,
    /// Leave the settings of requests out of their image files.
    pub no_metadata: bool,
    /// Where webhooks may go.
    pub egress: Egress,
    /// Signs webhooks.
    pub signing: Arc<SigningKey>,
    /// How long the response to a run waits for its status.
    pub run_patience: Duration,
    /// How many calls were refused, and why.
    pub refusals: Refusals,
    /// The OpenAPI documents.
    pub documents: Documents,
    /// The memory that calls and web sockets together may hold of clients' data.
    pub memory: ConnectionMemory,
    /// Who waits for what.
    pub waiting_clients: WaitingClients,
    /// Whether the database can be written.
    pub probe: Probe,
    /// Turns true when the server stops: no new work is accepted then.
    pub closing: watch::Receiver<bool>,
    /// Notified by an administrator who wants the server to stop when what runs is over.
    pub drain: Arc<Notify>,
    /// The commit that the program was built from.
    pub commit: &'static str,
}

impl Api {
    /// Passes while disks have free space for `bytes` more and the storage limit permits them.
    pub(crate) async fn check_space(&self, bytes: u64) -> Result<(), ApiError> {
        self.disks.check(bytes).map_err(|full| ApiError::NoRoom(full.to_string()))?;
        Ok(self.storage_limit.check(&self.queue, bytes).await?)
    }
}
