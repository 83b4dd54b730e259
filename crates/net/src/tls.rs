//! TLS to origins: which authorities are trusted, and the handshake at an address that was checked.
//!
//! Who is trusted is the operator's business alone: the system's roots and `egress.trusted_roots`.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::guard::{CONNECT_TIMEOUT, ConnectError, Guard, Pinned};

/// The roots that origins are checked against. They are read when they are first needed.
#[derive(Debug)]
pub(crate) struct Roots {
    /// Beside the system's.
    more: Vec<CertificateDer<'static>>,
    plain: OnceLock<ClientConfig>,
}

impl Roots {
    pub(crate) fn new(more: Vec<CertificateDer<'static>>) -> Self {
        Self { more, plain: OnceLock::new() }
    }

    pub(crate) fn more(&self) -> &[CertificateDer<'static>] {
        &self.more
    }

    /// A configuration that offers these protocols. What it costs is a copy of a few pointers.
    fn config(&self, protocols: &[&[u8]]) -> ClientConfig {
        let mut config = self.plain.get_or_init(|| self.read()).clone();
        config.alpn_protocols = protocols.iter().map(|one| one.to_vec()).collect();
        config
    }

    fn read(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        // What can't be read is as good as not trusted.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots.add_parsable_certificates(self.more.iter().cloned());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let versions = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(rustls::DEFAULT_VERSIONS);
        match versions {
            Ok(builder) => builder.with_root_certificates(roots).with_no_client_auth(),
            // This provider has the default versions.
            Err(error) => unreachable!("{error}"),
        }
    }
}

impl Guard {
    /// The authorities that are trusted beside the system's ([`Rules::trusted_roots`]).
    ///
    /// [`Rules::trusted_roots`]: crate::Rules::trusted_roots
    #[must_use]
    pub fn trusted_roots(&self) -> &[CertificateDer<'static>] {
        self.roots().more()
    }

    /// Dials as [`Guard::connect`] does and shakes hands as [`Guard::secure`] does.
    ///
    /// # Errors
    /// [`ConnectError`]; [`ConnectError::Untrusted`] when the origin's certificate is not right.
    pub async fn connect_tls(
        &self,
        pinned: &Pinned,
        port: u16,
        protocols: &[&[u8]],
    ) -> Result<TlsStream<TcpStream>, ConnectError> {
        let stream = self.connect(pinned, port).await?;
        self.secure(stream, pinned, port, protocols).await
    }

    /// Shakes hands for `pinned`'s host over a connection to it, offering these protocols (ALPN)
    /// in their order.
    ///
    /// # Errors
    /// [`ConnectError`]; [`ConnectError::Untrusted`] when the origin's certificate is not right.
    pub async fn secure(
        &self,
        stream: TcpStream,
        pinned: &Pinned,
        port: u16,
        protocols: &[&[u8]],
    ) -> Result<TlsStream<TcpStream>, ConnectError> {
        let host = || pinned.host().to_owned();
        let failed = |source| ConnectError::Failed { host: host(), port, source };
        let name = ServerName::try_from(host()).map_err(|error| failed(io::Error::other(error)))?;
        let connector = TlsConnector::from(Arc::new(self.roots().config(protocols)));
        match timeout(CONNECT_TIMEOUT, connector.connect(name, stream)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => {
                let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
                match inner {
                    Some(rustls::Error::InvalidCertificate(reason)) => {
                        Err(ConnectError::Untrusted { host: host(), reason: reason.clone() })
                    }
                    _ => Err(failed(error)),
                }
            }
            Err(_) => Err(ConnectError::TimedOut { host: host(), port }),
        }
    }
}
