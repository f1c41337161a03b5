//! The body of an answer, handed on a piece at a time, which knows whether its client takes it.
//!
//! Many answers share a connection of HTTP/2, and each has a window of its own: that bytes move says nothing of one of
//! them. And whatever a body hands over is kept for its client, and not counted any more, so it hands over little at once.

use super::CallGuard;
use super::stream::{Activity, Unread};
use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Bytes of a piece of an answer that shares its connection.
const SHARED_PIECE: usize = 2048;

/// Bytes of a piece of one that is alone, about as many as hyper keeps for a client that does not read.
const PIECE: usize = 32 * 1024;

/// An answer in work.
pub(crate) struct PacedBody {
    body: Body,
    /// The part of the body's last chunk that was not sent yet.
    rest: Bytes,
    /// `None` on a connection of its own.
    pace: Option<Pace>,
    _call: Option<CallGuard>,
}

/// How an answer among others gets on.
struct Pace {
    activity: Arc<Activity>,
    unread: Unread,
    is_over: bool,
}

impl PacedBody {
    /// The only answer of its connection at a time.
    pub(crate) fn alone(body: Body, call: CallGuard) -> Self {
        Self { body, rest: Bytes::new(), pace: None, _call: Some(call) }
    }

    /// One of several.
    pub(crate) fn shared(body: Body, call: CallGuard) -> Self {
        let activity = call.activity();
        let unread = activity.begin_answer();
        let pace = Some(Pace { activity, unread, is_over: false });
        Self { body, rest: Bytes::new(), pace, _call: Some(call) }
    }

    /// Nothing.
    pub(crate) fn none() -> Self {
        Self { body: Body::empty(), rest: Bytes::new(), pace: None, _call: None }
    }
}

impl HttpBody for PacedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        // Who asks for more has passed on what there was.
        if let Some(pace) = &this.pace {
            pace.unread.clear();
        }
        if this.rest.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => this.rest = bytes,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                end => {
                    if let Some(pace) = &mut this.pace {
                        pace.is_over = true;
                    }
                    return Poll::Ready(end);
                }
            }
        }
        let piece = match &this.pace {
            Some(pace) => {
                pace.unread.set();
                SHARED_PIECE
            }
            None => PIECE,
        };
        let length = this.rest.len().min(piece);
        Poll::Ready(Some(Ok(Frame::data(this.rest.split_to(length)))))
    }

    /// The end of a shared answer is reported only when its last piece was passed on, unless there is none.
    fn is_end_stream(&self) -> bool {
        match &self.pace {
            None => self.rest.is_empty() && self.body.is_end_stream(),
            Some(pace) => pace.is_over || self.size_hint().exact() == Some(0) && self.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let (left, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        if let Some(upper) = left.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(left.lower() + rest);
        hint
    }
}

impl Drop for PacedBody {
    fn drop(&mut self) {
        let is_over = self.is_end_stream();
        if let Some(pace) = &self.pace {
            pace.activity.end_answer(&pace.unread, is_over);
        }
    }
}
