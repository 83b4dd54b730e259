//! The body of an answer: frames sent one after the other, with their pauses.
//!
//! Never builds frames; that is each wire's.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::time::Sleep;

use super::connection::{CUT_MARK, Scissors};
use super::frames::Frame;

pub(super) struct ReplyBody {
    frames: VecDeque<Frame>,
    pausing: Option<Pin<Box<Sleep>>>,
    scissors: Scissors,
    cut: bool,
}

impl ReplyBody {
    pub(super) fn new(frames: Vec<Frame>, scissors: Scissors) -> Self {
        Self { frames: frames.into(), pausing: None, scissors, cut: false }
    }
}

// Without a length the server sends it chunked, as the API does.
impl http_body::Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        loop {
            if let Some(pausing) = self.pausing.as_mut() {
                ready!(pausing.as_mut().poll(context));
                self.pausing = None;
            }
            if self.cut {
                return Poll::Pending;
            }
            let data = match self.frames.pop_front() {
                None => return Poll::Ready(None),
                Some(Frame::Pause(pause)) => {
                    self.pausing = Some(Box::pin(tokio::time::sleep(pause)));
                    continue;
                }
                Some(Frame::Stall) => {
                    self.frames.push_front(Frame::Stall);
                    return Poll::Pending;
                }
                Some(Frame::Cut) => self.cut(Bytes::new()),
                // Together with what stands before it, so that the cut falls inside one HTTP chunk.
                Some(Frame::Data(data)) if matches!(self.frames.front(), Some(Frame::Cut)) => {
                    self.cut(data)
                }
                Some(Frame::Data(data)) => data,
            };
            return Poll::Ready(Some(Ok(http_body::Frame::data(data))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && self.pausing.is_none() && !self.cut
    }
}

impl ReplyBody {
    fn cut(&mut self, before: Bytes) -> Bytes {
        self.cut = true;
        self.scissors.open();
        [before.as_ref(), &CUT_MARK].concat().into()
    }
}
