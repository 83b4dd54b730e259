//! An origin of the world outside that speaks HTTP, with TLS and without.

use std::convert::Infallible;

use ::http::{HeaderMap, HeaderValue, Request, Response, Version, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::LazyConfigAcceptor;

use super::*;

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// Whom the origin's certificate is for where nobody is named.
pub(super) const ADDRESS: &str = "93.184.216.34";

/// The origin, and who vouches for it.
pub(super) struct Origin {
    pub(super) authority: Authority,
    /// Nobody trusts it.
    stranger: Authority,
    /// How many connections have come.
    pub(super) connections: AtomicU64,
}

impl Origin {
    pub(super) fn new() -> Self {
        let (authority, stranger) = (Authority::new().unwrap(), Authority::new().unwrap());
        Self { authority, stranger, connections: AtomicU64::new(0) }
    }

    /// Serves until it is dropped.
    pub(super) async fn serve(self: Arc<Self>, listener: Listener, tls: bool) {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            self.connections.fetch_add(1, Ordering::SeqCst);
            let origin = Arc::clone(&self);
            connections.spawn(async move {
                if tls { origin.secured(stream).await } else { plain(stream).await }
            });
        }
    }

    /// The name that is asked for says how it behaves.
    async fn secured(&self, stream: tokio::net::TcpStream) -> Option<()> {
        let started = LazyConfigAcceptor::new(Default::default(), stream).await.ok()?;
        let hello = started.client_hello();
        let name = hello.server_name().unwrap_or(ADDRESS).to_owned();
        let offers_http2 = hello.alpn().is_some_and(|mut offered| offered.any(|one| one == b"h2"));
        let protocol: Option<&[u8]> = match name.as_str() {
            "old.example" => Some(b"http/1.1"),
            "mute.example" | "raw.example" | "banner.example" => None,
            _ if offers_http2 => Some(b"h2"),
            _ => Some(b"http/1.1"),
        };
        let config = match name.as_str() {
            "stranger.example" => self.stranger.server_config(&name, protocol),
            "impostor.example" => self.authority.server_config("other.example", protocol),
            name => self.authority.server_config(name, protocol),
        };
        let mut stream = started.into_stream(config.unwrap()).await.ok()?;
        match name.as_str() {
            "raw.example" => {
                let mut bytes = [0; 1024];
                while let Ok(length @ 1..) = stream.read(&mut bytes).await {
                    stream.write_all(&bytes[..length]).await.ok()?;
                    stream.flush().await.ok()?;
                }
            }
            "banner.example" => {
                stream.write_all(b"220 who is there?\r\n").await.ok()?;
                stream.flush().await.ok()?;
                let mut line = [0; 3];
                stream.read_exact(&mut line).await.ok()?;
                stream.write_all(&line).await.ok()?;
                stream.shutdown().await.ok()?;
            }
            _ if protocol == Some(b"h2") => http2(stream).await,
            _ => http1(stream).await,
        }
        Some(())
    }
}

/// Speaks first, hears three bytes, and says them again.
pub(super) async fn greet(listener: Listener) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"220 greetings\r\n").await.unwrap();
        let mut bytes = [0; 3];
        let _ = stream.read_exact(&mut bytes).await;
        let _ = stream.write_all(&bytes).await;
    }
}

async fn plain(stream: tokio::net::TcpStream) -> Option<()> {
    let mut first = [0; 3];
    while stream.peek(&mut first).await.ok()? < 3 {
        tokio::task::yield_now().await;
    }
    if &first == b"PRI" {
        http2(stream).await
    } else {
        http1(stream).await
    }
    Some(())
}

async fn http1(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
    let _ = served.with_upgrades().await;
}

async fn http2(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let builder = http2::Builder::new(TokioExecutor::new());
    let _ = builder.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
}

/// The path says what it answers.
async fn answer(mut request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let response = match request.uri().path() {
        "/large" => Response::new(Large(0).boxed_unsync()),
        // Less than it says.
        "/short" => {
            let mut response = Response::new(Large(LARGE - (1 << 16)).boxed_unsync());
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(LARGE));
            response
        }
        // Frame by frame, as they come.
        "/back" => Response::new(request.into_body().boxed_unsync()),
        "/websocket" => websocket(&mut request),
        "/trailers" => {
            let version = request.version();
            let body = request.into_body().collect().await.unwrap();
            let mut trailers = body.trailers().cloned().unwrap_or_default();
            trailers.insert("x-sum", HeaderValue::from(body.to_bytes().len()));
            let trailers = std::future::ready(Some(Ok(trailers)));
            let body = Full::new(Bytes::from_static(b"body")).map_err(|never| match never {});
            let mut response = Response::new(body.with_trailers(trailers).boxed_unsync());
            let declared = HeaderValue::from_static("x-sum, x-mine");
            response.headers_mut().insert(header::TRAILER, declared);
            if version == Version::HTTP_11 {
                let chunked = HeaderValue::from_static("chunked");
                response.headers_mut().insert(header::TRANSFER_ENCODING, chunked);
            }
            response
        }
        _ => echo(request).await,
    };
    Ok(response)
}

/// What the request looked like from here.
async fn echo(request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let mut text = format!("{} {} {:?}\n", parts.method, parts.uri, parts.version);
    let mut headers: Vec<String> = parts
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    headers.sort();
    text.extend(headers);
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    text.push_str(&format!("\n{}", String::from_utf8_lossy(&body)));
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {});
    Response::new(body.boxed_unsync())
}

/// The bytes of the large download, chunk by chunk.
struct Large(usize);

impl hyper::body::Body for Large {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<hyper::Result<Frame<Bytes>>>> {
        const CHUNK: usize = 1 << 16;
        let start = self.0;
        self.0 += CHUNK;
        let chunk = || Ok(Frame::data(Bytes::from(cage::pattern(start, CHUNK))));
        std::task::Poll::Ready((start < LARGE).then(chunk))
    }
}

/// Says hello, and echoes what comes after it.
fn websocket(request: &mut Request<Incoming>) -> Response<Body> {
    assert_eq!(request.version(), Version::HTTP_11);
    let upgraded = hyper::upgrade::on(request);
    #[expect(clippy::disallowed_methods, reason = "ends with the runtime of the test")]
    tokio::spawn(async move {
        let mut stream = TokioIo::new(upgraded.await.unwrap());
        stream.write_all(b"hello").await.unwrap();
        let mut bytes = [0; 1024];
        while let Ok(length @ 1..) = stream.read(&mut bytes).await {
            stream.write_all(&bytes[..length]).await.unwrap();
            stream.flush().await.unwrap();
        }
        stream.write_all(b"bye").await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let empty = Full::default().map_err(|never| match never {});
    let mut response = Response::new(empty.boxed_unsync());
    *response.status_mut() = ::http::StatusCode::SWITCHING_PROTOCOLS;
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers
        .insert("sec-websocket-accept", HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    response
}
