//! The loop on a GPU: one step recorded as a graph, replayed without the host in between.
//!
//! The recorded step reads and writes tensors that stay where they are: before each replay the step's modulations and
//! settings are copied into them. The host runs at most one step ahead of the device, so that there is always one
//! waiting and a client that leaves costs at most one more.

use super::{Denoiser, Job, Watch};
use crate::generate::Observer;
use crate::gpu::{Graph, Mark, latents as kernels, rehearse};
use crate::mmdit::Prepared;
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};

/// Sizes whose step stays recorded: fal's six presets and two more. Each keeps the memory that its step needs.
const KEPT: usize = 8;

/// Steps for latents and text of one size.
pub(super) struct Recorded {
    key: Key,
    fixed: Fixed,
    /// Every branch, of which guidance makes two.
    every: Graph,
    /// The prompt's alone, once a guidance interval has asked for it.
    prompted: Option<Graph>,
}

/// Everything that a recorded step depends on besides the weights.
#[derive(PartialEq, Eq)]
struct Key {
    latents: Vec<usize>,
    context: Vec<usize>,
}

/// The tensors of a recorded step.
struct Fixed {
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
    pub(super) fn run_recorded(
        &mut self,
        job: &Job,
        prepared: &Prepared,
        watch: &mut Watch,
    ) -> Result<Tensor> {
        let recorded = self.recorded(job, prepared)?;
        let device = recorded.fixed.latents.device();
        recorded.fixed.begin(job, prepared)?;
        let settings = settings(job, device)?;
        let mut marks = Vec::with_capacity(job.steps());
        for index in 0..job.steps() {
            let begin = Mark::new(device)?;
            recorded.fixed.modulations.slice_set(&prepared.modulations.get(index)?, 0, 0)?;
            recorded.fixed.settings.slice_set(&settings.get(index)?, 0, 0)?;
            // A replay overwrites the latents. Looking at them is asked for between replays, or costs nothing.
            let latents = &recorded.fixed.latents;
            let before = watch.wants_preview(index).then(|| latents.copy()).transpose()?;
            recorded.step(job, index)?.launch()?;
            marks.push([begin, Mark::new(device)?]);
            if index > 0 {
                report(job, &marks, index - 1, watch.observer)?;
            }
            if let Some(before) = before {
                let sigmas = &job.schedule.sigmas;
                watch.show(&before, latents, [sigmas[index], sigmas[index + 1]])?;
            }
        }
        report(job, &marks, job.steps() - 1, watch.observer)?;
        match recorded.fixed.first_bad.to_vec1::<u32>()?[..] {
            [u32::MAX] => Ok(recorded.fixed.latents.copy()?),
            [step] => Err(Error::NonFinite { step: step as usize + 1, of: job.steps() }),
            _ => unreachable!("one element"),
        }
    }

    /// The steps of this job's size, which are recorded unless they are known.
    fn recorded(&mut self, job: &Job, prepared: &Prepared) -> Result<&Recorded> {
        let key = Key { latents: job.noise.dims().to_vec(), context: prepared.context.dims().to_vec() };
        match self.recorded.iter().position(|recorded| recorded.key == key) {
            Some(known) => self.recorded[known..].rotate_left(1),
            None => {
                if self.recorded.len() == KEPT {
                    self.recorded.remove(0);
                }
                let fixed = self.fixed(job, prepared)?;
                let every = self.record(&fixed, job, job.branches()?)?;
                self.recorded.push(Recorded { key, fixed, every, prompted: None });
            }
        }
        let last = self.recorded.len() - 1;
        if self.recorded[last].prompted.is_none() && job.leaves_guidance()? {
            self.recorded[last].prompted = Some(self.record(&self.recorded[last].fixed, job, 1)?);
        }
        Ok(&self.recorded[last])
    }

    /// Runs one step of so many branches for what is made on first use, then records one.
    fn record(&self, fixed: &Fixed, job: &Job, branches: usize) -> Result<Graph> {
        let device = &self.target.device;
        let (patch, rows) = (self.mmdit.config().patch_size, branches * job.noise.dim(0)?);
        // The prompt's rows are the last.
        let of = |all: &Tensor| all.narrow(0, all.dim(0)? - rows, rows);
        let (context, modulations) = (of(&fixed.context)?, of(&fixed.modulations)?);
        let step = || {
            let patches = kernels::patchify(&fixed.latents, patch, branches, self.target.dtype)?;
            let prediction = self.mmdit.forward_tokens(&patches, &fixed.positions, &context, &modulations)?;
            kernels::guided_step(&fixed.latents, &prediction, patch, &fixed.settings, &fixed.first_bad)
        };
        rehearse(device, step)?;
        Ok(Graph::record(device, step)?)
    }

    fn fixed(&self, job: &Job, prepared: &Prepared) -> Result<Fixed> {
        let device = &self.target.device;
        let (_, _, height, width) = job.noise.dims4()?;
        Ok(Fixed {
            latents: job.noise.copy()?,
            context: prepared.context.copy()?,
            modulations: prepared.modulations.get(0)?.copy()?,
            positions: self.mmdit.positions(height, width)?,
            settings: Tensor::zeros(4, DType::F32, device)?,
            first_bad: Tensor::new(&[u32::MAX], device)?,
        })
    }
}

impl Recorded {
    fn step(&self, job: &Job, index: usize) -> Result<&Graph> {
        match &self.prompted {
            Some(prompted) if job.copies(index)? < job.branches()? => Ok(prompted),
            _ => Ok(&self.every),
        }
    }
}

impl Fixed {
    /// Takes in a request.
    fn begin(&self, job: &Job, prepared: &Prepared) -> Result<()> {
        self.latents.slice_set(&job.noise, 0, 0)?;
        self.context.slice_set(&prepared.context, 0, 0)?;
        Ok(self.first_bad.slice_set(&Tensor::new(&[u32::MAX], self.first_bad.device())?, 0, 0)?)
    }
}

/// `[S, 4]` f32: what changes from step to step besides the modulations.
fn settings(job: &Job, device: &Device) -> Result<Tensor> {
    let row =
        |(index, sigmas): (usize, &[f32])| [job.guidance as f32, sigmas[1] - sigmas[0], index as f32, 0.0];
    let rows: Vec<f32> = job.schedule.sigmas.windows(2).enumerate().flat_map(row).collect();
    Ok(Tensor::from_vec(rows, (job.steps(), 4), device)?)
}

/// Waits for step `index` and reports it.
fn report(job: &Job, marks: &[[Mark; 2]], index: usize, observer: &mut dyn Observer) -> Result<()> {
    let [begin, end] = &marks[index];
    end.wait()?;
    job.report(index, end.seconds_since(begin)?, observer)
}
