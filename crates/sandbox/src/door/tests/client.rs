//! Clients in the cage: TLS that trusts one authority, and HTTP over it.

use std::{
    convert::Infallible,
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use ::http::{Request, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    body::{Body, Frame, Incoming},
    client::conn::http2,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use super::cage::connect;

pub(super) type Secured = StreamOwned<ClientConnection, TcpStream>;

/// A client that trusts one authority.
#[derive(Clone)]
pub(super) struct Client(ClientConfig);

impl Client {
    pub(super) fn new(trusted: &Path) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(trusted).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(rustls::DEFAULT_VERSIONS)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self(config)
    }

    /// One that does not say whom it is for.
    pub(super) fn without_a_name(mut self) -> Self {
        self.0.enable_sni = false;
        self
    }

    fn config(&self, protocols: &[&[u8]]) -> Arc<ClientConfig> {
        let mut config = self.0.clone();
        config.alpn_protocols = protocols.iter().map(|one| one.to_vec()).collect();
        Arc::new(config)
    }

    /// A connection whose handshake is done.
    pub(super) fn secure(
        &self,
        to: (Ipv4Addr, u16),
        name: &str,
        protocols: &[&[u8]],
    ) -> std::io::Result<Secured> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let session = ClientConnection::new(self.config(protocols), name).unwrap();
        let mut stream = StreamOwned::new(session, connect(to)?);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(stream)
    }

    /// A connection of HTTP/2.
    pub(super) async fn http2(
        &self,
        to: (Ipv4Addr, u16),
        name: &str,
    ) -> http2::SendRequest<Full<Bytes>> {
        self.http2_of(to, name).await
    }

    /// The same with another kind of body.
    pub(super) async fn http2_of<B>(&self, to: (Ipv4Addr, u16), name: &str) -> http2::SendRequest<B>
    where
        B: Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let stream = tokio::net::TcpStream::connect(to).await.unwrap();
        let connector = TlsConnector::from(self.config(&[b"h2"]));
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let stream = connector.connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let io = TokioIo::new(stream);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        #[expect(clippy::disallowed_methods, reason = "ends with the runtime of the test")]
        tokio::spawn(connection);
        sender
    }
}

/// Says something and reads up to the end.
pub(super) fn say(stream: &mut (impl Read + Write), text: &str) -> std::io::Result<String> {
    stream.write_all(text.as_bytes())?;
    stream.flush()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Reads until something was said.
pub(super) fn read_until(stream: &mut impl Read, end: &str) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end.as_bytes()) {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        bytes.push(byte[0]);
    }
    String::from_utf8(bytes).unwrap()
}

/// A request of HTTP/2.
pub(super) fn request(method: &str, uri: &str, body: &'static str) -> Request<Full<Bytes>> {
    Request::builder().method(method).uri(uri).body(Full::from(body)).unwrap()
}

/// The status and the text of an answer.
pub(super) async fn read(response: Response<Incoming>) -> (u16, String) {
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&bytes).into_owned())
}

/// A body, and what feeds it.
pub(super) fn fed() -> (mpsc::Sender<Frame<Bytes>>, Fed) {
    let (feed, frames) = mpsc::channel(1);
    (feed, Fed(frames))
}

/// A body that is fed frame by frame, to the end of its feed.
pub(super) struct Fed(mpsc::Receiver<Frame<Bytes>>);

impl Body for Fed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|frame| frame.map(Ok))
    }
}
