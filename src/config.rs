//! From flags to settings that hold together: every check of the command line is here.

mod access;
pub(crate) mod adapters;
mod device;
mod files;
mod gpus;
pub(crate) mod hub;
mod intercept;
mod location;
pub(crate) mod memory;
mod memory_mode;
pub(crate) mod model;
pub(crate) mod otlp;
mod retention;
pub(crate) mod safety;
mod secret;
pub(crate) mod shortcuts;
mod store;
mod timeout;
mod tls;

pub use access::AccessConfig;
pub use adapters::AdapterConfig;
pub(crate) use gpus::{gpu_order, visible_gpus};
pub use intercept::InterceptConfig;
pub use latentd_hub::{HubConfig, HubToken};
pub use location::ModelLocation;
pub use memory::MemoryBudget;
pub use memory_mode::MemoryModes;
pub use model::{Model, ModelsError, NamedModel};
pub use safety::{Checker, SafetyConfig};
pub use store::StoreConfig;
pub use tls::TlsConfig;

use crate::args::{EngineArgs, LogArgs, ServeArgs, SigningArgs, WorkerArgs, default_data_dir};
use crate::queue::Keep;
use ipnet::IpNet;
use latentd_egress::Egress;
use latentd_models as models;
use latentd_trace::ExportSettings;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use url::Url;

/// The flag of hosts that images and adapters may be fetched from.
pub(crate) const FETCH_ALLOW: &str = "--fetch-allow";

/// A command line that cannot be carried out; the text is what to change.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// How the engine of one device runs models.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineConfig {
    /// Where it runs.
    pub device: models::Device,
    /// In which precision.
    pub dtype: models::DType,
    /// Shift of a checkpoint's noise schedule, where it is not that of the published model.
    pub shift: Option<f64>,
    /// Prompt tokens that T5 reads.
    pub t5_tokens: usize,
    /// What the loop may leave out.
    pub shortcuts: models::Shortcuts,
    /// Whether the model's T5 is loaded.
    pub t5: bool,
    /// The best instruction set of the processor that ops may use, where there is a limit.
    pub max_cpu_isa: Option<models::CpuIsa>,
    /// Which weights may stay in files.
    pub memory_modes: MemoryModes,
    /// Whether a model that memory cannot hold is refused before it is loaded.
    pub memory_check: bool,
    /// Folder of the algorithms that were found to be the fastest on a device.
    pub cache: PathBuf,
}

/// Settings of a command that runs one model without a server.
#[derive(Debug, Clone)]
pub struct SingleModelConfig {
    /// The model.
    pub model: ModelLocation,
    /// How it is run.
    pub engine: EngineConfig,
    /// Where models are downloaded from.
    pub hub: HubConfig,
}

/// Settings of `latentd serve`.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// The certificate there; `None`: plain HTTP.
    pub tls: Option<TlsConfig>,
    /// One per worker process.
    pub engines: Vec<EngineConfig>,
    /// What the API describes, even when no worker runs here; the first is loaded first.
    pub models: Vec<NamedModel>,
    /// What the models of one worker may take.
    pub memory_budget: MemoryBudget,
    /// The safety checker.
    pub safety: SafetyConfig,
    /// Where models are downloaded from.
    pub hub: HubConfig,
    /// Where requests and files are kept.
    pub store: StoreConfig,
    /// File of the key that signs webhooks and tokens; `None`: the one in the data directory.
    pub signing_key: Option<PathBuf>,
    /// The URL under which clients reach the server; `None`: the one of each request.
    pub public_url: Option<Url>,
    /// Peers that are believed when they say how a client reached them.
    pub trusted_proxies: Vec<IpNet>,
    /// Who may use the server.
    pub access: AccessConfig,
    /// Where webhooks may go.
    pub egress: Egress,
    /// Where the initial images and adapters of requests may be fetched from.
    pub fetch: Egress,
    /// LoRA adapters of requests.
    pub adapters: AdapterConfig,
    /// Where it answers for fal's own host names, if it does.
    pub intercept: Option<InterceptConfig>,
    /// Where traces go, if they do.
    pub otlp: Option<ExportSettings>,
    /// Waiting requests above which new ones are refused.
    pub max_queue: u64,
    /// What is kept, and how long.
    pub keep: Keep,
    /// Bytes of the largest file that a client may send.
    pub max_upload: u64,
    /// Uploads that were announced and not sent yet, above which new ones are refused.
    pub max_open_uploads: u64,
    /// Bytes that stay free on each disk: where there are fewer, nothing new is accepted.
    pub min_free_disk: u64,
    /// Refuse invalid input at submit.
    pub validate_on_submit: bool,
    /// Leave the settings of requests out of their image files.
    pub no_metadata: bool,
    /// How long a run is held back until its status is known.
    pub run_patience: Duration,
    /// How long an engine may be silent; `None`: by what it does.
    pub step_timeout: Option<Duration>,
    /// How long a worker process may be silent.
    pub worker_timeout: Duration,
    /// What a running request gets at the end.
    pub drain_timeout: Duration,
    /// What it and its workers log.
    pub log: LogArgs,
}

/// Settings of `latentd worker`.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// How it runs them.
    pub engine: EngineConfig,
    /// Every model; the first is loaded first.
    pub models: Vec<NamedModel>,
    /// What they may take.
    pub memory_budget: MemoryBudget,
    /// The safety checker.
    pub safety: SafetyConfig,
    /// Where models are downloaded from.
    pub hub: HubConfig,
    /// Where requests and files are kept.
    pub store: StoreConfig,
    /// Where the initial images and adapters of requests may be fetched from.
    pub fetch: Egress,
    /// LoRA adapters of requests.
    pub adapters: AdapterConfig,
    /// Where traces go, if they do.
    pub otlp: Option<ExportSettings>,
    /// How long an engine may be silent; `None`: by what it does.
    pub step_timeout: Option<Duration>,
    /// What a running request gets at the end.
    pub drain_timeout: Duration,
    /// The name `serve` gave this worker, if it did.
    pub supervised_as: Option<String>,
}

impl ServeConfig {
    /// Checks the flags of `latentd serve`; `log` is one of every command.
    ///
    /// # Errors
    /// What to change, in one line.
    pub fn resolve(args: ServeArgs, log: LogArgs) -> Result<Self, ConfigError> {
        let ServeArgs {
            listen,
            tls,
            engine,
            safety,
            store,
            signing,
            memory_budget,
            public_url,
            trusted_proxy,
            workers,
            access,
            webhook_allow,
            fetch,
            adapters,
            intercept,
            otlp,
            max_queue,
            retention,
            max_upload,
            max_open_uploads,
            min_free_disk,
            validate_on_submit,
            no_metadata,
            run_headers_after,
            step_timeout,
            worker_timeout,
            drain_timeout,
        } = args;
        let public_url = public_url.map(|text| parse_public_url(&text)).transpose()?;
        let store = StoreConfig::resolve(store)?;
        Ok(Self {
            listen,
            tls: tls::parse(tls)?,
            engines: engines(&engine, &workers, &store.data_dir)?,
            models: model::several(&engine)?,
            memory_budget: memory::parse(&memory_budget)?,
            safety: safety::parse(&safety)?,
            hub: hub::resolve(&engine.hub)?,
            store,
            signing_key: signing_key(signing)?,
            access: access::parse(&access, listen, public_url.as_ref())?,
            public_url,
            trusted_proxies: trusted_proxies(&trusted_proxy)?,
            egress: egress("--webhook-allow", listen.ip().is_loopback(), &webhook_allow)?,
            fetch: egress(FETCH_ALLOW, listen.ip().is_loopback(), &fetch.fetch_allow)?,
            adapters: adapters::parse(&adapters)?,
            intercept: intercept::parse(intercept)?,
            otlp: otlp::parse(otlp)?,
            max_queue,
            keep: retention::parse(&retention)?,
            max_upload: max_upload.saturating_mul(1024 * 1024),
            max_open_uploads,
            min_free_disk: memory::size("--min-free-disk", &min_free_disk)?,
            validate_on_submit,
            no_metadata,
            run_patience: Duration::from_secs(run_headers_after),
            step_timeout: timeout::step(&step_timeout)?,
            worker_timeout: Duration::from_secs(worker_timeout),
            drain_timeout: Duration::from_secs(drain_timeout),
            log,
        })
    }
}

impl WorkerConfig {
    /// Checks the flags of `latentd worker`.
    ///
    /// # Errors
    /// What to change, in one line.
    pub fn resolve(args: WorkerArgs) -> Result<Self, ConfigError> {
        let WorkerArgs {
            engine,
            safety,
            store,
            fetch,
            adapters,
            otlp,
            memory_budget,
            step_timeout,
            drain_timeout,
            supervised_as,
        } = args;
        let store = StoreConfig::resolve(store)?;
        let device = device::one(&engine.device)?;
        Ok(Self {
            engine: EngineConfig::on(&engine, device, &store.data_dir)?,
            models: model::several(&engine)?,
            memory_budget: memory::parse(&memory_budget)?,
            safety: safety::parse(&safety)?,
            hub: hub::resolve(&engine.hub)?,
            store,
            fetch: egress(FETCH_ALLOW, false, &fetch.fetch_allow)?,
            adapters: adapters::parse(&adapters)?,
            otlp: otlp::parse(otlp)?,
            step_timeout: timeout::step(&step_timeout)?,
            drain_timeout: Duration::from_secs(drain_timeout),
            supervised_as,
        })
    }
}

impl EngineConfig {
    fn on(args: &EngineArgs, device: models::Device, data_dir: &Path) -> Result<Self, ConfigError> {
        if !(1..=512).contains(&args.t5_tokens) {
            return refuse(format!("--t5-tokens {}: give 1 to 512", args.t5_tokens));
        }
        // First, since the precision depends on it.
        let max_cpu_isa = device::limit_cpu_isa(&args.max_cpu_isa)?;
        Ok(Self {
            device,
            dtype: device::dtype(&args.dtype, device)?,
            shift: model::shift(args)?,
            t5_tokens: args.t5_tokens,
            shortcuts: shortcuts::parse(args)?,
            t5: switch("--t5", &args.t5, "auto")?,
            max_cpu_isa,
            memory_modes: memory_mode::parse(&args.memory_mode)?,
            memory_check: switch("--memory-check", &args.memory_check, "on")?,
            cache: data_dir.join("cache"),
        })
    }
}

impl SingleModelConfig {
    /// Checks the flags of a command that runs one model and stores nothing itself.
    ///
    /// # Errors
    /// What to change, in one line.
    pub fn resolve(args: &EngineArgs) -> Result<Self, ConfigError> {
        Ok(Self {
            model: model::one(args)?,
            engine: EngineConfig::on(args, device::one(&args.device)?, &default_data_dir())?,
            hub: hub::resolve(&args.hub)?,
        })
    }
}

/// The file that `--signing-key` names, which must be there: a new key would be another one.
pub(crate) fn signing_key(args: SigningArgs) -> Result<Option<PathBuf>, ConfigError> {
    if let Some(path) = &args.signing_key {
        std::fs::File::open(path)
            .map_err(|error| ConfigError(format!("--signing-key {}: {error}", path.display())))?;
    }
    Ok(args.signing_key)
}

/// The value of a flag with two words.
fn switch(flag: &str, text: &str, on: &str) -> Result<bool, ConfigError> {
    match text.trim() {
        "off" => Ok(false),
        text if text == on => Ok(true),
        text => refuse(format!("{flag} {text}: give `{on}` or `off`")),
    }
}

fn refuse<T>(message: String) -> Result<T, ConfigError> {
    Err(ConfigError(message))
}

/// One engine per worker; several workers share the devices in turn.
fn engines(args: &EngineArgs, workers: &str, data_dir: &Path) -> Result<Vec<EngineConfig>, ConfigError> {
    let devices = device::several(&args.device)?;
    let count = match workers {
        "auto" => devices.len(),
        number => match number.parse() {
            Ok(count) => count,
            Err(_) => return refuse(format!("--workers {number}: give `auto` or a number")),
        },
    };
    let engine = |device: &models::Device| EngineConfig::on(args, *device, data_dir);
    devices.iter().cycle().take(count).map(engine).collect()
}

fn trusted_proxies(given: &[String]) -> Result<Vec<IpNet>, ConfigError> {
    let given = given.iter().map(|text| text.trim()).filter(|text| !text.is_empty());
    let net = |text: &str| {
        let net = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        net.or_else(|_| {
            refuse(format!("--trusted-proxy {text}: give an address or a block such as 10.0.0.0/8"))
        })
    };
    given.map(net).collect()
}

/// A server that only this machine can call may itself call addresses of this machine.
fn egress(flag: &str, loopback: bool, allowed: &[String]) -> Result<Egress, ConfigError> {
    let mut egress = Egress::new(loopback);
    for text in allowed.iter().map(|text| text.trim()).filter(|text| !text.is_empty()) {
        egress.allow(text).map_err(|why| ConfigError(format!("{flag} {text}: {why}")))?;
    }
    Ok(egress)
}

fn parse_public_url(text: &str) -> Result<Url, ConfigError> {
    match Url::parse(text) {
        Ok(url)
            if matches!(url.scheme(), "http" | "https")
                && url.query().is_none()
                && url.fragment().is_none() =>
        {
            Ok(url)
        }
        Ok(_) => refuse(format!("--public-url {text}: give http://… or https://… without query")),
        Err(error) => refuse(format!("--public-url {text}: {error}")),
    }
}
