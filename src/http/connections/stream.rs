//! A connection's bytes, and when they last moved. It can be closed from outside, whatever its client does.

use super::{Moment, millis};
use futures_util::task::AtomicWaker;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// What is known of a connection.
#[derive(Debug)]
pub(in crate::http) struct Activity {
    pub(super) source: IpAddr,
    /// Calls that the server works on, and a web socket.
    pub(super) calls: AtomicUsize,
    /// When the server began.
    began: Instant,
    /// When bytes moved.
    moved: Moment,
    /// Since when the client takes nothing of what it is sent.
    unread: Moment,
    is_closed: AtomicBool,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Activity {
    pub(super) fn new(source: IpAddr, began: Instant) -> Self {
        let activity = Self {
            source,
            calls: AtomicUsize::new(0),
            began,
            moved: Moment::default(),
            unread: Moment::default(),
            is_closed: AtomicBool::new(false),
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
        };
        activity.moved();
        activity
    }

    /// Bytes moved, or a call ended.
    pub(super) fn moved(&self) {
        self.moved.set(millis(self.began.elapsed()));
    }

    pub(super) fn unread_since(&self) -> Option<u64> {
        self.unread.get()
    }

    /// Since when the connection could be spared; `None` while the server works for it.
    pub(super) fn quiet_since(&self) -> Option<u64> {
        let is_idle = self.calls.load(Ordering::Relaxed) == 0;
        self.unread_since().or_else(|| self.moved.get().filter(|_| is_idle))
    }

    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.reader.wake();
        self.writer.wake();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Fails once the connection is closed from outside; otherwise it is woken for that.
    fn check(&self, waker: &AtomicWaker, context: &Context<'_>) -> io::Result<()> {
        waker.register(context.waker());
        if self.is_closed() { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }

    fn wrote<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match &written {
            Poll::Ready(_) => {
                self.unread.clear();
                self.moved();
            }
            Poll::Pending if self.unread.get().is_none() => self.unread.set(millis(self.began.elapsed())),
            Poll::Pending => {}
        }
        written
    }
}

/// A client's connection.
#[derive(Debug)]
pub struct ClientStream {
    stream: TcpStream,
    activity: Arc<Activity>,
}

impl ClientStream {
    pub(in crate::http) fn new(stream: TcpStream, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }

    /// Looks at the first bytes, and leaves them to be read.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn peek(&self, bytes: &mut [u8]) -> io::Result<usize> {
        self.stream.peek(bytes).await
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.activity.check(&self.activity.reader, context)?;
        let read = Pin::new(&mut self.stream).poll_read(context, out);
        if read.is_ready() {
            self.activity.moved();
        }
        read
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.activity.check(&self.activity.writer, context)?;
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.activity.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.activity.check(&self.activity.writer, context)?;
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.activity.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
