//! A connection's bytes, and when they last moved. It can be closed from outside, whatever its client does.

use super::{Moment, millis};
use futures_util::task::AtomicWaker;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Answers that a connection of several calls may give up, beyond those that it took.
const MAX_GIVEN_UP: usize = 100;

/// The state of a connection.
#[derive(Debug)]
pub(crate) struct Activity {
    pub(crate) source: IpAddr,
    /// It may hold more than its share.
    pub(crate) is_exempt: bool,
    /// Calls that the server works on, and a web socket.
    calls: AtomicUsize,
    /// When the last call ended, or else HTTP began.
    called: Moment,
    /// Has it come to HTTP?
    is_http: AtomicBool,
    /// Answers that share the connection.
    answers: Mutex<Vec<Arc<Moment>>>,
    /// Of its answers, how many more were given up than were sent.
    given_up: AtomicUsize,
    retired: Notify,
    /// When the server began.
    began: Instant,
    /// When bytes moved.
    moved: Moment,
    /// Since when the client has read nothing of what it is sent.
    unread: Moment,
    is_closed: AtomicBool,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Activity {
    pub(crate) fn new(source: IpAddr, is_exempt: bool, began: Instant) -> Self {
        let activity = Self {
            source,
            is_exempt,
            calls: AtomicUsize::new(0),
            called: Moment::default(),
            is_http: AtomicBool::new(false),
            answers: Mutex::default(),
            given_up: AtomicUsize::new(0),
            retired: Notify::new(),
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

    fn now(&self) -> u64 {
        millis(self.began.elapsed())
    }

    pub(crate) fn begin_call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn end_call(&self) {
        self.called.set(self.now());
        self.calls.fetch_sub(1, Ordering::Relaxed);
        self.moved();
    }

    /// From now on there should be calls.
    pub(crate) fn begin_http(&self) {
        self.called.set(self.now());
        self.is_http.store(true, Ordering::Relaxed);
    }

    /// An answer begins that shares the connection. Until somebody asks for its first piece nobody takes it.
    pub(crate) fn begin_answer(self: &Arc<Self>) -> Unread {
        let moment = Arc::new(Moment::default());
        moment.set(self.now());
        self.answers().push(moment.clone());
        Unread { moment, activity: self.clone() }
    }

    /// An answer is over. Whoever asks and gives up again and again only makes work.
    pub(crate) fn end_answer(&self, unread: &Unread, was_sent: bool) {
        self.answers().retain(|moment| !Arc::ptr_eq(moment, &unread.moment));
        let change = |count: usize| if was_sent { count.saturating_sub(1) } else { count + 1 };
        let before =
            self.given_up.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| Some(change(count)));
        if before.is_ok_and(|count| change(count) > MAX_GIVEN_UP) {
            self.close();
        }
    }

    fn answers(&self) -> MutexGuard<'_, Vec<Arc<Moment>>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when there is no call, whatever else is said.
    pub(crate) fn idle_since(&self) -> Option<u64> {
        let is_idle = self.calls.load(Ordering::Relaxed) == 0 && self.is_http.load(Ordering::Relaxed);
        self.called.get().filter(|_| is_idle)
    }

    /// Asks the connection to take no more calls.
    pub(crate) fn retire(&self) {
        self.retired.notify_one();
    }

    pub(crate) async fn retired(&self) {
        self.retired.notified().await;
    }

    /// Bytes moved, or a call ended.
    pub(crate) fn moved(&self) {
        self.moved.set(self.now());
    }

    /// Since when the client has read nothing of what it is sent, or of one of several responses.
    pub(crate) fn unread_since(&self) -> Option<u64> {
        let answers = self.answers().iter().filter_map(|moment| moment.get()).min();
        self.unread.get().into_iter().chain(answers).min()
    }

    /// Since when the connection could be spared; `None` while the server works for it.
    pub(crate) fn quiet_since(&self) -> Option<u64> {
        let is_idle = self.calls.load(Ordering::Relaxed) == 0;
        self.unread_since().or_else(|| self.moved.get().filter(|_| is_idle))
    }

    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.reader.wake();
        self.writer.wake();
    }

    pub(crate) fn is_closed(&self) -> bool {
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
            Poll::Pending if self.unread.get().is_none() => self.unread.set(self.now()),
            Poll::Pending => {}
        }
        written
    }
}

/// Since when a client takes nothing of one of several answers.
pub(crate) struct Unread {
    moment: Arc<Moment>,
    activity: Arc<Activity>,
}

impl Unread {
    pub(crate) fn set(&self) {
        self.moment.set(self.activity.now());
    }

    pub(crate) fn clear(&self) {
        self.moment.clear();
    }
}

/// A client's connection.
#[derive(Debug)]
pub struct ClientStream {
    stream: TcpStream,
    activity: Arc<Activity>,
}

impl ClientStream {
    pub(crate) fn new(stream: TcpStream, activity: Arc<Activity>) -> Self {
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
