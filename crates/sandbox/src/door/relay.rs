//! Carries HTTP between one connection inside and one outside, request by request.
//!
//! Each request is held to the connection's host, cleaned of what concerns one connection alone,
//! and has the session's secrets put in where it may have them. Bodies stream both ways, and an
//! upgraded connection is carried as it is. Nothing is tried again: where the origin breaks off,
//! the connection inside breaks off.

use std::{
    future::{poll_fn, ready},
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Either, Full};
use hyper::{
    body::{Body as _, Incoming},
    client::conn as client,
    server::conn as server,
    service::service_fn,
    upgrade::{self, OnUpgrade},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

use super::{
    Rule, State,
    inject::{InjectedBody, Injection},
    keeper::Unavailable,
    locked,
    look::Look,
    pump,
    request::{self, Target},
    streams,
    watched::{Connection, Watch, Watched},
    web::Refusal,
};

/// The longest that a request's head may take, and that a connection waits for the next one.
const NEXT: Duration = Duration::from_secs(120);
/// Bytes of a head.
const HEAD: usize = 64 << 10;
/// Bytes that are kept of a connection of HTTP/1 on each side.
const BUFFER: usize = 128 << 10;
/// What one connection of HTTP/2 may make this process keep: how many streams it has at a time, and
/// the bytes that wait for a side that does not read, of one stream and of all, of what is said
/// inside and of what an origin says, which may be far away.
#[derive(Debug, Clone, Copy)]
struct Width {
    streams: u32,
    inside: (u32, u32),
    outside: (u32, u32),
}

/// Usual connections.
const WIDE: Width =
    Width { streams: 100, inside: (256 << 10, 1 << 20), outside: (1 << 20, 4 << 20) };
/// Those of a cage that has many.
const NARROW: Width =
    Width { streams: 8, inside: (32 << 10, 128 << 10), outside: (64 << 10, 256 << 10) };
/// What is read of a refused request's body, and for how long, so that the answer gets there.
const REST: usize = 1 << 20;
const REST_TIME: Duration = Duration::from_secs(2);

/// The body of a request on its way out.
type Outgoing = Either<InjectedBody<Incoming>, Incoming>;
/// The body of an answer: the origin's, or the door's own.
type Answer = Either<Incoming, Full<Bytes>>;

/// Which HTTP is spoken, the same on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// How a connection is carried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    pub(super) version: Version,
    pub(super) tls: bool,
    /// Whether secrets may travel over it.
    pub(super) injects: bool,
}

/// The origin has broken off, or there is nothing that could be answered.
#[derive(Debug, thiserror::Error)]
#[error("the connection to the origin is broken")]
struct Broken;

/// What the requests of a connection share.
struct Relay {
    state: Arc<State>,
    target: Target,
    injects: bool,
    origin: Origin,
    /// Whether a request is under way that may end HTTP on both sides.
    switching: AtomicBool,
    /// The connection inside where something else was asked for, and the one outside where the
    /// origin agrees to it.
    upgraded: Mutex<Option<(OnUpgrade, Option<OnUpgrade>)>>,
}

enum Origin {
    Http1(Mutex<client::http1::SendRequest<Outgoing>>),
    Http2(client::http2::SendRequest<Outgoing>),
}

/// Carries a connection to its end.
pub(super) async fn carry<I: Connection>(
    inside: Watched<I>,
    outside: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    look: Look,
    kind: Kind,
) {
    let target =
        Target { host: look.way.pinned.host().to_owned(), port: look.way.port, tls: kind.tls };
    let places = &look.state.places;
    let wide = (kind.version == Version::Http2).then(|| places.widen()).flatten();
    let width = if wide.is_some() { WIDE } else { NARROW };
    let relay = |origin| Relay {
        state: look.state,
        target,
        injects: kind.injects,
        origin,
        switching: AtomicBool::new(false),
        upgraded: Mutex::default(),
    };
    match kind.version {
        Version::Http1 => carry_http1(inside, outside, relay).await,
        Version::Http2 => carry_http2(inside, outside, relay, width).await,
    }
}

async fn carry_http1<I: Connection>(
    inside: Watched<I>,
    outside: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    relay: impl FnOnce(Origin) -> Relay,
) {
    let mut builder = client::http1::Builder::new();
    builder.max_buf_size(BUFFER).max_header_size(HEAD);
    let Ok((sender, origin)) = builder.handshake(TokioIo::new(outside)).await else { return };
    let relay = relay(Origin::Http1(Mutex::new(sender)));
    let watch = inside.watch();
    let mut builder = server::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(NEXT)
        .max_buf_size(BUFFER)
        .max_header_size(HEAD)
        .half_close(true)
        .auto_date_header(false);
    let answer = service_fn(|request| relay.answer(request));
    let inside = builder.serve_connection(TokioIo::new(inside), answer).with_upgrades();
    let (mut inside, mut origin) = (pin!(inside), pin!(origin.with_upgrades()));
    let mut is_open = true;
    let ended = loop {
        tokio::select! {
            ended = &mut inside => break ended,
            _ = &mut origin, if is_open => {
                // What was asked for gets its answer; nothing more can be asked for. An upgraded
                // connection ends as HTTP alone.
                is_open = false;
                if !relay.switching.load(Ordering::Relaxed) {
                    inside.as_mut().graceful_shutdown();
                }
            }
            () = pump::silence(&watch.moved) => return watch.break_off(),
        }
    };
    relay.note(&ended, &watch);
    let upgraded = locked(&relay.upgraded).take();
    match upgraded {
        Some((inside, Some(outside))) if ended.is_ok() => {
            let both = async { tokio::try_join!(inside, outside) };
            let both = tokio::select! {
                biased;
                // It hands its connection over by ending.
                Err(_) = &mut origin, if is_open => return watch.break_off(),
                both = both => both,
            };
            if let Ok((inside, outside)) = both {
                pump::carry_any(TokioIo::new(inside), TokioIo::new(outside), &watch).await;
            }
        }
        // Nothing came of it, and a connection that has ended was handed over all the same.
        Some((inside, None)) if ended.is_ok() => tokio::select! {
            biased;
            Ok(inside) = inside => {
                let _ = TokioIo::new(inside).shutdown().await;
            }
            () = ready(()) => {}
        },
        Some(_) | None => {}
    }
}

async fn carry_http2<I: Connection>(
    inside: Watched<I>,
    outside: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    relay: impl FnOnce(Origin) -> Relay,
    width: Width,
) {
    // Ends with this future, and with it all streams.
    let (_tasks, streams) = streams::pair();
    let mut builder = client::http2::Builder::new(streams.clone());
    builder
        .max_header_list_size(HEAD as u32)
        .initial_stream_window_size(width.outside.0)
        .initial_connection_window_size(width.outside.1);
    let Ok((sender, outside)) = builder.handshake(TokioIo::new(outside)).await else { return };
    let relay = Arc::new(relay(Origin::Http2(sender)));
    let watch = inside.watch();
    let mut builder = server::http2::Builder::new(streams);
    builder
        .max_concurrent_streams(width.streams)
        .max_header_list_size(HEAD as u32)
        .initial_stream_window_size(width.inside.0)
        .initial_connection_window_size(width.inside.1)
        .auto_date_header(false);
    let answered = Arc::clone(&relay);
    let answer = service_fn(move |request| {
        let relay = Arc::clone(&answered);
        async move { relay.answer(request).await }
    });
    let mut inside = pin!(builder.serve_connection(TokioIo::new(inside), answer));
    let mut outside = pin!(outside);
    let mut is_open = true;
    loop {
        tokio::select! {
            ended = &mut inside => return relay.note(&ended, &watch),
            _ = &mut outside, if is_open => {
                is_open = false;
                inside.as_mut().graceful_shutdown();
            }
            () = pump::silence(&watch.moved) => return watch.break_off(),
        }
    }
}

impl Relay {
    /// Takes note of what was said inside and is not HTTP, and of an end out of order.
    fn note(&self, ended: &hyper::Result<()>, watch: &Watch) {
        if ended.is_err() {
            watch.break_off();
        }
        if ended.as_ref().is_err_and(hyper::Error::is_parse) {
            let Target { host, port, .. } = &self.target;
            self.state.decided(host, Some(*port), false, Rule::Protocol);
        }
    }

    /// Answers one request.
    async fn answer(&self, mut request: Request<Incoming>) -> Result<Response<Answer>, Broken> {
        let asks =
            request.headers().contains_key(header::UPGRADE) || request.method() == Method::CONNECT;
        if asks {
            *locked(&self.upgraded) = Some((upgrade::on(&mut request), None));
        }
        let (mut parts, body) = request.into_parts();
        let waits = parts.headers.contains_key(header::EXPECT);
        if let Err(refusal) = self.target.check(&parts) {
            self.state.refused(&refusal, self.target.port);
            let mut response = refuse(body, waits, &refusal).await;
            // What comes behind it may be meant as a part of it.
            if refusal.rule == Some(Rule::Protocol) && parts.version != http::Version::HTTP_2 {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            return Ok(response);
        }
        let websocket = self.target.prepare(&mut parts);
        let injection = if self.injects {
            match self.state.keeper.secrets().await {
                Ok(secrets) => Injection::for_host(&secrets, &self.target.host),
                Err(error) => return Ok(refuse(body, waits, &self.unavailable(&error)).await),
            }
        } else {
            None
        };
        let request = match injection {
            None => Request::from_parts(parts, Either::Right(body)),
            Some(injection) => match self.inject(&injection, parts, body).await? {
                Ok(request) => request,
                Err(refusal) => return Ok(refusal.response().map(Either::Right)),
            },
        };
        self.switching.store(websocket, Ordering::Relaxed);
        let mut response = self.origin.send(request).await.map_err(|_| Broken)?;
        let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if upgraded && !websocket {
            return Err(Broken);
        }
        if upgraded && let Some((_, outside)) = &mut *locked(&self.upgraded) {
            *outside = Some(upgrade::on(&mut response));
        }
        let (mut parts, body) = response.into_parts();
        request::prepare_answer(&mut parts, upgraded);
        Ok(Response::from_parts(parts, Either::Left(body)))
    }

    /// Puts values in, and has it written down before anything leaves.
    async fn inject(
        &self,
        injection: &Injection,
        mut parts: http::request::Parts,
        body: Incoming,
    ) -> Result<Result<Request<Outgoing>, Refusal>, Broken> {
        let in_headers = injection.headers(&mut parts.headers);
        let looked_into =
            injection.wants_body() && !body.is_end_stream() && is_plain(&parts.headers);
        let (body, in_body) = if looked_into {
            let read = injection.body(body, &self.state.room).await;
            let (body, length, in_body) = read.map_err(|_| Broken)?;
            match length {
                Some(length) => {
                    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
                }
                None => {
                    parts.headers.remove(header::CONTENT_LENGTH);
                }
            }
            (Either::Left(body), in_body)
        } else {
            (Either::Right(body), Vec::new())
        };
        let Target { host, port, .. } = &self.target;
        let uses = injection.uses(&in_headers, &in_body, host, *port, parts.method.as_str());
        if !uses.is_empty()
            && let Err(error) = self.state.keeper.used(uses).await
        {
            return Ok(Err(self.unavailable(&error)));
        }
        Ok(Ok(Request::from_parts(parts, body)))
    }

    fn unavailable(&self, error: &Unavailable) -> Refusal {
        Refusal {
            status: StatusCode::SERVICE_UNAVAILABLE,
            host: self.target.host.clone(),
            rule: None,
            reason: error.to_string().into(),
        }
    }
}

impl Origin {
    async fn send(&self, mut request: Request<Outgoing>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => {
                // Unless it is said, a GET whose length is not known goes out without its body.
                if request.body().size_hint().exact().is_none() {
                    let chunked = HeaderValue::from_static("chunked");
                    request.headers_mut().insert(header::TRANSFER_ENCODING, chunked);
                }
                poll_fn(|context| locked(sender).poll_ready(context)).await?;
                let answered = locked(sender).send_request(request);
                answered.await
            }
            Self::Http2(sender) => sender.clone().send_request(request).await,
        }
    }
}

/// Whether a body is what it says, not a compressed form of it.
fn is_plain(headers: &http::HeaderMap) -> bool {
    let codings = headers.get_all(header::CONTENT_ENCODING);
    codings.iter().all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Answers a request in words. Some of its body is read first: what is closed before it was read
/// ends as a break, and takes the answer with it. One that `waits` for the word to go on need not
/// come at all.
async fn refuse(mut body: Incoming, waits: bool, refusal: &Refusal) -> Response<Answer> {
    let rest = async {
        let mut read = 0;
        while read < REST
            && let Some(Ok(frame)) = body.frame().await
        {
            read += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    if !waits {
        let _ = timeout(REST_TIME, rest).await;
    }
    refusal.response().map(Either::Right)
}
