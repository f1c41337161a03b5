//! The bytes of a web socket, read no further than memory allows: the payload of a large frame stays in the client's
//! system until somebody has reserved memory for it. Never reads beyond a frame, so that whoever reads through this
//! holds nothing of the next one.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// Payloads up to this size are read without being asked for.
const UNASKED: usize = 16 * 1024;

/// Bytes of the longest head of a frame: two, eight of length, four of mask.
const MAX_HEAD: usize = 14;

/// Where reading asks for memory, and learns that it is there.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// Bytes of the message that is coming; 0: nothing is asked for.
    wanted: AtomicUsize,
    granted: AtomicBool,
    /// Bytes of payload since memory was granted.
    arrived: AtomicUsize,
    asked: Notify,
}

impl Gate {
    /// Waits until memory is asked for, and says how much.
    pub(crate) async fn wanted(&self) -> usize {
        loop {
            let asked = self.asked.notified();
            if self.is_shut() {
                return self.wanted.load(Ordering::Acquire);
            }
            asked.await;
        }
    }

    /// Does reading wait for memory?
    pub(crate) fn is_shut(&self) -> bool {
        self.wanted.load(Ordering::Acquire) > 0 && !self.granted.load(Ordering::Acquire)
    }

    /// Lets the message be read. Whoever calls this reads next: nobody is woken.
    pub(crate) fn grant(&self) {
        self.arrived.store(0, Ordering::Release);
        self.granted.store(true, Ordering::Release);
    }

    /// Bytes that came since the grant.
    pub(crate) fn arrived(&self) -> usize {
        self.arrived.load(Ordering::Acquire)
    }

    /// The message is whole: the next one asks anew.
    pub(crate) fn finish(&self) {
        self.wanted.store(0, Ordering::Release);
        self.granted.store(false, Ordering::Release);
    }

    fn ask(&self, bytes: usize) {
        if !self.granted.load(Ordering::Acquire) {
            self.wanted.fetch_max(bytes, Ordering::AcqRel);
            self.asked.notify_one();
        }
    }
}

/// A stream of frames behind a gate.
#[derive(Debug)]
pub(crate) struct Frames<S> {
    stream: S,
    gate: Arc<Gate>,
    /// Largest message, in bytes.
    max: usize,
    head: [u8; MAX_HEAD],
    /// How much of the head is there.
    filled: usize,
    /// Bytes of payload that are yet to come.
    left: usize,
    /// Of a message in pieces some are yet to come.
    in_pieces: bool,
}

impl<S> Frames<S> {
    pub(crate) fn new(stream: S, max: usize) -> (Self, Arc<Gate>) {
        let gate = Arc::new(Gate::default());
        let frames = Self {
            stream,
            gate: gate.clone(),
            max,
            head: [0; MAX_HEAD],
            filled: 0,
            left: 0,
            in_pieces: false,
        };
        (frames, gate)
    }

    /// Whoever reads through this holds no bytes of a message that is not whole.
    pub(crate) fn is_between_messages(&self) -> bool {
        self.filled == 0 && self.left == 0 && !self.in_pieces
    }

    /// Length of the frame's header in bytes, as far as the bytes received determine it.
    fn head_size(&self) -> usize {
        if self.filled < 2 {
            return 2;
        }
        let length = match self.head[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + if self.head[1] & 0x80 == 0 { 0 } else { 4 }
    }

    /// The head is there: how much follows, and does that need memory?
    fn begin_payload(&mut self) {
        let length = match self.head[1] & 0x7f {
            126 => u64::from(u16::from_be_bytes([self.head[2], self.head[3]])),
            127 => self.head[2..10].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
            short => u64::from(short),
        };
        self.left = usize::try_from(length).unwrap_or(usize::MAX);
        self.filled = 0;
        let (is_final, opcode) = (self.head[0] & 0x80 != 0, self.head[0] & 0x0f);
        let is_control = opcode & 0x08 != 0;
        if !is_control {
            self.in_pieces = !is_final;
        }
        if is_control || self.left > self.max {
            return; // too small to matter, or refused by whoever reads its head
        }
        if !is_final || opcode == 0 {
            // Nobody knows how much comes in pieces; they are gathered in a buffer that doubles as it grows.
            self.gate.ask(2 * self.max);
        } else if self.left > UNASKED {
            self.gate.ask(self.left);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Frames<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.gate.is_shut() {
            return Poll::Pending;
        }
        let is_head = this.left == 0;
        let most = if is_head { this.head_size() - this.filled } else { this.left };
        let mut part = ReadBuf::new(out.initialize_unfilled_to(most.min(out.remaining())));
        ready!(Pin::new(&mut this.stream).poll_read(context, &mut part))?;
        let bytes = part.filled();
        let count = bytes.len();
        if is_head {
            this.head[this.filled..this.filled + count].copy_from_slice(bytes);
            this.filled += count;
        } else {
            this.left -= count;
            this.gate.arrived.fetch_add(count, Ordering::AcqRel);
        }
        out.advance(count);
        if is_head && count > 0 && this.filled == this.head_size() {
            this.begin_payload();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Frames<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    /// A frame as a client sends it, whose mask changes nothing.
    fn frame(first: u8, payload: usize) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload {
            0..126 => bytes.push(0x80 | payload as u8),
            126..65_536 => {
                bytes.push(0x80 | 126);
                bytes.extend((payload as u16).to_be_bytes());
            }
            _ => {
                bytes.push(0x80 | 127);
                bytes.extend((payload as u64).to_be_bytes());
            }
        }
        bytes.extend([0; 4]);
        bytes.resize(bytes.len() + payload, 7);
        bytes
    }

    /// What comes before the gate is shut, and for how many bytes.
    async fn read(bytes: &[u8]) -> (usize, Option<usize>) {
        let (mut frames, gate) = Frames::new(bytes, 1 << 20);
        let mut seen = Vec::new();
        tokio::select! {
            biased;
            read = frames.read_to_end(&mut seen) => { read.expect("bytes"); }
            wanted = gate.wanted() => return (seen.len(), Some(wanted)),
        }
        (seen.len(), None)
    }

    #[tokio::test]
    async fn a_large_payload_waits_for_memory_and_small_ones_do_not() {
        let small = [frame(0x81, 5), frame(0x89, 125), frame(0x82, 0), frame(0x82, UNASKED)].concat();
        assert_eq!(read(&small).await, (small.len(), None));
        for size in [UNASKED + 1, 70_000] {
            let head = frame(0x82, size).len() - size;
            let all = [small.clone(), frame(0x82, size), frame(0x81, 1)].concat();
            assert_eq!(read(&all).await, (small.len() + head, Some(size)));
        }
        assert_eq!(read(&frame(0x01, 3)).await, (6, Some(2 << 20)), "pieces may become anything");
    }

    #[tokio::test]
    async fn a_grant_is_for_one_message() {
        let (first, second) = (frame(0x82, 70_000), frame(0x82, 80_000));
        let all = [first.clone(), second].concat();
        let (mut frames, gate) = Frames::new(&all[..], 1 << 20);
        let mut bytes = vec![0; first.len()];
        frames.read_exact(&mut bytes[..14]).await.expect("a head");
        assert_eq!(gate.wanted().await, 70_000);
        gate.grant();
        frames.read_exact(&mut bytes[14..]).await.expect("a payload");
        assert_eq!((&bytes, gate.arrived()), (&first, 70_000));
        gate.finish();
        frames.read_exact(&mut bytes[..14]).await.expect("the next head");
        assert_eq!(gate.wanted().await, 80_000);
    }
}
