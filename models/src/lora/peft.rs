//! PEFT's config in the metadata of an adapter that diffusers saved: the only place that has its alphas.

use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The key of the metadata (diffusers `LORA_ADAPTER_METADATA_KEY`).
const KEY: &str = "lora_adapter_metadata";

/// The networks that it may have a config of; the last is a file of one network.
const PREFIXES: [&str; 5] = ["transformer.", "text_encoder_3.", "text_encoder_2.", "text_encoder.", ""];

/// PEFT's `LoraConfig` of each network, their fields side by side with a prefix.
#[derive(Debug, Default)]
pub(super) struct PeftConfig(Map<String, Value>);

impl PeftConfig {
    /// # Errors
    /// It is not JSON.
    pub(super) fn read(metadata: &BTreeMap<String, String>) -> Result<Self, String> {
        let Some(text) = metadata.get(KEY) else { return Ok(Self::default()) };
        serde_json::from_str(text).map(Self).map_err(|error| format!("its {KEY} cannot be read: {error}"))
    }

    pub(super) fn is_dora(&self) -> bool {
        PREFIXES.iter().any(|prefix| self.is_true(prefix, "use_dora"))
    }

    /// What the products of `module`, of this rank, are multiplied by; `None` if the metadata does not say it.
    ///
    /// # Errors
    /// It says it in a way that is not read.
    pub(super) fn scale(&self, module: &str, rank: usize) -> Result<Option<f64>, String> {
        let of_network = PREFIXES.iter().find_map(|prefix| {
            let name = module.strip_prefix(prefix)?;
            let alpha = self.0.get(&format!("{prefix}lora_alpha"))?;
            Some((prefix, name, alpha))
        });
        let Some((prefix, name, usual)) = of_network else { return Ok(None) };
        let alpha = self.pattern(&format!("{prefix}alpha_pattern"), name)?.unwrap_or(usual);
        let alpha = alpha.as_f64().filter(|alpha| alpha.is_finite());
        let alpha = alpha.ok_or_else(|| format!("lora_alpha of {module} in its {KEY} is no number"))?;
        let rank = rank as f64;
        Ok(Some(alpha / if self.is_true(prefix, "use_rslora") { rank.sqrt() } else { rank }))
    }

    /// What a pattern has for a module: the first whose key is the name or its end, as PEFT's `get_pattern_key` finds it.
    fn pattern(&self, field: &str, name: &str) -> Result<Option<&Value>, String> {
        let Some(Value::Object(pattern)) = self.0.get(field) else { return Ok(None) };
        for (key, value) in pattern {
            let whole = key.strip_prefix('^');
            let key = whole.unwrap_or(key);
            if key.contains(['*', '+', '?', '[', '(', '|', '\\', '$']) {
                return Err(format!(
                    "{field} in its {KEY} has a regular expression, and latentd reads names"
                ));
            }
            let is_end = name.strip_suffix(key).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
            if name == key || (whole.is_none() && is_end) {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    fn is_true(&self, prefix: &str, field: &str) -> bool {
        self.0.get(&format!("{prefix}{field}")) == Some(&Value::Bool(true))
    }
}
