//! Reads the body of an answer: whole, or as a stream of events. Never more than the limit of it.

use std::{
    error::Error as StdError,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream::BoxStream};
use http_body_util::{BodyExt as _, BodyStream, LengthLimitError, Limited};
use posthouse_net::http::Lent;
use rmcp::model::RequestId;
use rmcp_events::{Error as EventError, Sse};
use sse_stream::SseStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::message;

/// The shortest wait before a stream is opened anew that a server may ask for, in milliseconds.
const SOONEST: u64 = 250;
/// The longest one.
const LATEST: u64 = 60_000;

/// Why a body was not read to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    /// It, or one of its events, is too long.
    #[error("a message is longer than {0} bytes")]
    TooLong(usize),
    /// It took too long.
    #[error("it has not ended in time")]
    TooLate,
    /// It was cut.
    #[error("it was cut")]
    Cut,
}

/// The whole body.
pub(super) async fn whole(body: Lent, limit: usize) -> Result<Bytes, Unread> {
    match Limited::new(body, limit).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Unread::TooLong(limit)),
        Err(_) => Err(Unread::Cut),
    }
}

/// The events of a body, each with at most `limit` bytes, until `until`.
///
/// `asked` is the request that the body answers: it gets an error in place of an answer that is too
/// long, where there would be none at all otherwise. What answers another one is passed over, as
/// `rmcp` reads no further than the first answer.
pub(super) fn stream(
    body: Lent,
    limit: usize,
    until: Option<Instant>,
    asked: Option<RequestId>,
) -> BoxStream<'static, Result<Sse, EventError>> {
    let bytes = Bounded {
        body: BodyStream::new(body),
        limit,
        event: 0,
        at_start: true,
        after_return: false,
        ended: false,
        until: until.map(|until| Box::pin(sleep_until(until))),
    };
    let mut asked = asked;
    SseStream::from_bytes_stream(bytes)
        .map(move |event| match event {
            Ok(event) => Ok(plain(event, asked.as_ref())),
            Err(error) => match (unread(error), asked.take()) {
                (reason @ Unread::TooLong(_), Some(id)) => answer(id, reason.to_string()),
                (reason, _) => Err(EventError::Body(reason.into())),
            },
        })
        .boxed()
}

/// Why a stream has ended.
fn unread(error: sse_stream::Error) -> Unread {
    let mut source: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(error) = source {
        match error.downcast_ref::<Unread>() {
            Some(Unread::TooLong(limit)) => return Unread::TooLong(*limit),
            Some(Unread::TooLate) => return Unread::TooLate,
            Some(Unread::Cut) => return Unread::Cut,
            None => source = error.source(),
        }
    }
    Unread::Cut
}

/// Why a stream has ended, for people.
pub(super) fn reason(error: EventError) -> String {
    match error {
        EventError::Body(reason) => reason.to_string(),
        _ => "its stream of events can't be read".to_owned(),
    }
}

fn answer(id: RequestId, reason: String) -> Result<Sse, EventError> {
    let text = serde_json::to_string(&message::failed(id, reason))
        .map_err(|error| EventError::Body(error.into()))?;
    Ok(Sse { data: Some(text), ..Sse::default() })
}

/// The event as `rmcp` is to see it.
fn plain(event: sse_stream::Sse, asked: Option<&RequestId>) -> Sse {
    let sse_stream::Sse { event, data, id, retry } = event;
    let data = data.and_then(|text| {
        let message = message::read(text.as_bytes());
        let Some(message) = message else { return asked.is_none().then_some(text) };
        let message = match (message, asked) {
            (message, None) => message,
            (message, Some(asked)) => message::for_request(message, asked)?,
        };
        Some(serde_json::to_string(&message).unwrap_or(text))
    });
    Sse { event, data, id, retry: retry.map(|wait| wait.clamp(SOONEST, LATEST)) }
}

/// The bytes of a body, counted from one empty line to the next.
struct Bounded {
    body: BodyStream<Lent>,
    limit: usize,
    /// Bytes since the last empty line.
    event: usize,
    /// Whether a line begins.
    at_start: bool,
    /// Whether the last byte was a carriage return.
    after_return: bool,
    ended: bool,
    until: Option<Pin<Box<Sleep>>>,
}

impl Bounded {
    fn fits(&mut self, chunk: &[u8]) -> bool {
        for byte in chunk {
            self.event += 1;
            match byte {
                // The second sign of one line end.
                b'\n' if self.after_return => {}
                b'\n' | b'\r' => {
                    if self.at_start {
                        self.event = 0;
                    }
                    self.at_start = true;
                }
                _ => self.at_start = false,
            }
            self.after_return = *byte == b'\r';
            if self.event > self.limit {
                return false;
            }
        }
        true
    }
}

impl Stream for Bounded {
    type Item = Result<Bytes, Unread>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Some(until) = &mut self.until
            && until.as_mut().poll(context).is_ready()
        {
            self.ended = true;
            return Poll::Ready(Some(Err(Unread::TooLate)));
        }
        loop {
            let read = match Pin::new(&mut self.body).poll_next(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(read) => read,
            };
            let read = match read {
                None => None,
                Some(Err(_)) => Some(Err(Unread::Cut)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(chunk) if self.fits(&chunk) => return Poll::Ready(Some(Ok(chunk))),
                    Ok(_) => Some(Err(Unread::TooLong(self.limit))),
                    // Trailers say nothing here.
                    Err(_) => continue,
                },
            };
            self.ended = true;
            return Poll::Ready(read);
        }
    }
}
