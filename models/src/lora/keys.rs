//! From a key of an adapter file to the module that it changes and what it has of it.

use std::collections::BTreeMap;

/// What a tensor of an adapter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Down,
    Up,
    Alpha,
    /// The magnitudes of DoRA, which are no sum beside the weights.
    Dora,
}

const ENDINGS: [(&str, Role); 15] = [
    // PEFT, with and without the adapter's name.
    (".lora_A.weight", Role::Down),
    (".lora_B.weight", Role::Up),
    (".lora_A.default.weight", Role::Down),
    (".lora_B.default.weight", Role::Up),
    // kohya and Comfy.
    (".lora_down.weight", Role::Down),
    (".lora_up.weight", Role::Up),
    (".alpha", Role::Alpha),
    // diffusers before PEFT.
    (".lora.down.weight", Role::Down),
    (".lora.up.weight", Role::Up),
    (".lora_linear_layer.down.weight", Role::Down),
    (".lora_linear_layer.up.weight", Role::Up),
    (".dora_scale", Role::Dora),
    (".lora_magnitude_vector", Role::Dora),
    (".lora_magnitude_vector.weight", Role::Dora),
    (".lora_magnitude_vector.default.weight", Role::Dora),
];

/// The keys of one module.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ModuleKeys {
    pub(super) down: Option<String>,
    pub(super) up: Option<String>,
    pub(super) alpha: Option<String>,
}

/// The keys of a file.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// By the module's name in the file, with its prefix.
    pub(super) modules: BTreeMap<String, ModuleKeys>,
    /// Those that are nothing of a LoRA.
    pub(super) unknown: Vec<String>,
    /// Two keys for one thing.
    pub(super) twice: Vec<String>,
    pub(super) is_dora: bool,
}

impl Keys {
    pub(super) fn of<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let mut keys = Self::default();
        for name in names {
            let found = ENDINGS.iter().find_map(|(ending, role)| Some((name.strip_suffix(ending)?, *role)));
            let Some((module, role)) = found else {
                keys.unknown.push(name.to_owned());
                continue;
            };
            let module = keys.modules.entry(module.to_owned()).or_default();
            let place = match role {
                Role::Down => &mut module.down,
                Role::Up => &mut module.up,
                Role::Alpha => &mut module.alpha,
                Role::Dora => {
                    keys.is_dora = true;
                    continue;
                }
            };
            if place.is_some() {
                keys.twice.push(name.to_owned());
            }
            *place = Some(name.to_owned());
        }
        keys
    }

    /// Another model or kind of adapter that such keys are known of, for a message.
    pub(super) fn kind(&self) -> Option<&'static str> {
        let names = || self.modules.keys().chain(&self.unknown);
        let has = |words: &[&str]| names().any(|name| words.iter().any(|word| name.contains(word)));
        if has(&["double_blocks", "single_blocks", "single_transformer_blocks"]) {
            Some("it is made for FLUX")
        } else if has(&["down_blocks", "up_blocks", "input_blocks", "output_blocks", "mid_block"]) {
            Some("it is made for Stable Diffusion 1, 2 or XL")
        } else if has(&["lokr_w", "hada_w", "oft_", "lora_mid"]) {
            Some("it is LoHa, LoKr, OFT or a LoRA of convolutions, and latentd reads LoRA of linear layers")
        } else {
            None
        }
    }
}
