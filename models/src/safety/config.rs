//! What a folder's `config.json` says: which kind of classifier it is, and what both kinds have in common.

use super::clip_config::ClipConfig;
use super::vit_config::VitConfig;
use crate::config::json;
use crate::vision::NetworkKind;
use serde::Deserialize;
use serde_json::Value;

/// How diffusers calls CompVis' checker.
const CHECKER: &str = "StableDiffusionSafetyChecker";

/// A classifier that we know how to run.
#[derive(Debug, Clone)]
pub(super) enum Config {
    Vit(VitConfig),
    Clip(ClipConfig),
}

/// The keys that distinguish the kinds.
#[derive(Debug, Deserialize)]
struct Kind {
    #[serde(default)]
    model_type: String,
    #[serde(default)]
    architectures: Option<Vec<String>>,
}

impl Config {
    /// Of a file's content.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let value: Value = json::parse(bytes)?;
        let kind: Kind = json::typed(&value)?;
        let architectures = kind.architectures.unwrap_or_default();
        let config = match kind.model_type.as_str() {
            "vit" => json::typed(&value).map(Self::Vit)?,
            "clip" if architectures.iter().any(|name| name == CHECKER) => {
                json::typed(&value).map(Self::Clip)?
            }
            other => {
                return Err(format!(
                    "model_type is \"{other}\" and architectures are {architectures:?}, but images are checked by \"vit\" classifiers and by diffusers' {CHECKER} only"
                ));
            }
        };
        match &config {
            Self::Vit(config) => config.check()?,
            Self::Clip(config) => config.check()?,
        }
        Ok(config)
    }

    /// Which network it is.
    pub(super) fn kind(&self) -> NetworkKind {
        match self {
            Self::Vit(_) => NetworkKind::Vit,
            Self::Clip(_) => NetworkKind::Clip,
        }
    }

    /// `(height, width)` of what the network reads.
    pub(super) fn image(&self) -> (usize, usize) {
        let shape = match self {
            Self::Vit(config) => config.shape(),
            Self::Clip(config) => config.shape(),
        };
        (shape.height, shape.width)
    }
}
