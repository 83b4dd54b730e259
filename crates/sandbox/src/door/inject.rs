//! Puts values where their placeholders stand: in values of headers, and in bodies while they pass.
//!
//! Pure but for reading the body that it was given. It is asked for one request at a time, keeps no
//! value longer than that, and neither knows where a request goes nor judges whether it may.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_PAD_INDIFFERENT},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};
use zeroize::Zeroizing;

use super::{
    hosts::Pattern,
    keeper::{Secret, Use},
};

mod replace;

use replace::{Finder, Stream};

/// Bytes of a body that are read before any of it is sent, so that its length can be told.
const AHEAD: u64 = 1 << 20;
/// How long the next part of a body of unknown length is waited for while it is read ahead. Who
/// says nothing for so long may be waiting for an answer to what it has said.
const PATIENCE: Duration = Duration::from_millis(50);
/// The longest that such a body is read ahead, however steadily it comes.
const AHEAD_TIME: Duration = Duration::from_millis(500);
/// Bytes that are kept at a time for one cage of all bodies that are read ahead.
const ROOM: u64 = 64 << 20;
/// How room is counted, in bytes.
const UNIT: u64 = 1 << 10;

/// How the credentials of that scheme begin.
const BASIC: &[u8] = b"Basic ";
/// Bytes of all values of a request's headers that come of it. No server takes more, and one inside
/// must not make this process keep many times of what he has sent.
const LONGEST: usize = 64 << 10;

/// Room for what is read ahead, for all bodies of a cage.
pub(super) fn room() -> Arc<Semaphore> {
    Arc::new(Semaphore::new((ROOM / UNIT) as usize))
}

/// The secrets that may go to one host.
#[derive(Debug)]
pub(super) struct Injection {
    secrets: Arc<[Secret]>,
    headers: Finder,
    body: Finder,
}

impl Injection {
    /// Those of `secrets` that may go to `host`, a name or an IPv4 address. None when there are
    /// none. Whether anything may go over this kind of connection is the caller's to know.
    pub(super) fn for_host(secrets: &Arc<[Secret]>, host: &str) -> Option<Self> {
        let host = host.to_ascii_lowercase();
        let goes = |secret: &Secret| match &secret.hosts {
            None => true,
            Some(hosts) => hosts.iter().any(|pattern| Pattern::read(pattern).holds(&host)),
        };
        let headers = Finder::new(secrets, |secret| secret.header && goes(secret));
        let body = Finder::new(secrets, |secret| secret.body && goes(secret));
        if headers.is_empty() && body.is_empty() {
            return None;
        }
        Some(Self { secrets: Arc::clone(secrets), headers, body })
    }

    /// Replaces placeholders in the values of headers, also within the credentials of `Basic`.
    /// Returns which secrets went in, for [`Self::uses`]. A header whose value would be none, or
    /// with which the new ones would have more than 64 KiB, stays as it is.
    pub(super) fn headers(&self, headers: &mut HeaderMap) -> Vec<usize> {
        let (mut seen, mut left) = (Vec::new(), LONGEST);
        if self.headers.is_empty() {
            return seen;
        }
        for (name, value) in headers.iter_mut().filter(|(name, _)| !is_left_alone(name)) {
            let basic = *name == header::AUTHORIZATION || *name == header::PROXY_AUTHORIZATION;
            let replaced = match self.replace(value.as_bytes(), left) {
                None if basic => self.basic(value.as_bytes(), left),
                replaced => replaced,
            };
            let Some((bytes, these)) = replaced else { continue };
            let length = bytes.len();
            if let Ok(mut new) = HeaderValue::from_maybe_shared(Bytes::from_owner(bytes)) {
                new.set_sensitive(true);
                *value = new;
                left = left.saturating_sub(length);
                seen.extend(these);
            }
        }
        seen.sort_unstable();
        seen.dedup();
        seen
    }

    /// Whether a body has to be looked at: a secret may go in bodies. What is compressed need not
    /// be, for nothing is found in it.
    pub(super) fn wants_body(&self) -> bool {
        !self.body.is_empty()
    }

    /// Wraps a body, in whose data placeholders are replaced while it passes; trailers pass as they
    /// are. Up to 1 MiB is read ahead where there is `room`. Returns the new body, its length where
    /// all of it was read, and for [`Self::uses`] which secrets are in it: those that were found
    /// where all was read, else all that are looked for. Without a length here the request must tell
    /// none.
    ///
    /// # Errors
    /// Those of the body.
    pub(super) async fn body<B: Body<Data = Bytes> + Unpin>(
        &self,
        body: B,
        room: &Arc<Semaphore>,
    ) -> Result<(InjectedBody<B>, Option<u64>, Vec<usize>), B::Error> {
        let told = body.size_hint().exact();
        // One that says that it is longer is not waited for.
        let wanted = told.is_none_or(|told| told <= AHEAD).then(|| told.unwrap_or(AHEAD));
        let units = wanted.and_then(|bytes| u32::try_from(bytes.div_ceil(UNIT)).ok());
        let room = units.and_then(|units| Arc::clone(room).try_acquire_many_owned(units).ok());
        let until = Instant::now() + AHEAD_TIME;
        let mut ahead = InjectedBody {
            parts: VecDeque::new(),
            rest: Some(body),
            stream: Stream::new(self.body.clone()),
            room,
        };
        let mut read = 0;
        while ahead.room.is_some() && read <= AHEAD {
            let Some(rest) = &mut ahead.rest else { break };
            let next = match told {
                Some(_) => rest.frame().await,
                None => {
                    let patience = until.min(Instant::now() + PATIENCE);
                    match timeout_at(patience, rest.frame()).await {
                        Ok(next) => next,
                        Err(_) => break,
                    }
                }
            };
            let next = next.transpose()?;
            read += next.as_ref().and_then(Frame::data_ref).map_or(0, |data| data.len() as u64);
            ahead.take(next);
        }
        let all_read = ahead.rest.is_none();
        let length = all_read.then(|| ahead.ready());
        let seen = if all_read { ahead.stream.seen() } else { self.body.all() };
        Ok((ahead, length, seen))
    }

    /// What is to be written down before the request leaves.
    pub(super) fn uses(
        &self,
        in_headers: &[usize],
        in_body: &[usize],
        host: &str,
        port: u16,
        method: &str,
    ) -> Vec<Use> {
        let used = |(index, secret): (usize, &Secret)| {
            let (header, body) = (in_headers.contains(&index), in_body.contains(&index));
            (header || body).then(|| Use {
                credential: Arc::clone(&secret.credential),
                vault: Arc::clone(&secret.vault),
                host: host.to_owned(),
                port,
                method: method.to_owned(),
                header,
                body,
            })
        };
        self.secrets.iter().enumerate().filter_map(used).collect()
    }

    fn replace(&self, text: &[u8], longest: usize) -> Option<(Zeroizing<Vec<u8>>, Vec<usize>)> {
        let (found, _) = self.headers.find(text, true);
        if found.is_empty() {
            return None;
        }
        let new = self.headers.filled(text, &found, longest)?;
        Some((new, found.iter().map(|found| found.secret).collect()))
    }

    /// The same within `Basic` credentials, a name and a password in base64 (RFC 7617).
    fn basic(&self, value: &[u8], longest: usize) -> Option<(Zeroizing<Vec<u8>>, Vec<usize>)> {
        let (scheme, coded) = value.split_at_checked(BASIC.len())?;
        if !scheme.eq_ignore_ascii_case(BASIC) {
            return None;
        }
        let clear = STANDARD_PAD_INDIFFERENT.decode(coded.trim_ascii()).ok()?;
        let (clear, these) = self.replace(&Zeroizing::new(clear), longest)?;
        let mut new = Zeroizing::new(vec![0; BASIC.len() + clear.len().div_ceil(3) * 4]);
        let (scheme, coded) = new.split_at_mut(BASIC.len());
        scheme.copy_from_slice(BASIC);
        STANDARD.encode_slice(&*clear, coded).ok()?;
        Some((new, these))
    }
}

/// Headers that say where a message goes, how it is framed, or that concern one connection alone
/// (RFC 9110, 7.6.1): nothing is put into them.
fn is_left_alone(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "host"
            | "content-length"
            | "content-encoding"
            | "transfer-encoding"
            | "te"
            | "trailer"
            | "expect"
            | "connection"
            | "keep-alive"
            | "proxy-connection"
            | "upgrade"
            | "http2-settings"
            | "sec-websocket-key"
            | "sec-websocket-version"
            | "sec-websocket-extensions"
    )
}

/// A body in which placeholders are replaced while it passes.
pub(super) struct InjectedBody<B> {
    /// What is ready to be sent.
    parts: VecDeque<Frame<Bytes>>,
    /// Where more comes from, unless all has come.
    rest: Option<B>,
    stream: Stream,
    /// Held while there may be parts that were read ahead.
    room: Option<OwnedSemaphorePermit>,
}

impl<B> InjectedBody<B> {
    /// Takes in what has come, which is nothing at the end.
    fn take(&mut self, frame: Option<Frame<Bytes>>) {
        match frame.map(Frame::into_data) {
            Some(Ok(data)) => self.parts.extend(self.stream.push(data).map(Frame::data)),
            // Trailers: no data comes behind them.
            Some(Err(trailers)) => {
                self.parts.extend(self.stream.end().map(Frame::data));
                self.parts.push_back(trailers);
            }
            None => {
                self.rest = None;
                self.parts.extend(self.stream.end().map(Frame::data));
            }
        }
    }

    /// Bytes of data that are ready.
    fn ready(&self) -> u64 {
        self.parts.iter().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum()
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for InjectedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        loop {
            if let Some(part) = self.parts.pop_front() {
                return Poll::Ready(Some(Ok(part)));
            }
            self.room = None;
            let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
            match ready!(Pin::new(rest).poll_frame(context)).transpose() {
                Ok(frame) => self.take(frame),
                Err(error) => {
                    self.rest = None;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let ended = self.rest.as_ref().is_none_or(|rest| rest.is_end_stream());
        self.parts.is_empty() && self.stream.holds_nothing() && ended
    }

    fn size_hint(&self) -> SizeHint {
        match &self.rest {
            None => SizeHint::with_exact(self.ready()),
            Some(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests;
