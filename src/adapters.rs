//! Files of LoRA adapters, ControlNets and IP-Adapters on this machine: those that the operator names, and fetched ones, which
//! are kept by their content.

mod cache;
mod held;
mod incoming;
mod partial;

pub use cache::{AdapterCache, Entry, Origin, TemporaryFolder, cached_bytes};
pub use held::HeldFile;
pub use incoming::{Incoming, Refused};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The adapters that a worker can use.
pub struct AdapterFiles {
    /// The operator's, by the names that requests have for them.
    pub named: BTreeMap<String, PathBuf>,
    /// The operator's ControlNets, likewise; each a file or a folder.
    pub controlnets: BTreeMap<String, PathBuf>,
    /// The operator's IP-Adapters, likewise; each a folder with its image encoder.
    pub ip_adapters: BTreeMap<String, PathBuf>,
    /// Fetched ones.
    pub cache: AdapterCache,
    /// Bytes of the largest that is fetched.
    pub max_bytes: u64,
}

/// The folder of fetched adapters in a data directory.
pub fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("cache").join("adapters")
}
