//! The origin of `door`: a server on loopback, with and without TLS, in a process of its own.
//!
//! It answers at once, and with 403 where a secret should have been and was not. Its authority is
//! made at each start and is nobody else's.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http_body_util::{BodyExt as _, Either, Full};
use hyper::{
    Request, Response, StatusCode,
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    header::AUTHORIZATION,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, crypto::aws_lc_rs};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::entry::{BODY, HOSTS, VALUE};
use crate::Outcome;

/// What most requests are answered with.
pub(crate) const ANSWER: &str = "ok";
/// Where a body of as many bytes as are named behind it lies.
pub(crate) const BYTES: &str = "/bytes/";
/// Where the header has to hold the secret.
pub(crate) const SECRET_HEADER: &str = "/secret/header";
/// Where the body has to hold the secret.
pub(crate) const SECRET_BODY: &str = "/secret/body";
/// How much of a long body is written at once.
const PIECE: usize = 64 << 10;
static ZEROS: [u8; PIECE] = [0; PIECE];

/// Where an origin listens, and who vouches for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// Without TLS.
    pub(crate) plain: SocketAddr,
    /// With TLS, for all of [`HOSTS`].
    pub(crate) secure: SocketAddr,
    /// Its authority, as PEM.
    pub(crate) authority: String,
}

/// An origin that listens.
pub(crate) struct Origin {
    plain: TcpListener,
    secure: TcpListener,
    acceptor: TlsAcceptor,
}

impl Origin {
    /// Binds it to free ports.
    pub(crate) async fn bind() -> Outcome<(Self, Hello)> {
        let (acceptor, authority) = identity()?;
        let plain = TcpListener::bind(("127.0.0.1", 0)).await?;
        let secure = TcpListener::bind(("127.0.0.1", 0)).await?;
        let hello = Hello { plain: plain.local_addr()?, secure: secure.local_addr()?, authority };
        Ok((Self { plain, secure, acceptor }, hello))
    }

    /// Serves for as long as it is let. Its connections end with this future.
    pub(crate) async fn serve(self) -> Outcome<()> {
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            tokio::select! {
                accepted = self.plain.accept() => {
                    let stream = ready(accepted?.0)?;
                    connections.spawn(answer(stream));
                }
                accepted = self.secure.accept() => {
                    let (stream, acceptor) = (ready(accepted?.0)?, self.acceptor.clone());
                    connections.spawn(async move {
                        // Who does not trust it is the client's business.
                        if let Ok(stream) = acceptor.accept(stream).await {
                            answer(stream).await;
                        }
                    });
                }
            }
        }
    }
}

fn ready(stream: TcpStream) -> Outcome<TcpStream> {
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// An authority and a certificate of it for all hosts.
fn identity() -> Outcome<(TlsAcceptor, String)> {
    let mut of_authority = CertificateParams::new(Vec::new())?;
    of_authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let authority = CertifiedIssuer::self_signed(of_authority, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let names = HOSTS.map(str::to_owned);
    let certificate = CertificateParams::new(names)?.signed_by(&key, &authority)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((TlsAcceptor::from(Arc::new(config)), authority.pem()))
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin) {
    // A client that leaves in the middle is the client's business.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(respond)).await;
}

type Answer = Response<Either<Full<Bytes>, Zeros>>;

async fn respond(request: Request<Incoming>) -> Result<Answer, Infallible> {
    let path = request.uri().path();
    if let Some(left) = path.strip_prefix(BYTES).and_then(|length| length.parse().ok()) {
        return Ok(Response::new(Either::Right(Zeros { left })));
    }
    let (in_header, in_body) = (path == SECRET_HEADER, path == SECRET_BODY);
    let header = request.headers().get(AUTHORIZATION).cloned();
    let posted = request.method() == hyper::Method::POST;
    let body = match request.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return Ok(short(StatusCode::BAD_REQUEST, "the body is not whole")),
    };
    let held_by_header = header
        .is_some_and(|header| header.as_bytes().strip_prefix(b"Bearer ") == Some(VALUE.as_bytes()));
    let held_by_body = body.windows(VALUE.len()).any(|part| part == VALUE.as_bytes());
    Ok(match () {
        () if in_header != held_by_header => short(StatusCode::FORBIDDEN, "the header is wrong"),
        () if in_body != held_by_body => short(StatusCode::FORBIDDEN, "the body is wrong"),
        () if posted && body.len() < BODY => short(StatusCode::FORBIDDEN, "the body is short"),
        () => short(StatusCode::OK, ANSWER),
    })
}

fn short(status: StatusCode, text: &'static str) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(Bytes::from_static(text.as_bytes()))));
    *answer.status_mut() = status;
    answer
}

/// A body of zeros.
#[derive(Debug)]
struct Zeros {
    left: u64,
}

impl Body for Zeros {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.left.min(PIECE as u64);
        if piece == 0 {
            return Poll::Ready(None);
        }
        self.left -= piece;
        let bytes = Bytes::from_static(&ZEROS).slice(..piece as usize);
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
