//! A web client as Rust programs are: rustls with the system's roots, HTTP/1.1 or HTTP/2 by what the
//! server chooses. For tests that run it in a sandbox.
//!
//! Prints the protocol, the status and the body. It follows no redirect, knows no proxy, and asks
//! the system's resolver.

use std::{io::Write, process::ExitCode, sync::Arc};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri, Version, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

const USAGE: &str =
    "usage: posthouse-fetch [--http1] [--header 'NAME: VALUE']... [--data TEXT] URL";

type Failure = Box<dyn std::error::Error>;

/// What the command line asks for.
struct Asked {
    url: Uri,
    http1: bool,
    headers: Vec<(HeaderName, HeaderValue)>,
    data: Option<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("posthouse-fetch: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Failure> {
    let asked = read(std::env::args().skip(1))?;
    let host = asked.url.host().ok_or(USAGE)?.to_owned();
    let secure = match asked.url.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(USAGE.into()),
    };
    let port = asked.url.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let stream = TcpStream::connect((host.as_str(), port)).await?;
    let response = if secure {
        let name = ServerName::try_from(host)?;
        let stream =
            TlsConnector::from(Arc::new(config(asked.http1)?)).connect(name, stream).await?;
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            over_http2(stream, asked).await?
        } else {
            over_http1(stream, asked).await?
        }
    } else {
        over_http1(stream, asked).await?
    };
    let (version, status) = (response.version(), response.status());
    let body = response.into_body().collect().await?.to_bytes();
    let mut out = std::io::stdout().lock();
    writeln!(out, "{version:?} {}", status.as_u16())?;
    out.write_all(&body)?;
    out.flush()?;
    Ok(())
}

fn read(mut arguments: impl Iterator<Item = String>) -> Result<Asked, Failure> {
    let (mut url, mut http1, mut headers, mut data) = (None, false, Vec::new(), None);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--http1" => http1 = true,
            "--data" => data = Some(arguments.next().ok_or(USAGE)?),
            "--header" => {
                let line = arguments.next().ok_or(USAGE)?;
                let (name, value) = line.split_once(':').ok_or(USAGE)?;
                headers.push((name.parse()?, value.trim().parse()?));
            }
            _ => url = Some(argument.parse()?),
        }
    }
    Ok(Asked { url: url.ok_or(USAGE)?, http1, headers, data })
}

/// The system's roots, as `rustls-native-certs` finds them.
fn config(http1: bool) -> Result<ClientConfig, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    if !http1 {
        config.alpn_protocols.push(b"h2".to_vec());
    }
    config.alpn_protocols.push(b"http/1.1".to_vec());
    Ok(config)
}

async fn over_http1<S>(stream: S, asked: Asked) -> Result<Response<Incoming>, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    keep(connection);
    let path = asked.url.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let authority = asked.url.authority().ok_or(USAGE)?.as_str().to_owned();
    let mut request = request(asked, Version::HTTP_11)?;
    request.headers_mut().insert(header::HOST, authority.parse()?);
    *request.uri_mut() = path.parse()?;
    Ok(sender.send_request(request).await?)
}

async fn over_http2<S>(stream: S, asked: Asked) -> Result<Response<Incoming>, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    keep(connection);
    Ok(sender.send_request(request(asked, Version::HTTP_2)?).await?)
}

#[expect(clippy::disallowed_methods, reason = "ends with the process, which has one connection")]
fn keep(connection: impl Future<Output = hyper::Result<()>> + Send + 'static) {
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            eprintln!("posthouse-fetch: {error}");
        }
    });
}

fn request(asked: Asked, version: Version) -> Result<Request<Full<Bytes>>, Failure> {
    let method = if asked.data.is_some() { Method::POST } else { Method::GET };
    let body = Full::new(Bytes::from(asked.data.unwrap_or_default()));
    let mut request =
        Request::builder().method(method).uri(asked.url).version(version).body(body)?;
    request.headers_mut().extend(asked.headers);
    Ok(request)
}
