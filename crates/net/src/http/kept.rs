//! Connections to one origin that are kept for the next request.
//!
//! A request is sent anew by itself in two cases alone: nothing of it has left, or its method says
//! that twice is as good as once. Everything else that was cut stays cut.

use std::{
    future::pending,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::Full;
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{Guard, HEADERS, SendError, Target, dress};

/// Connections that wait at the same time.
const WAITING: usize = 4;

/// Sends requests to one origin and keeps its connections (HTTP/1.1) for a while. A clone shares
/// them; they end with the last clone and the last body.
#[derive(Clone)]
pub struct Kept {
    shared: Arc<Shared>,
}

struct Shared {
    guard: Guard,
    origin: Target,
    /// How long a connection waits for the next request.
    longest: Duration,
    waiting: Mutex<Vec<Held>>,
    /// Moves the connections. Dropping it ends them.
    moving: Mutex<JoinSet<()>>,
}

/// A connection that nothing is under way on.
struct Held {
    sender: http1::SendRequest<Full<Bytes>>,
    /// When it ends unless it is used; none while it is used.
    ends: watch::Sender<Option<Instant>>,
    /// The value of `Host`.
    name: HeaderValue,
}

/// What has become of a request.
enum Sent {
    Answered(Response<Lent>),
    /// Nothing of it has left.
    Kept(Request<Full<Bytes>>),
    Lost(SendError),
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Kept")
            .field("host", &self.shared.origin.host)
            .finish_non_exhaustive()
    }
}

impl Kept {
    /// For the origin of this URL. A connection that nobody has used for `longest` is ended.
    ///
    /// # Errors
    /// [`SendError::Url`].
    pub fn new(guard: Guard, origin: &Uri, longest: Duration) -> Result<Self, SendError> {
        let origin = Target::read(&http::Method::GET, origin)?;
        let (waiting, moving) = (Mutex::default(), Mutex::default());
        Ok(Self { shared: Arc::new(Shared { guard, origin, longest, waiting, moving }) })
    }

    /// Sends a request to the origin and returns once the headers of the answer are there. Bounds in
    /// time and bytes are the caller's. A redirect is an answer like any other. The connection is kept
    /// once the body is read to its end; dropping the body before ends it.
    ///
    /// # Errors
    /// [`SendError`], but neither [`SendError::TooLarge`] nor [`SendError::TimedOut`].
    pub async fn open(&self, request: Request<Bytes>) -> Result<Response<Lent>, SendError> {
        let target = Target::read(request.method(), request.uri())?;
        let Shared { guard, origin, .. } = &*self.shared;
        if !target.has_origin_of(origin) {
            return Err(SendError::Url("leads to another origin"));
        }
        let twice = request.method().is_idempotent();
        let mut request = request.map(Full::new);
        *request.uri_mut() = target.path.clone();
        *request.version_mut() = http::Version::HTTP_11;
        while let Some(mut held) = self.take() {
            if held.sender.ready().await.is_err() {
                continue;
            }
            let copy = twice.then(|| request.clone());
            match (self.exchange(held, request).await, copy) {
                (Sent::Answered(answer), _) => return Ok(answer),
                (Sent::Kept(back), _) => request = back,
                (Sent::Lost(_), Some(copy)) => {
                    request = copy;
                    break;
                }
                (Sent::Lost(error), None) => return Err(error),
            }
        }
        let pinned = guard.resolve(&target.host).await?;
        let name = target.name(&pinned)?;
        let held = if target.encrypted {
            let stream = guard.connect_tls(&pinned, target.port, &[b"http/1.1"]).await?;
            self.begin(stream, name).await?
        } else if guard.is_opened(&pinned) {
            self.begin(guard.connect(&pinned, target.port).await?, name).await?
        } else {
            return Err(SendError::Plain { host: pinned.host().to_owned() });
        };
        match self.exchange(held, request).await {
            Sent::Answered(answer) => Ok(answer),
            Sent::Lost(error) => Err(error),
            // The origin has ended a connection that is this young.
            Sent::Kept(_) => Err(SendError::Cut { host: target.host }),
        }
    }

    /// A connection that waits and has not ended.
    fn take(&self) -> Option<Held> {
        let mut waiting = self.shared.waiting();
        while let Some(held) = waiting.pop() {
            if !held.sender.is_closed() {
                held.ends.send_replace(None);
                return Some(held);
            }
        }
        None
    }

    async fn begin<S>(&self, stream: S, name: HeaderValue) -> Result<Held, SendError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(HEADERS)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|source| self.broken(source))?;
        let (ends, end) = watch::channel(None);
        let mut moving = self.shared.moving.lock().unwrap_or_else(PoisonError::into_inner);
        while moving.try_join_next().is_some() {}
        moving.spawn(keep_moving(connection, end));
        Ok(Held { sender, ends, name })
    }

    async fn exchange(&self, mut held: Held, mut request: Request<Full<Bytes>>) -> Sent {
        dress(request.headers_mut(), held.name.clone());
        match held.sender.try_send_request(request).await {
            Ok(answer) => Sent::Answered(answer.map(|body| {
                let mut lent = Lent { body, held: Some(held), shared: Arc::clone(&self.shared) };
                if lent.body.is_end_stream() {
                    lent.give_back();
                }
                lent
            })),
            Err(mut error) => match error.take_message() {
                Some(request) => Sent::Kept(request),
                None => Sent::Lost(self.broken(error.into_error())),
            },
        }
    }

    fn broken(&self, source: hyper::Error) -> SendError {
        SendError::Broken { host: self.shared.origin.host.clone(), source }
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Vec<Held>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Target {
    fn has_origin_of(&self, other: &Self) -> bool {
        self.encrypted == other.encrypted
            && self.port == other.port
            && self.host.eq_ignore_ascii_case(&other.host)
    }
}

/// Moves a connection until it ends, or until nobody has used it for too long.
async fn keep_moving(connection: impl Future, mut end: watch::Receiver<Option<Instant>>) {
    let mut connection = Box::pin(connection);
    let mut asked = true;
    loop {
        let at = *end.borrow_and_update();
        let ended = async {
            match at {
                Some(at) if asked => sleep_until(at).await,
                _ => pending().await,
            }
        };
        tokio::select! {
            // How it has ended is told by the answer.
            _ = &mut connection => return,
            () = ended => return,
            // Nobody asks any more; what is still coming may come.
            changed = end.changed(), if asked => asked = changed.is_ok(),
        }
    }
}

/// The body of an answer. Once it has ended, its connection waits for the next request.
pub struct Lent {
    body: Incoming,
    held: Option<Held>,
    shared: Arc<Shared>,
}

impl Lent {
    fn give_back(&mut self) {
        let Some(held) = self.held.take() else { return };
        let mut waiting = self.shared.waiting();
        if waiting.len() < WAITING && !held.sender.is_closed() {
            held.ends.send_replace(Some(Instant::now() + self.shared.longest));
            waiting.push(held);
        }
    }
}

impl std::fmt::Debug for Lent {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Lent")
            .field("host", &self.shared.origin.host)
            .finish_non_exhaustive()
    }
}

impl Body for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if matches!(polled, Poll::Ready(None)) || self.body.is_end_stream() {
            self.give_back();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
