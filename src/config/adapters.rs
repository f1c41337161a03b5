//! LoRA adapters, ControlNets and IP-Adapters: those that the operator names, and the limits of those that are fetched.

use super::{ConfigError, memory, refuse};
use crate::args::AdapterArgs;
use latentd_request::is_lora_name;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const LORA: &str = "--lora";
const CONTROLNET: &str = "--named-controlnet";
const IP_ADAPTER: &str = "--named-ip-adapter";

/// LoRA adapters, ControlNets and IP-Adapters that requests may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterConfig {
    /// The operator's files by the names that requests have for them.
    pub named: BTreeMap<String, PathBuf>,
    /// The operator's ControlNets, likewise.
    pub controlnets: BTreeMap<String, PathBuf>,
    /// The folders of the operator's IP-Adapters, likewise.
    pub ip_adapters: BTreeMap<String, PathBuf>,
    /// Bytes of the largest file that is fetched.
    pub max_bytes: u64,
    /// Bytes of fetched files that are kept.
    pub cache_bytes: u64,
}

impl AdapterConfig {
    /// The flags by which another process gets the same.
    pub(crate) fn flags(&self) -> impl Iterator<Item = String> {
        let of = |flag: &'static str, named: &BTreeMap<String, PathBuf>| {
            let values = named.iter().map(|(name, path)| format!("{name}={}", path.display()));
            values.flat_map(|value| [flag.to_owned(), value]).collect::<Vec<_>>()
        };
        let named =
            [of(LORA, &self.named), of(CONTROLNET, &self.controlnets), of(IP_ADAPTER, &self.ip_adapters)];
        let sizes = [("--max-adapter", self.max_bytes), ("--adapter-cache", self.cache_bytes)];
        let sizes = sizes.into_iter().flat_map(|(flag, bytes)| [flag.to_owned(), bytes.to_string()]);
        named.into_iter().flatten().chain(sizes)
    }
}

/// Checks the flags, not the files.
pub(super) fn parse(args: &AdapterArgs) -> Result<AdapterConfig, ConfigError> {
    let controlnets = named(CONTROLNET, &args.named_controlnet)?;
    let named = named(LORA, &args.lora)?;
    let ip_adapters = self::named(IP_ADAPTER, &args.named_ip_adapter)?;
    let max_bytes = memory::size("--max-adapter", &args.max_adapter)?;
    let cache_bytes = memory::size("--adapter-cache", &args.adapter_cache)?;
    Ok(AdapterConfig { named, controlnets, ip_adapters, max_bytes, cache_bytes })
}

/// The files of a flag by their names.
fn named(flag: &str, values: &[String]) -> Result<BTreeMap<String, PathBuf>, ConfigError> {
    let mut named = BTreeMap::new();
    for value in values.iter().map(|value| value.trim()).filter(|value| !value.is_empty()) {
        let Some((name, path)) = definition(value) else {
            return refuse(format!(
                "{flag} {value}: give NAME=PATH, as in night=/models/night.safetensors; NAME has letters, digits, `.`, `_` and `-`"
            ));
        };
        let path =
            std::path::absolute(path).map_err(|error| ConfigError(format!("{flag} {value}: {error}")))?;
        if path.to_string_lossy().contains(',') {
            return refuse(format!("{flag} {value}: a comma separates adapters, give a path without"));
        }
        if named.insert(name.to_owned(), path).is_some() {
            return refuse(format!("{flag} {value}: {name} is given twice"));
        }
    }
    Ok(named)
}

/// Name and path of a value of `--lora` as `serve` takes it.
pub(crate) fn definition(value: &str) -> Option<(&str, &Path)> {
    let (name, path) = value.split_once('=')?;
    (is_lora_name(name) && !path.is_empty()).then(|| (name, Path::new(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(lora: &[&str]) -> Result<AdapterConfig, ConfigError> {
        let lora = lora.iter().map(|value| (*value).to_owned()).collect();
        let (named_controlnet, named_ip_adapter) = (vec!["edges=/c/edges".into()], vec!["style=/i".into()]);
        let (max_adapter, adapter_cache) = ("1GB".into(), "0".into());
        parse(&AdapterArgs { lora, named_controlnet, named_ip_adapter, max_adapter, adapter_cache })
    }

    #[test]
    fn names_have_files_and_another_process_gets_the_same() {
        let config = with(&["night=/a/night.safetensors", " ink-2=b=c.safetensors ", ""]).expect("adapters");
        assert_eq!(config.named["night"], Path::new("/a/night.safetensors"));
        assert!(config.named["ink-2"].ends_with("b=c.safetensors") && config.named["ink-2"].is_absolute());
        let flags: Vec<String> = config.flags().collect();
        let values: Vec<&str> =
            flags.chunks(2).filter(|pair| pair[0] == "--lora").map(|pair| pair[1].as_str()).collect();
        assert_eq!(with(&values).expect("adapters").named, config.named);
        assert_eq!(config.controlnets["edges"], Path::new("/c/edges"));
        for other in [["--named-controlnet", "edges=/c/edges"], ["--named-ip-adapter", "style=/i"]] {
            assert!(flags.windows(2).any(|pair| pair == other), "{flags:?}");
        }
        assert!(flags.ends_with(&["--max-adapter", "1000000000", "--adapter-cache", "0"].map(str::to_owned)));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (values, words) in [
            (&["night.safetensors"][..], "give NAME=PATH"),
            (&["a/b=c"], "give NAME=PATH"),
            (&["night="], "give NAME=PATH"),
            (&["a=b,c"], "without"),
            (&["a=b", "a=c"], "a is given twice"),
        ] {
            let refused = with(values).expect_err(words).0;
            assert!(refused.starts_with("--lora ") && refused.contains(words), "{refused}");
        }
    }
}
