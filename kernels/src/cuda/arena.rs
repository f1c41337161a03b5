//! The memory of a captured step: a block for each type of value, laid out before the step is captured.
//!
//! [`Layout`] is made of what a warm-up observed ([`super::pass`]): which tensors a step's ops make, in which order, and
//! when each is dropped. Two of them share their place unless one may be needed while the other is written. The captured
//! step makes the same tensors in the same order, and each is a view of its block, so that a graph allocates nothing.

use super::allocation;
use super::branch::Branch;
use super::device::Gpu;
use candle_core::{DType, Device, Result, Shape, Tensor, bail};

/// Places begin at multiples of this: more than any kernel asks for, and the page in which the emulated driver sees what
/// work touches.
const PAGE_BYTES: usize = 4096;

/// The types that ops make, each with a block.
const DTYPES: [DType; 3] = [DType::F32, DType::BF16, DType::U8];

/// An allocation of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) dtype: DType,
    pub(super) elements: usize,
    pub(super) branch: Branch,
}

/// An allocation, and how long it was needed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lifetime {
    pub(super) request: Request,
    /// Allocations that the step had made when this one was dropped.
    pub(super) dropped: usize,
    /// The last fork whose side branch touched it.
    pub(super) side: Option<usize>,
}

/// Where each tensor of a step lies, in the order in which they are allocated.
#[derive(Debug, Clone)]
pub struct Layout {
    places: Vec<Place>,
    /// Of each type's block.
    pages: [usize; DTYPES.len()],
}

/// Part of a block.
#[derive(Debug, Clone, Copy)]
struct Place {
    request: Request,
    page: usize,
}

/// Device memory for one step at a time, of any layout that it holds. Clones share it.
#[derive(Debug, Clone)]
pub struct Arena {
    /// Flat tensors of whole pages.
    blocks: [Option<Tensor>; DTYPES.len()],
    pages: [usize; DTYPES.len()],
}

impl Request {
    fn pages(&self) -> usize {
        (self.elements * self.dtype.size_in_bytes()).div_ceil(PAGE_BYTES)
    }

    fn block(&self) -> Result<usize> {
        let position = DTYPES.iter().position(|dtype| *dtype == self.dtype);
        position.ok_or_else(|| candle_core::Error::Msg(format!("no op makes {:?}", self.dtype)))
    }
}

impl Lifetime {
    /// Whether nothing that touches this allocation, which is number `index`, can run at the same time as what writes
    /// `later`, which is number `later_index`.
    fn ends_before(&self, later: &Self, later_index: usize) -> bool {
        // The branches of a fork have no order, and the side's allocations were observed first.
        let races = matches!(later.request.branch, Branch::Main(fork) if self.side == Some(fork));
        self.dropped <= later_index && !races
    }
}

impl Layout {
    /// Places what is largest first, each at the first gap that is wide enough.
    pub(super) fn new(lifetimes: &[Lifetime]) -> Result<Self> {
        let mut pages = [0; DTYPES.len()];
        let mut places: Vec<Option<Place>> = vec![None; lifetimes.len()];
        let mut order: Vec<usize> = (0..lifetimes.len()).collect();
        order.sort_by_key(|&index| std::cmp::Reverse(lifetimes[index].request.pages()));
        for index in order {
            let request = lifetimes[index].request;
            let mut taken: Vec<_> = (0..lifetimes.len())
                .filter(|&other| conflicts(lifetimes, index, other))
                .filter_map(|other| places[other])
                .map(|place| (place.page, place.page + place.request.pages()))
                .collect();
            taken.sort_unstable();
            let page = first_gap(&taken, request.pages());
            let block = request.block()?;
            pages[block] = pages[block].max(page + request.pages());
            places[index] = Some(Place { request, page });
        }
        Ok(Self { places: places.into_iter().flatten().collect(), pages })
    }

    /// Bytes that an arena for it takes.
    pub fn bytes(&self) -> usize {
        self.pages.iter().sum::<usize>() * PAGE_BYTES
    }

    /// How many tensors it places.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }
}

/// Whether two allocations of one block must not share a place.
fn conflicts(lifetimes: &[Lifetime], a: usize, b: usize) -> bool {
    let (first, second) = (a.min(b), a.max(b));
    first != second
        && lifetimes[a].request.dtype == lifetimes[b].request.dtype
        && !lifetimes[first].ends_before(&lifetimes[second], second)
}

/// The beginning of the first gap of so many pages between ranges in order.
fn first_gap(taken: &[(usize, usize)], pages: usize) -> usize {
    let mut page = 0;
    for &(begin, end) in taken {
        if begin >= page + pages {
            break;
        }
        page = page.max(end);
    }
    page
}

impl Arena {
    /// Takes the memory of a layout from the device.
    ///
    /// # Errors
    /// The device has not so much, or is none of CUDA's.
    pub fn new(device: &Device, layout: &Layout) -> Result<Self> {
        let gpu = Gpu::of(device.as_cuda_device()?)?;
        let mut blocks = [const { None }; DTYPES.len()];
        for ((block, dtype), pages) in blocks.iter_mut().zip(DTYPES).zip(layout.pages) {
            if pages > 0 {
                let elements = pages * PAGE_BYTES / dtype.size_in_bytes();
                *block = Some(allocation::uninitialised(&gpu, gpu.main(), dtype, elements.into())?);
            }
        }
        Ok(Self { blocks, pages: layout.pages })
    }

    /// Whether a step of this layout can compute in it.
    pub fn holds(&self, layout: &Layout) -> bool {
        self.pages.iter().zip(layout.pages).all(|(pages, needed)| *pages >= needed)
    }

    /// The tensor for allocation number `index` of a step.
    pub(super) fn tensor(
        &self,
        layout: &Layout,
        index: usize,
        request: Request,
        shape: Shape,
    ) -> Result<Tensor> {
        let Some(place) = layout.places.get(index).filter(|place| place.request == request) else {
            let warmed_up = layout.places.get(index).map(|place| place.request);
            bail!("allocation {index} of a captured step is {request:?}, and {warmed_up:?} in its warm-up")
        };
        let Some(block) = &self.blocks[request.block()?] else {
            bail!("the arena has no {:?}", request.dtype)
        };
        let offset = place.page * PAGE_BYTES / request.dtype.size_in_bytes();
        block.narrow(0, offset, request.elements)?.reshape(shape)
    }
}

#[cfg(test)]
mod tests;
