//! Matrices that stay in their files on their way to a GPU: the next one is read into pinned memory and copied while the
//! product before it computes.

use super::place::{MatrixUse, Place};
use super::read_ahead::{Position, ReadAhead};
use super::rows::{Blocks, blocks};
use super::source::PartFiles;
use crate::gpu::{BlockMatrix, Upload, upload};
use crate::target::Target;
use candle_core::quantized::GgmlDType;
use candle_core::{DType, Device, Result, Tensor, bail};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

/// What is on its way for the next read of each use.
#[derive(Debug, Default)]
pub(super) struct OnTheirWay {
    every_step: Mutex<Option<Next>>,
    once: Mutex<Option<Next>>,
}

/// A matrix that a thread of the readers uploads.
#[derive(Debug)]
struct Next {
    position: Position,
    arrives: Receiver<Result<Uploaded>>,
}

/// A matrix whose copy to the device has begun.
enum Uploaded {
    Dense(Upload),
    Blocks(Vec<(GgmlDType, Upload)>, [usize; 2]),
}

impl Drop for Next {
    /// Nothing is copied any more once the matrix's files are closed.
    fn drop(&mut self) {
        let _ = self.arrives.recv();
    }
}

impl Uploaded {
    /// All values, once what is on the device's own stream has waited for the copy.
    fn values(self, dtype: DType) -> Result<Tensor> {
        match self {
            Self::Dense(matrix) => Ok(matrix.tensor()),
            Self::Blocks(pieces, shape) => {
                let pieces = pieces.into_iter().map(|(dtype, bytes)| (dtype, bytes.tensor()));
                BlockMatrix::new(pieces.collect(), shape)?.dequantize(dtype)
            }
        }
    }
}

impl Place {
    /// Reads it and begins to copy it: in blocks as the files have it, or in this precision.
    fn upload(&self, files: &PartFiles, device: &Device, dtype: DType) -> Result<Uploaded> {
        let (rows, shape) = (self.rows(), self.stacked());
        if let Some(blocks) = blocks(&rows) {
            let copy = |block: &Blocks| {
                let fill = |into: &mut [u8]| files.read_bytes(block.of, block.at, into);
                Ok((block.dtype, upload(device, DType::U8, block.bytes, fill)?))
            };
            return Ok(Uploaded::Blocks(blocks.iter().map(copy).collect::<Result<_>>()?, shape));
        }
        let fill = |into: &mut [u8]| match dtype {
            DType::F32 => files.fill::<f32>(&rows, shape[1], bytemuck::cast_slice_mut(into)),
            DType::BF16 => files.fill::<u16>(&rows, shape[1], bytemuck::cast_slice_mut(into)),
            other => bail!("weights are read as f32 or bf16, not {other:?}"),
        };
        upload(device, dtype, &shape[..], fill).map(Uploaded::Dense)
    }
}

impl OnTheirWay {
    /// A matrix on the device, and the one behind it on its way.
    pub(super) fn upload(
        &self,
        (place, position): (&Place, Option<Position>),
        files: &Arc<PartFiles>,
        read_ahead: &ReadAhead,
        Target { device, dtype, .. }: &Target,
    ) -> Result<Tensor> {
        let Some(position) = position else { return place.upload(files, device, *dtype)?.values(*dtype) };
        let mut next = self.of(position.usage).lock().unwrap_or_else(PoisonError::into_inner);
        let ready = next.take().filter(|next| next.position == position);
        // An upload that failed, for want of memory maybe, is tried again while nothing else is on its way.
        let uploaded = match ready.map(|ready| ready.arrives.recv()) {
            Some(Ok(Ok(uploaded))) => uploaded,
            _ => place.upload(files, device, *dtype)?,
        };
        if let (Some((position, place)), Ok(readers)) = (read_ahead.after(position), files.readers.get())
            && !place.is_scaled()
        {
            let (send, arrives) = sync_channel(1);
            let (files, device, dtype) = (files.clone(), device.clone(), *dtype);
            readers.spawn(move || drop(send.send(place.upload(&files, &device, dtype))));
            *next = Some(Next { position, arrives });
        }
        drop(next);
        uploaded.values(*dtype)
    }

    fn of(&self, usage: MatrixUse) -> &Mutex<Option<Next>> {
        match usage {
            MatrixUse::EveryStep => &self.every_step,
            MatrixUse::OnceARequest | MatrixUse::Rows => &self.once,
        }
    }
}

#[cfg(test)]
mod tests;
