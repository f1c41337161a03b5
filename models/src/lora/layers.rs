//! Sets what the layers of some networks add.
//!
//! Adapters whose ranks are alike use the same tensors one after the other, so that a captured step, which reads tensors
//! where they are, stays right when only their values change. [`AdaptedLayers::apply`] returns which tensors layers read.

use super::adapter::Pair;
use super::store::AdapterSet;
use crate::Result;
use crate::low_rank::{LowRank, Network, Site};
use crate::target::Target;
use candle_core::{DType, Tensor};
use std::collections::HashMap;

/// Ranks on a GPU are padded to a multiple of this: what fp8 products need, and what bf16 products are fast with.
const RANK_MULTIPLE: usize = 16;

/// The layers of networks on one device.
pub(crate) struct AdaptedLayers {
    networks: Vec<(Network, Vec<Site>)>,
    target: Target,
    /// Bytes of all layouts.
    limit: u64,
    /// The last used at the end.
    layouts: Vec<LayoutTensors>,
    /// Layouts that were made, which numbers them.
    made: u64,
    /// The set that the layers have; `None` if it is not known, after an error.
    applied: Option<String>,
    /// Number of the layout that layers read, 0 without adapters.
    layout: u64,
}

/// What layers read for sets of the same ranks.
struct LayoutTensors {
    number: u64,
    /// Of each layer, 0 where nothing is added.
    ranks: Vec<usize>,
    tensors: Vec<Option<LowRank>>,
    bytes: u64,
}

/// What is added to each layer, by the layer.
type Pieces<'a> = HashMap<(Network, usize), Vec<(&'a Pair, f64)>>;

impl AdaptedLayers {
    pub(crate) fn new(networks: Vec<(Network, Vec<Site>)>, target: &Target, limit: u64) -> Self {
        let (target, applied) = (target.clone(), Some(String::new()));
        Self { networks, target, limit, layouts: Vec::new(), made: 0, applied, layout: 0 }
    }

    /// The layers of each network.
    pub(crate) fn networks(&self) -> impl Iterator<Item = (Network, &[Site])> {
        self.networks.iter().map(|(network, sites)| (*network, sites.as_slice()))
    }

    /// What these layers depend on in a set; empty where it does not change them.
    pub(crate) fn identity(&self, set: &AdapterSet) -> String {
        set.identity(&self.names())
    }

    /// Makes the layers add what a set says, and nothing else. Returns which tensors they read: a number that is never used
    /// again for others, 0 without adapters.
    pub(crate) fn apply(&mut self, set: &AdapterSet) -> Result<u64> {
        let identity = self.identity(set);
        if self.applied.as_ref() == Some(&identity) {
            return Ok(self.layout);
        }
        self.clear();
        self.applied = None;
        let names = self.names();
        let mut pieces = Pieces::new();
        for (pair, scale) in set.pairs(&names) {
            for (index, target) in pair.targets.iter().enumerate() {
                let layer = (target.network, target.site);
                let is_new = !pair.targets[..index].iter().any(|other| (other.network, other.site) == layer);
                if is_new {
                    pieces.entry(layer).or_default().push((pair, scale));
                }
            }
        }
        if !pieces.is_empty() {
            self.fill(&pieces)?;
        }
        self.applied = Some(identity);
        Ok(self.layout)
    }

    /// Drops the tensors of all sets; layers add nothing.
    pub(crate) fn forget(&mut self) {
        self.clear();
        self.layouts.clear();
        self.applied = Some(String::new());
    }

    fn names(&self) -> Vec<Network> {
        self.networks.iter().map(|(network, _)| *network).collect()
    }

    fn clear(&mut self) {
        self.networks.iter().flat_map(|(_, sites)| sites).for_each(|site| site.slot.set(None));
        self.layout = 0;
    }

    /// Writes these pieces into the tensors of their layout, and has the layers read them.
    fn fill(&mut self, pieces: &Pieces) -> Result<()> {
        let rank = |network: Network, number: usize| {
            let all = pieces.get(&(network, number)).into_iter().flatten();
            self.padded(all.map(|(pair, _)| pair.down.dims()[0]).sum())
        };
        let sites = || {
            self.networks.iter().flat_map(|(network, sites)| {
                sites.iter().enumerate().map(|(number, site)| (*network, number, site))
            })
        };
        let ranks: Vec<usize> = sites().map(|(network, number, _)| rank(network, number)).collect();
        let element = self.target.dtype.size_in_bytes() as u64;
        let values = sites()
            .zip(&ranks)
            .map(|((_, _, site), rank)| (rank * (site.input + site.names.len() * site.output)) as u64);
        let bytes = values.sum::<u64>() * element;
        let known = self.layouts.iter().position(|layout| layout.ranks == ranks);
        let layout = match known {
            Some(known) => {
                let layout = self.layouts.remove(known);
                for (((network, number, site), rank), kept) in sites().zip(&ranks).zip(&layout.tensors) {
                    if let (Some(kept), Some(pieces)) = (kept, pieces.get(&(network, number))) {
                        let LowRank { down, up } = self.stack(site, (network, number), pieces, *rank)?;
                        kept.down.slice_set(&down, 0, 0)?;
                        kept.up.slice_set(&up, 0, 0)?;
                    }
                }
                layout
            }
            None => {
                let mut all: u64 = bytes + self.layouts.iter().map(|layout| layout.bytes).sum::<u64>();
                while all > self.limit && !self.layouts.is_empty() {
                    all -= self.layouts.remove(0).bytes;
                }
                self.made += 1;
                let tensors = sites().zip(&ranks).map(|((network, number, site), rank)| {
                    let pieces = pieces.get(&(network, number));
                    let made = pieces.map(|pieces| self.stack(site, (network, number), pieces, *rank));
                    // What is made of one piece may be that piece itself, which stays as it is.
                    made.transpose()?.map(|made| Ok(made.copy()?)).transpose()
                });
                let tensors = tensors.collect::<Result<Vec<_>>>()?;
                LayoutTensors { number: self.made, ranks, tensors, bytes }
            }
        };
        sites().zip(&layout.tensors).for_each(|((_, _, site), tensors)| site.slot.set(tensors.clone()));
        self.layout = layout.number;
        self.layouts.push(layout);
        Ok(())
    }

    fn padded(&self, rank: usize) -> usize {
        if self.target.device.is_cuda() { rank.next_multiple_of(RANK_MULTIPLE) } else { rank }
    }

    /// The pieces of a layer as one product of this rank: `down` one below the other, `up` side by side, each in the rows
    /// of the projections that it changes.
    fn stack(
        &self,
        site: &Site,
        layer: (Network, usize),
        pieces: &[(&Pair, f64)],
        rank: usize,
    ) -> Result<LowRank> {
        let Target { device, dtype, .. } = &self.target;
        let (mut downs, mut ups) = (Vec::new(), Vec::new());
        for (pair, scale) in pieces {
            downs.push(pair.down.to_device(device)?);
            let up = (pair.up.to_device(device)?.to_dtype(DType::F32)? * (pair.scale * scale))?;
            ups.push(in_rows(site, layer, pair, &up)?.to_dtype(*dtype)?);
        }
        let missing = rank - downs.iter().map(|down| down.dims()[0]).sum::<usize>();
        if missing > 0 {
            downs.push(Tensor::zeros((missing, site.input), *dtype, device)?);
            ups.push(Tensor::zeros((site.names.len() * site.output, missing), *dtype, device)?);
        }
        Ok(LowRank { down: Tensor::cat(&downs, 0)?.contiguous()?, up: Tensor::cat(&ups, 1)?.contiguous()? })
    }
}

/// A product's rows in the order of the layer's projections, zeros for those that it does not change.
fn in_rows(site: &Site, layer: (Network, usize), pair: &Pair, up: &Tensor) -> Result<Tensor> {
    let (rows, rank) = up.dims2()?;
    let mut parts = Vec::with_capacity(site.names.len());
    for index in 0..site.names.len() {
        let of_projection = |target: &&super::layer_map::Target| {
            (target.network, target.site) == layer && target.index == index
        };
        match pair.targets.iter().find(of_projection) {
            Some(target) => {
                for range in target.rows.ranges(rows) {
                    parts.push(up.narrow(0, range.start, range.len())?);
                }
            }
            None => parts.push(Tensor::zeros((site.output, rank), up.dtype(), up.device())?),
        }
    }
    Ok(Tensor::cat(&parts, 0)?)
}
