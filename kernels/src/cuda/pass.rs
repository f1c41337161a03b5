//! What a step's ops allocate: observed while the step warms up, taken from an arena while it is captured.
//!
//! Every op allocates here. On a thread that neither warms up nor captures, memory comes from candle's pool.

use super::allocation;
use super::arena::{Arena, Layout, Lifetime, Request};
use super::branch::{self, Branch};
use super::device::Gpu;
use candle_core::cuda_backend::DeviceId;
use candle_core::{DType, Result, Shape, Tensor, bail};
use cudarc::driver::CudaStream;
use std::cell::RefCell;
use std::sync::{Arc, Weak};

thread_local! {
    static PASS: RefCell<Option<Pass>> = const { RefCell::new(None) };
}

/// A step on its way through this thread.
struct Pass {
    device: DeviceId,
    kind: Kind,
}

enum Kind {
    WarmUp(Vec<Observed>),
    Capture { arena: Arena, layout: Layout, next: usize },
}

/// An allocation of a warm-up.
struct Observed {
    request: Request,
    address: u64,
    /// The stream that the memory has for its own. It goes when the memory goes.
    owner: Weak<CudaStream>,
    dropped: Option<usize>,
    side: Option<usize>,
}

/// The time in which this thread has a pass. Ends also where the step panics.
pub(super) struct Running {
    _step: branch::Running,
}

impl Running {
    /// Observes a step from now on.
    pub(super) fn warm_up(gpu: &Gpu) -> Result<Self> {
        Self::begin(gpu, Kind::WarmUp(Vec::new()))
    }

    /// Gives a step memory of this arena from now on.
    pub(super) fn capture(gpu: &Gpu, arena: Arena, layout: Layout) -> Result<Self> {
        Self::begin(gpu, Kind::Capture { arena, layout, next: 0 })
    }

    fn begin(gpu: &Gpu, kind: Kind) -> Result<Self> {
        let device = gpu.device.id();
        let running = branch::Running::begin(device, matches!(kind, Kind::Capture { .. }))?;
        PASS.set(Some(Pass { device, kind }));
        Ok(Self { _step: running })
    }

    /// Ends a warm-up: where a captured step's tensors are going to lie.
    pub(super) fn layout(self) -> Result<Layout> {
        match PASS.take().map(|pass| pass.kind) {
            Some(Kind::WarmUp(mut observed)) => {
                note_drops(&mut observed);
                let all = observed.len();
                let lifetime = |one: &Observed| Lifetime {
                    request: one.request,
                    dropped: one.dropped.unwrap_or(all),
                    side: one.side,
                };
                Layout::new(&observed.iter().map(lifetime).collect::<Vec<_>>())
            }
            _ => bail!("no step was observed"),
        }
    }

    /// Ends a capture, which must have allocated what its warm-up did.
    pub(super) fn finish(self) -> Result<()> {
        match PASS.take().map(|pass| pass.kind) {
            Some(Kind::Capture { layout, next, .. }) if next == layout.len() => Ok(()),
            Some(Kind::Capture { layout, next, .. }) => {
                bail!("a captured step makes {next} tensors, and {} in its warm-up", layout.len())
            }
            _ => bail!("no step was captured"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        PASS.take();
    }
}

impl Pass {
    fn allocate(&mut self, gpu: &Gpu, dtype: DType, shape: Shape) -> Result<Tensor> {
        let branch = branch::current().unwrap_or(Branch::None);
        let request = Request { dtype, elements: shape.elem_count(), branch };
        match &mut self.kind {
            Kind::WarmUp(observed) => {
                note_drops(observed);
                let owner = gpu.alias_of_main();
                let tensor = allocation::uninitialised(gpu, &owner, dtype, shape)?;
                let side = if let Branch::Side(fork) = branch { Some(fork) } else { None };
                let (address, owner) = (allocation::address(&tensor)?, Arc::downgrade(&owner));
                observed.push(Observed { request, address, owner, dropped: None, side });
                Ok(tensor)
            }
            Kind::Capture { arena, layout, next } => {
                *next += 1;
                arena.tensor(layout, *next - 1, request, shape)
            }
        }
    }
}

/// Sees which allocations are gone since it last looked.
fn note_drops(observed: &mut [Observed]) {
    let all = observed.len();
    for one in observed.iter_mut().filter(|one| one.dropped.is_none() && one.owner.strong_count() == 0) {
        one.dropped = Some(all);
    }
}

/// Uninitialised memory on a GPU, which must be written before it is read.
pub(super) fn allocate(gpu: &Gpu, dtype: DType, shape: Shape) -> Result<Tensor> {
    PASS.with_borrow_mut(|pass| match pass {
        Some(pass) if pass.device == gpu.device.id() => pass.allocate(gpu, dtype, shape),
        _ => allocation::uninitialised(gpu, gpu.main(), dtype, shape),
    })
}

/// Notes that an op is given this tensor: what a side branch touches is needed until it has joined.
pub(super) fn touch(tensor: &Tensor) {
    let Some(Branch::Side(fork)) = branch::current() else { return };
    PASS.with_borrow_mut(|pass| {
        let Some(Pass { kind: Kind::WarmUp(observed), .. }) = pass else { return };
        let Ok(address) = allocation::address(tensor) else { return };
        // Memory that was dropped may have been allocated again at the same address.
        if let Some(one) = observed.iter_mut().rev().find(|one| one.address == address) {
            one.side = Some(fork);
        }
    });
}
