//! The adapters of a request, of which the last that were read stay in host memory.

use super::adapter::{Adapter, Pair, refused, too_large};
use super::layer_map::LayerMap;
use super::{MAX_LORAS, named};
use crate::content::Stamp;
use crate::low_rank::Network;
use crate::{Lora, Result};
use candle_core::DType;
use std::path::Path;
use std::sync::Arc;

/// Reads adapters and keeps the last ones.
pub(crate) struct AdapterStore {
    layers: LayerMap,
    dtype: DType,
    /// Bytes of the adapters of a request, and of those that are kept.
    limit: u64,
    /// The last used at the end.
    kept: Vec<(Stamp, Arc<Adapter>)>,
}

/// The adapters of a request, each with its scale.
#[derive(Debug, Clone, Default)]
pub(crate) struct AdapterSet {
    adapters: Vec<Scaled>,
}

#[derive(Debug, Clone)]
struct Scaled {
    adapter: Arc<Adapter>,
    scale: f64,
}

impl AdapterStore {
    pub(crate) fn new(layers: LayerMap, dtype: DType, limit: u64) -> Self {
        Self { layers, dtype, limit, kept: Vec::new() }
    }

    /// Reads the adapters of a request, but for those that are kept and those of scale 0, which are only checked.
    ///
    /// # Errors
    /// [`crate::Error::Adapter`] for the first that cannot be used.
    pub(crate) fn set(&mut self, loras: &[Lora]) -> Result<AdapterSet> {
        if loras.len() > MAX_LORAS {
            let given = loras.len();
            return Err(refused(format!("{given} LoRAs are more than {MAX_LORAS}, the most of a request")));
        }
        let mut set = AdapterSet::default();
        for (index, lora) in loras.iter().enumerate() {
            set.adapters.push(self.scaled(lora).map_err(|error| named(error, Some(index), lora))?);
        }
        let bytes = set.adapters.iter().map(|scaled| scaled.adapter.bytes).sum();
        if bytes > self.limit { Err(refused(too_large(bytes, self.limit))) } else { Ok(set) }
    }

    fn scaled(&mut self, Lora { path, scale, .. }: &Lora) -> Result<Scaled> {
        if !scale.is_finite() {
            return Err(refused("its scale is no finite number"));
        }
        Ok(Scaled { adapter: self.get(path)?, scale: *scale })
    }

    /// Drops what is kept.
    pub(crate) fn forget(&mut self) {
        self.kept.clear();
    }

    fn get(&mut self, path: &Path) -> Result<Arc<Adapter>> {
        let stamp = Stamp::of(path);
        let known = self.kept.iter().position(|(kept, _)| Some(kept) == stamp.as_ref());
        let (stamp, adapter) = match (known, stamp) {
            (Some(known), _) => self.kept.remove(known),
            (None, stamp) => {
                let adapter = Arc::new(Adapter::read(path, &self.layers, self.dtype, self.limit)?);
                (stamp.ok_or_else(|| refused("there is no such file"))?, adapter)
            }
        };
        self.kept.push((stamp, adapter.clone()));
        while self.kept_bytes() > self.limit && self.kept.len() > 1 {
            self.kept.remove(0);
        }
        Ok(adapter)
    }

    pub(super) fn kept_bytes(&self) -> u64 {
        self.kept.iter().map(|(_, adapter)| adapter.bytes).sum()
    }
}

impl AdapterSet {
    /// Each product that is added to one of these networks, with its scale.
    pub(super) fn pairs<'a>(&'a self, networks: &'a [Network]) -> impl Iterator<Item = (&'a Pair, f64)> {
        let scaled = self.adapters.iter().filter(|scaled| scaled.scale != 0.0);
        let pairs = scaled.flat_map(|scaled| scaled.adapter.pairs.iter().map(|pair| (pair, scaled.scale)));
        pairs.filter(|(pair, _)| pair.targets.iter().any(|target| networks.contains(&target.network)))
    }

    /// What these networks compute depends on; empty where no adapter changes them.
    pub(crate) fn identity(&self, networks: &[Network]) -> String {
        if self.pairs(networks).next().is_none() {
            return String::new();
        }
        self.settings()
    }

    /// The adapters by their contents, which are the same on every machine and under every path; empty without adapters.
    pub(crate) fn settings(&self) -> String {
        let scaled =
            self.adapters.iter().map(|Scaled { adapter, scale }| format!("{} * {scale:?}", adapter.digest));
        scaled.collect::<Vec<_>>().join(" + ")
    }
}
