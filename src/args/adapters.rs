//! Flags of LoRA adapters, ControlNets and IP-Adapters that requests may name.

use clap::Args;

/// Adapters of requests.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Adapters")]
pub struct AdapterArgs {
    /// LoRA adapter that requests may name: `{"path": "NAME"}` in `loras` is the `.safetensors` file at PATH; may be given
    /// several times. Workers elsewhere need the same.
    #[arg(long, env = "LATENTD_LORA", value_delimiter = ',', value_name = "NAME=PATH")]
    pub lora: Vec<String>,
    /// ControlNet that requests may name: `{"path": "NAME"}` in `controlnet` is the folder in diffusers' layout, or the
    /// `.safetensors` file, at PATH; may be given several times. Workers elsewhere need the same.
    #[arg(long, env = "LATENTD_NAMED_CONTROLNET", value_delimiter = ',', value_name = "NAME=PATH")]
    pub named_controlnet: Vec<String>,
    /// IP-Adapter that requests may name: `{"path": "NAME", "image_encoder_path": "NAME"}` in `ip_adapter` is the folder at PATH
    /// with `ip-adapter.safetensors` and `image_encoder/`; may be given several times. Workers elsewhere need the same.
    #[arg(long, env = "LATENTD_NAMED_IP_ADAPTER", value_delimiter = ',', value_name = "NAME=PATH")]
    pub named_ip_adapter: Vec<String>,
    /// Largest adapter, ControlNet or image encoder that is fetched for a request, as in `10GB`.
    #[arg(long, env = "LATENTD_MAX_ADAPTER", default_value = "10GB", value_name = "SIZE")]
    pub max_adapter: String,
    /// Disk space for fetched adapters, in the data directory; those that were not used for longest are removed. With `0`
    /// none is kept.
    #[arg(long, env = "LATENTD_ADAPTER_CACHE", default_value = "20GB", value_name = "SIZE")]
    pub adapter_cache: String,
}
