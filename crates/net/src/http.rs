//! One HTTP request through the guard: for tokens, probes, key services and hooks.
//!
//! It follows no redirect, knows no proxy and retries nothing. What is read is bounded in bytes, and
//! what is waited for in time. It keeps no connection; [`Kept`] does, to one origin.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header, uri::Scheme};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

use crate::guard::{ConnectError, Guard, Pinned, Refused};

pub use kept::{Kept, Lent};

mod kept;

/// What this server calls itself.
pub const USER_AGENT: &str = concat!("posthouse/", env!("CARGO_PKG_VERSION"));

/// The longest that the headers of an answer may be, in bytes.
const HEADERS: usize = 64 << 10;

/// Headers that are about one connection (RFC 9110, 7.6.1), and the host: none of them is the
/// caller's to choose.
const OF_THE_CONNECTION: [header::HeaderName; 9] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::HOST,
    header::PROXY_AUTHORIZATION,
    header::PROXY_AUTHENTICATE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// What a request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From the look at the name to the last byte of the answer.
    pub time: Duration,
    /// How many bytes the body of the answer may have.
    pub body_bytes: usize,
}

/// Why there is no answer. The texts name no address that the caller has not named, and nothing of
/// the path, the query, the headers or the body, which may hold secrets.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The URL is none that anything is sent to.
    #[error("the URL {0}")]
    Url(&'static str),
    /// It is not `https`, and the operator has not opened the host.
    #[error(
        "{host} is asked over http; right would be https, or a host that the operator opens with \
         `egress.allow_private` or `egress.resolve`"
    )]
    Plain {
        /// The host.
        host: String,
    },
    /// There is no connection, or may be none.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The other side has not answered in time.
    #[error("{host} has not answered in time")]
    TimedOut {
        /// The host.
        host: String,
    },
    /// The answer has more bytes than are read.
    #[error("the answer of {host} is longer than {bytes} bytes")]
    TooLarge {
        /// The host.
        host: String,
        /// The limit.
        bytes: usize,
    },
    /// The connection has ended before anything was sent.
    #[error("{host} has ended the connection at once")]
    Cut {
        /// The host.
        host: String,
    },
    /// What came is no HTTP, or was cut.
    #[error("{host} has not answered as HTTP does")]
    Broken {
        /// The host.
        host: String,
        /// What is wrong with it.
        #[source]
        source: hyper::Error,
    },
}

impl From<Refused> for SendError {
    fn from(refused: Refused) -> Self {
        Self::Connect(refused.into())
    }
}

/// Sends a request and reads the whole answer, whatever its status is. A redirect is an answer like
/// any other.
///
/// # Errors
/// [`SendError`].
pub async fn send(
    guard: &Guard,
    request: Request<Bytes>,
    limits: Limits,
) -> Result<Response<Bytes>, SendError> {
    let host = request.uri().host().unwrap_or_default().to_owned();
    let whole = async {
        let (parts, body) = open(guard, request).await?.into_parts();
        let host = body.host.clone();
        let bytes = limits.body_bytes;
        let whole = Limited::new(body, bytes).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                return SendError::TooLarge { host: host.clone(), bytes };
            }
            match error.downcast::<hyper::Error>() {
                Ok(source) => SendError::Broken { host: host.clone(), source: *source },
                // There is no third kind.
                Err(_) => SendError::TimedOut { host: host.clone() },
            }
        })?;
        Ok(Response::from_parts(parts, whole.to_bytes()))
    };
    timeout(limits.time, whole).await.unwrap_or(Err(SendError::TimedOut { host }))
}

/// Sends a request and returns once the headers of the answer are there; the body is read as it is
/// asked for. Bounds in time and bytes are the caller's. Dropping the body ends the connection.
///
/// # Errors
/// [`SendError`], but neither [`SendError::TooLarge`] nor [`SendError::TimedOut`].
pub async fn open(guard: &Guard, request: Request<Bytes>) -> Result<Response<Streamed>, SendError> {
    let target = Target::read(request.method(), request.uri())?;
    let pinned = guard.resolve(&target.host).await?;
    if target.encrypted {
        let stream = guard.connect_tls(&pinned, target.port, &[b"http/1.1"]).await?;
        return exchange(stream, &pinned, &target, request).await;
    }
    if !guard.is_opened(&pinned) {
        return Err(SendError::Plain { host: pinned.host().to_owned() });
    }
    let stream = guard.connect(&pinned, target.port).await?;
    exchange(stream, &pinned, &target, request).await
}

/// Like [`open`], for pages of the open web, where a request holds no secret: plain http goes to every
/// host, and a host that the operator has not opened is asked at these ports alone.
///
/// # Errors
/// As [`open`], but not [`SendError::Plain`]; [`SendError::Url`] for another port.
pub async fn open_page(
    guard: &Guard,
    request: Request<Bytes>,
    ports: &[u16],
) -> Result<Response<Streamed>, SendError> {
    let target = Target::read(request.method(), request.uri())?;
    let pinned = guard.resolve(&target.host).await?;
    if !ports.contains(&target.port) && !guard.is_opened(&pinned) {
        return Err(SendError::Url("has a port at which no pages are read"));
    }
    if target.encrypted {
        let stream = guard.connect_tls(&pinned, target.port, &[b"http/1.1"]).await?;
        return exchange(stream, &pinned, &target, request).await;
    }
    let stream = guard.connect(&pinned, target.port).await?;
    exchange(stream, &pinned, &target, request).await
}

/// Where a URL leads.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    encrypted: bool,
    /// Without brackets.
    host: String,
    port: u16,
    /// Path and query.
    path: Uri,
    /// Whether the port was written, and so belongs into `Host`.
    names_port: bool,
}

impl Target {
    fn read(method: &Method, uri: &Uri) -> Result<Self, SendError> {
        if *method == Method::CONNECT {
            return Err(SendError::Url("can't be used with CONNECT"));
        }
        let encrypted = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(SendError::Url("is no https URL")),
        };
        let authority = uri.authority().ok_or(SendError::Url("has no host"))?;
        if authority.as_str().contains('@') {
            return Err(SendError::Url("has a user or a password in front of its host"));
        }
        let host = authority.host();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        // What stands behind the host may be a colon without a number, or with too large a one.
        let written = authority.as_str().get(authority.host().len()..).unwrap_or_default();
        let port = match (written, authority.port_u16()) {
            ("", _) => None,
            (_, Some(port)) if port > 0 => Some(port),
            _ => return Err(SendError::Url("has a port that is none")),
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        // `*` is no path of ours.
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let path = path.parse().map_err(|_| SendError::Url("has a path that can't be sent"))?;
        Ok(Self {
            encrypted,
            host: host.to_owned(),
            port: port.unwrap_or(if encrypted { 443 } else { 80 }),
            path,
            names_port: port.is_some(),
        })
    }

    /// The value of `Host`.
    fn name(&self, pinned: &Pinned) -> Result<HeaderValue, SendError> {
        let host = pinned.host();
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let text = if self.names_port { format!("{host}:{}", self.port) } else { host };
        HeaderValue::try_from(text).map_err(|_| SendError::Url("has a host that can't be sent"))
    }
}

/// Puts what is the connection's own into the headers.
fn dress(headers: &mut HeaderMap, host: HeaderValue) {
    for name in OF_THE_CONNECTION {
        headers.remove(name);
    }
    headers.insert(header::HOST, host);
    headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static(USER_AGENT));
}

async fn exchange<S>(
    stream: S,
    pinned: &Pinned,
    target: &Target,
    mut request: Request<Bytes>,
) -> Result<Response<Streamed>, SendError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let host = pinned.host().to_owned();
    let broken = |source| SendError::Broken { host: host.clone(), source };
    dress(request.headers_mut(), target.name(pinned)?);
    request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    *request.uri_mut() = target.path.clone();
    *request.version_mut() = http::Version::HTTP_11;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEADERS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let mut connection: Connection = Box::pin(connection);
    let mut answer = Box::pin(sender.send_request(request.map(Full::new)));
    // The connection moves nothing by itself: whoever waits for something moves it.
    let mut moving = true;
    let answer = poll_fn(|context| {
        if moving && connection.as_mut().poll(context).is_ready() {
            // How it has ended is told by the answer.
            moving = false;
        }
        answer.as_mut().poll(context)
    });
    let answer = answer.await.map_err(broken)?;
    let connection = moving.then_some(connection);
    Ok(answer.map(|body| Streamed { body, connection, host }))
}

type Connection = Pin<Box<dyn Future<Output = Result<(), hyper::Error>> + Send>>;

/// The body of an answer that is still coming. Reading it moves the connection; it holds no task.
pub struct Streamed {
    body: Incoming,
    connection: Option<Connection>,
    host: String,
}

impl std::fmt::Debug for Streamed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Streamed").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Body for Streamed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(connection) = &mut self.connection
            && connection.as_mut().poll(context).is_ready()
        {
            // A cut is told by the body.
            self.connection = None;
        }
        Pin::new(&mut self.body).poll_frame(context)
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
