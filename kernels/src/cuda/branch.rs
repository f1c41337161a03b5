//! Where in a step's forks this thread is: which stream its ops launch on, and which branch they allocate in.

use candle_core::cuda_backend::DeviceId;
use candle_core::{Result, bail};
use std::cell::RefCell;

/// Where an op runs: outside of a fork, or in one of its branches. Forks are counted from the beginning of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Branch {
    None,
    /// The second stream's, which comes first in the order of allocations.
    Side(usize),
    Main(usize),
}

/// A step on its way through this thread.
struct Step {
    device: DeviceId,
    branch: Branch,
    /// Forks so far.
    forks: usize,
    captures: bool,
}

thread_local! {
    static STEP: RefCell<Option<Step>> = const { RefCell::new(None) };
}

/// The time in which this thread runs a step. Ends also where the step panics.
pub(super) struct Running;

impl Running {
    /// Of a step on a device, which is captured or only observed.
    pub(super) fn begin(device: DeviceId, captures: bool) -> Result<Self> {
        STEP.with_borrow_mut(|step| match step {
            Some(_) => bail!("a step within another one"),
            None => {
                *step = Some(Step { device, branch: Branch::None, forks: 0, captures });
                Ok(Self)
            }
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        STEP.take();
    }
}

/// The branch that this thread is in, if it runs a step.
pub(super) fn current() -> Option<Branch> {
    STEP.with_borrow(|step| step.as_ref().map(|step| step.branch))
}

/// Whether what this thread launches on a device goes to the second stream.
pub(super) fn on_side_stream(device: DeviceId) -> bool {
    STEP.with_borrow(|step| match step {
        Some(Step { branch: Branch::Side(_), captures: true, device: of, .. }) => *of == device,
        _ => false,
    })
}

/// The time of a fork, in its side branch to begin with.
pub(super) struct Fork {
    number: usize,
    pub(super) captures: bool,
}

impl Fork {
    /// `None` if this thread runs no step on that device, or is within a fork already.
    pub(super) fn begin(device: DeviceId) -> Option<Self> {
        STEP.with_borrow_mut(|step| {
            let step = step.as_mut().filter(|step| step.device == device)?;
            if step.branch != Branch::None {
                return None;
            }
            step.forks += 1;
            step.branch = Branch::Side(step.forks);
            Some(Self { number: step.forks, captures: step.captures })
        })
    }

    /// The main branch from now on.
    pub(super) fn main(&self) {
        Self::set(Branch::Main(self.number));
    }

    fn set(branch: Branch) {
        STEP.with_borrow_mut(|step| {
            if let Some(step) = step {
                step.branch = branch;
            }
        });
    }
}

/// Also where a branch fails.
impl Drop for Fork {
    fn drop(&mut self) {
        Self::set(Branch::None);
    }
}
