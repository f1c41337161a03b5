//! One AV1 frame to RGB, by rav1d. A stream of several frames would keep up to eight of them, so that it is cut behind
//! its first, whose size is bounded.

use super::color::{Planes, Signal, to_rgb};
use super::{DecodeError, damaged};
use image::RgbImage;
use re_rav1d::dav1d::{Decoder, Error, Picture, Settings};

const SEQUENCE_HEADER: u8 = 1;
const FRAME_HEADER: u8 = 3;
const FRAME: u8 = 6;
const REDUNDANT_FRAME_HEADER: u8 = 7;

/// The first frame of a stream.
pub(super) struct Coded<'a> {
    data: &'a [u8],
    profile: u8,
}

/// Pixels that a frame takes memory for: sides are rounded up to superblocks.
pub(super) fn padded((width, height): (u32, u32)) -> u64 {
    let side = |side: u32| u64::from(side).next_multiple_of(128);
    side(width) * side(height)
}

impl<'a> Coded<'a> {
    /// `None` where the stream's units are not whole, or none is a frame.
    pub(super) fn first_frame(stream: &'a [u8]) -> Option<Self> {
        let (mut profile, mut has_frame) = (None, false);
        let mut rest = stream;
        while !rest.is_empty() {
            let unit = Unit::read(rest)?;
            match unit.kind {
                SEQUENCE_HEADER => profile = profile.max(Some(unit.payload.first()? >> 5)),
                FRAME_HEADER | FRAME | REDUNDANT_FRAME_HEADER if has_frame => break,
                FRAME_HEADER | FRAME => has_frame = true,
                _ => {}
            }
            rest = unit.rest;
        }
        let data = &stream[..stream.len() - rest.len()];
        has_frame.then_some(Self { data, profile: profile? })
    }

    /// Bytes of the stream that are decoded.
    pub(super) fn len(&self) -> usize {
        self.data.len()
    }

    /// Bytes of planes, at the most that its profile allows: samples of 16 bits, at half (profile 0) or full resolution
    /// of colour, a second time where film grain is added, and what the decoder notes for a pixel.
    pub(super) fn bytes_of_a_pixel(&self) -> u64 {
        const NOTES: u64 = 1;
        2 * if self.profile == 0 { 3 } else { 6 } + NOTES
    }

    /// Decodes, and refuses a frame of another size.
    pub(super) fn decode(self, size: (u32, u32), color: Option<Signal>) -> Result<RgbImage, DecodeError> {
        let picture = self.picture(size)?;
        if (picture.width(), picture.height()) != size {
            return Err(damaged());
        }
        to_rgb(&Planes::of(&picture).ok_or_else(damaged)?, color.unwrap_or_else(|| Signal::of(&picture)))
    }

    fn picture(self, (width, height): (u32, u32)) -> Result<Picture, DecodeError> {
        let unreadable = |error: Error| DecodeError::Unreadable(format!("its AV1 data: {error}"));
        let mut settings = Settings::new();
        settings.set_n_threads(1);
        settings.set_max_frame_delay(1);
        settings.set_frame_size_limit(width.saturating_mul(height));
        let mut decoder = Decoder::with_settings(&settings).map_err(unreadable)?;
        match decoder.send_data(Vec::from(self.data), None, None, None) {
            Ok(()) | Err(Error::Again) => decoder.get_picture().map_err(|error| match error {
                Error::Again => damaged(),
                error => unreadable(error),
            }),
            Err(error) => Err(unreadable(error)),
        }
    }
}

/// An open bitstream unit (OBU).
struct Unit<'a> {
    kind: u8,
    payload: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Unit<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (header, mut rest) = bytes.split_first()?;
        if header & 4 != 0 {
            rest = rest.get(1..)?;
        }
        let mut size = rest.len() as u64;
        if header & 2 != 0 {
            size = 0;
            for shift in (0..56).step_by(7) {
                let (byte, after) = rest.split_first()?;
                rest = after;
                size |= u64::from(byte & 0x7f) << shift;
                if byte & 0x80 == 0 {
                    break;
                }
            }
        }
        let (payload, rest) = rest.split_at_checked(usize::try_from(size).ok()?)?;
        Some(Self { kind: header >> 3 & 15, payload, rest })
    }
}
