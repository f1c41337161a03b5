//! The loop on a GPU: one step captured as a graph, replayed without the host in between.
//!
//! The captured step reads and writes tensors that stay where they are: before each replay the step's modulations and
//! settings are copied into them. The host runs at most one step ahead of the device, so that there is always one
//! waiting and a client that leaves costs at most one more.
//!
//! Steps with skip-layer guidance, which are few, are launched one kernel after the other.
//!
//! What a step computes in is one arena for all sizes, as large as the largest needs: one step runs at a time, and keeps
//! nothing there.

use super::eager::EagerSteps;
use super::{Allocation, CAPTURED_SIZES, DenoiseInput, Denoiser, LoopHooks};
use crate::generate::Observer;
use crate::gpu::{Arena, Event, Graph, Layout, latents as kernels, warm_up};
use crate::mmdit::{Additions, Mmdit, Prepared};
use crate::target::Target;
use crate::{Error, Result, Stage};
use candle_core::{DType, Device, Tensor};

/// What the loop keeps from one request to the next.
#[derive(Default)]
pub(super) struct Captured {
    /// The last used at the end.
    steps: Vec<CapturedStep>,
    /// What all of them compute in.
    arena: Option<Arena>,
    /// Which adapters' tensors the transformer reads now.
    pub(super) adapters: u64,
}

/// Steps for latents and text of one size.
struct CapturedStep {
    key: Key,
    buffers: StaticBuffers,
    /// Every branch, of which guidance makes two.
    every: Graph,
    /// The prompt's alone, once a guidance interval has asked for it.
    prompted: Option<Graph>,
}

/// Everything that a captured step depends on besides the weights.
#[derive(PartialEq, Eq)]
struct Key {
    latents: Vec<usize>,
    context: Vec<usize>,
    /// Which adapters' tensors it reads ([`crate::lora::AdaptedLayers::apply`]). Their values may change.
    adapters: u64,
}

/// What a captured step reads and writes.
struct StaticBuffers {
    /// `[N, C, h, w]` f32, advanced in place.
    latents: Tensor,
    /// `[B, Lt, D]`.
    context: Tensor,
    /// `[B, R, D]`.
    modulations: Tensor,
    /// `[L, D]`.
    positions: Tensor,
    /// `[4]` f32: guidance, difference of sigmas, step, 0.
    settings: Tensor,
    /// `[1]` u32: the first step whose latents were not finite, or `u32::MAX`.
    first_bad: Tensor,
}

impl Denoiser {
    pub(super) fn run_captured(
        &mut self,
        input: &DenoiseInput,
        prepared: &Prepared,
        hooks: &mut LoopHooks,
    ) -> Result<Tensor> {
        let captured = self.captured.step(&self.mmdit, &self.target, input, prepared)?;
        let (buffers, device) = (&captured.buffers, &self.target.device);
        let eager = EagerSteps {
            mmdit: &self.mmdit,
            dtype: self.target.dtype,
            input,
            prepared,
            control: None,
            image: None,
        };
        buffers.load(input, prepared)?;
        let settings = settings(input, device)?;
        let mut events = Vec::with_capacity(input.steps() - input.steps_done);
        for index in input.steps_done..input.steps() {
            hooks.planted.check(Allocation::Step(index))?;
            let begin = Event::new(device)?;
            buffers.modulations.slice_set(&prepared.modulations.get(index)?, 0, 0)?;
            buffers.settings.slice_set(&settings.get(index)?, 0, 0)?;
            // A replay overwrites the latents. Looking at them is asked for between replays, or costs nothing.
            let before = hooks.wants_preview(index).then(|| buffers.latents.copy()).transpose()?;
            if input.skip_layers(index)?.is_some() {
                let after = eager.step(&buffers.latents, index, &mut None, &mut None)?;
                buffers.latents.slice_set(&after, 0, 0)?;
            } else {
                captured.graph(input, index)?.launch()?;
            }
            if let Some(restored) = input.restored(&buffers.latents, index)? {
                buffers.latents.slice_set(&restored, 0, 0)?;
            }
            events.push([begin, Event::new(device)?]);
            hooks.save_state(input, index, || Ok(buffers.latents.copy()?))?;
            if index > input.steps_done {
                report(input, &events, index - 1, hooks.observer)?;
            }
            if let Some(before) = before {
                let sigmas = &input.schedule.sigmas;
                hooks.show(&before, &buffers.latents, [sigmas[index], sigmas[index + 1]])?;
            }
        }
        report(input, &events, input.steps() - 1, hooks.observer)?;
        match buffers.first_bad.to_vec1::<u32>()?[..] {
            [u32::MAX] => Ok(buffers.latents.copy()?),
            [step] => {
                let stage = Stage::Step { step: step as usize + 1, of: input.steps() };
                Err(Error::NonFinite { stage })
            }
            _ => unreachable!("one element"),
        }
    }
}

impl Captured {
    /// The step of this input's size, which is captured unless it is known.
    fn step(
        &mut self,
        mmdit: &Mmdit,
        target: &Target,
        input: &DenoiseInput,
        prepared: &Prepared,
    ) -> Result<&CapturedStep> {
        let (latents, context) = (input.start.dims().to_vec(), prepared.context.dims().to_vec());
        let key = Key { latents, context, adapters: self.adapters };
        let mut step = match self.steps.iter().position(|step| step.key == key) {
            Some(known) => self.steps.remove(known),
            None => {
                if self.steps.len() == CAPTURED_SIZES {
                    self.steps.remove(0);
                }
                let buffers = StaticBuffers::new(mmdit, target, input, prepared)?;
                let every = self.capture(mmdit, target, &buffers, input, input.branches()?)?;
                CapturedStep { key, buffers, every, prompted: None }
            }
        };
        if step.prompted.is_none() && input.leaves_guidance()? {
            step.prompted = Some(self.capture(mmdit, target, &step.buffers, input, 1)?);
        }
        self.steps.push(step);
        Ok(&self.steps[self.steps.len() - 1])
    }

    /// Captures a step of so many branches.
    fn capture(
        &mut self,
        mmdit: &Mmdit,
        target: &Target,
        buffers: &StaticBuffers,
        input: &DenoiseInput,
        branches: usize,
    ) -> Result<Graph> {
        let (patch, rows) = (mmdit.config().patch_size, branches * input.start.dim(0)?);
        // The prompt's rows are the last.
        let of = |all: &Tensor| all.narrow(0, all.dim(0)? - rows, rows);
        let (context, modulations) = (of(&buffers.context)?, of(&buffers.modulations)?);
        let positions = &buffers.positions;
        let step = || {
            let patches = kernels::patchify(&buffers.latents, patch, branches, target.dtype)?;
            let prediction = mmdit.forward_tokens(
                &[],
                Additions::default(),
                &patches,
                positions,
                &context,
                &modulations,
            )?;
            kernels::guided_step(&buffers.latents, &prediction, patch, &buffers.settings, &buffers.first_bad)
        };
        let layout = warm_up(&target.device, step)?;
        let arena = self.arena(&target.device, &layout)?;
        Ok(Graph::capture(&target.device, &arena, &layout, step)?)
    }

    /// An arena that holds this layout. A larger one takes the place of the one before: the steps in that are captured
    /// anew when they are asked for.
    fn arena(&mut self, device: &Device, layout: &Layout) -> Result<Arena> {
        if let Some(arena) = self.arena.take_if(|arena| !arena.holds(layout)) {
            self.steps.clear();
            drop(arena);
        }
        match &self.arena {
            Some(arena) => Ok(arena.clone()),
            None => Ok(self.arena.insert(Arena::new(device, layout)?).clone()),
        }
    }
}

impl CapturedStep {
    fn graph(&self, input: &DenoiseInput, index: usize) -> Result<&Graph> {
        match &self.prompted {
            Some(prompted) if input.copies(index)? < input.branches()? => Ok(prompted),
            _ => Ok(&self.every),
        }
    }
}

impl StaticBuffers {
    fn new(mmdit: &Mmdit, target: &Target, input: &DenoiseInput, prepared: &Prepared) -> Result<Self> {
        let (_, _, height, width) = input.start.dims4()?;
        Ok(Self {
            latents: input.start.copy()?,
            context: prepared.context.copy()?,
            modulations: prepared.modulations.get(0)?.copy()?,
            positions: mmdit.positions(height, width)?,
            settings: Tensor::zeros(4, DType::F32, &target.device)?,
            first_bad: Tensor::new(&[u32::MAX], &target.device)?,
        })
    }

    /// Copies a request's inputs in.
    fn load(&self, input: &DenoiseInput, prepared: &Prepared) -> Result<()> {
        self.latents.slice_set(&input.start, 0, 0)?;
        self.context.slice_set(&prepared.context, 0, 0)?;
        Ok(self.first_bad.slice_set(&Tensor::new(&[u32::MAX], self.first_bad.device())?, 0, 0)?)
    }
}

/// `[S, 4]` f32: what changes from step to step besides the modulations.
fn settings(input: &DenoiseInput, device: &Device) -> Result<Tensor> {
    let row =
        |(index, sigmas): (usize, &[f32])| [input.guidance as f32, sigmas[1] - sigmas[0], index as f32, 0.0];
    let rows: Vec<f32> = input.schedule.sigmas.windows(2).enumerate().flat_map(row).collect();
    Ok(Tensor::from_vec(rows, (input.steps(), 4), device)?)
}

/// Waits for step `index` and reports it; `events` are those of the steps of this attempt.
fn report(
    input: &DenoiseInput,
    events: &[[Event; 2]],
    index: usize,
    observer: &mut dyn Observer,
) -> Result<()> {
    let [begin, end] = &events[index - input.steps_done];
    end.wait()?;
    input.report(index, end.seconds_since(begin)?, observer)
}
