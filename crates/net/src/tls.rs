//! TLS to origins: which authorities are trusted, and the handshake at an address that was checked.
//!
//! Who is trusted is the operator's business alone: the system's roots and `egress.trusted_roots`.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::guard::{CONNECT_TIMEOUT, ConnectError, Guard, Pinned};

/// What is wrong with a file of authorities. The texts hold nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnusableRoots {
    /// It is not written as PEM is.
    #[error("is no PEM; right would be certificates between BEGIN CERTIFICATE and END CERTIFICATE")]
    NotPem,
    /// There is none in it.
    #[error("holds no certificate; right would be at least one, in PEM")]
    None,
    /// One of them is none.
    #[error("certificate {0} is no certificate; right would be an authority's, in PEM")]
    Certificate(usize),
    /// A private key is in it, which belongs elsewhere.
    #[error("holds a private key; right would be certificates alone")]
    PrivateKey,
}

/// Reads the authorities of a file in PEM.
///
/// # Errors
/// [`UnusableRoots`].
pub fn read_roots(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, UnusableRoots> {
    // Whole or cut, of whatever kind: a key has nothing to do here.
    let key = b"PRIVATE KEY-----";
    if pem.windows(key.len()).any(|part| part == key) {
        return Err(UnusableRoots::PrivateKey);
    }
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let roots = read.map_err(|_| UnusableRoots::NotPem)?;
    if roots.is_empty() {
        return Err(UnusableRoots::None);
    }
    let mut store = RootCertStore::empty();
    for (index, root) in roots.iter().enumerate() {
        store.add(root.clone()).map_err(|_| UnusableRoots::Certificate(index + 1))?;
    }
    Ok(roots)
}

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
    fn config(&self, protocols: &[&[u8]], resumption: &Resumption) -> ClientConfig {
        let mut config = self.plain().clone();
        config.resumption = resumption.clone();
        config.alpn_protocols = protocols.iter().map(|one| one.to_vec()).collect();
        config
    }

    fn plain(&self) -> &ClientConfig {
        self.plain.get_or_init(|| self.read())
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

    /// Reads who is trusted, which the first handshake does otherwise and waits for. It blocks.
    pub fn read_trusted_roots(&self) {
        self.roots().plain();
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
        let config = self.roots().config(protocols, self.resumption());
        let connector = TlsConnector::from(Arc::new(config));
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

#[cfg(test)]
mod tests {
    use rustls::{HandshakeKind, ServerConfig, pki_types::PrivateKeyDer};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::guard::Rules;

    #[tokio::test]
    async fn a_session_of_tls_is_taken_up_again_by_its_own_share_alone() {
        let made = rcgen::generate_simple_self_signed(["origin.example".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let origin = TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let rules = Rules {
            resolve: [("origin.example".to_owned(), listener.local_addr().unwrap())].into(),
            trusted_roots: vec![made.cert.der().clone()],
            ..Rules::default()
        };
        let guard = Guard::new(rules, vec![]);
        let (one, other) = (guard.share(1), guard.share(1));
        for (share, expected) in [
            (&one, HandshakeKind::Full),
            (&one, HandshakeKind::Resumed),
            (&other, HandshakeKind::Full),
            (&other.clone(), HandshakeKind::Resumed),
            (&guard, HandshakeKind::Full),
        ] {
            let serving = async {
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream = origin.accept(stream).await.unwrap();
                stream.write_all(b"!").await.unwrap();
                stream.flush().await.unwrap();
                stream
            };
            let asking = async {
                let pinned = share.resolve("origin.example").await.unwrap();
                let mut stream = share.connect_tls(&pinned, 443, &[]).await.unwrap();
                // What is needed to take it up again comes in front of the first byte.
                stream.read_u8().await.unwrap();
                stream.get_ref().1.handshake_kind()
            };
            assert_eq!(tokio::join!(serving, asking).1, Some(expected));
        }
    }

    #[test]
    fn authorities_are_certificates_and_nothing_else() {
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        let (one, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let read = |text: String| read_roots(text.as_bytes());
        assert_eq!(read(one.clone()).unwrap(), [made.cert.der().clone()]);
        assert_eq!(read(format!("the house's own\n{one}\n{one}")).unwrap().len(), 2);
        let not_one = one.replace("MII", "AAA");
        assert_ne!(not_one, one);
        for (text, wrong) in [
            (String::new(), UnusableRoots::None),
            ("certificate".to_owned(), UnusableRoots::None),
            (key.clone(), UnusableRoots::PrivateKey),
            (format!("{one}{key}"), UnusableRoots::PrivateKey),
            (format!("{one}{}", key.replace("PRIVATE", "EC PRIVATE")), UnusableRoots::PrivateKey),
            (one.replace("END", "AND"), UnusableRoots::NotPem),
            (one.replace("MII", "M!I"), UnusableRoots::NotPem),
            (format!("{one}{not_one}"), UnusableRoots::Certificate(2)),
        ] {
            assert_eq!(read(text.clone()), Err(wrong), "{text}");
        }
    }
}
