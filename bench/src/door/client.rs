//! The client of `door`: this program once more, on the host or in a cage, for one order.
//!
//! It trusts the authorities that the order names and no others, so that an answer tells whose
//! TLS it came by. Names are looked up before any time is taken.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs as _},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    client::Resumption,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use serde::{Deserialize, Serialize};

use crate::{
    Outcome,
    http::{Connection, PATIENCE, Wire},
};

/// The variable that tells programs in a cage where their authorities are.
const BUNDLE: &str = "SSL_CERT_FILE";

/// What a client is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Whom to ask.
    pub(crate) host: String,
    /// At which port.
    pub(crate) port: u16,
    /// Where to connect. None: where the host is said to be.
    pub(crate) address: Option<SocketAddr>,
    /// Whether `address` is that of a proxy that has to be asked for a tunnel.
    pub(crate) tunnel: bool,
    /// Whom to trust for TLS. None: without TLS.
    pub(crate) trust: Option<Trust>,
    /// The request as it goes over the wire.
    pub(crate) request: String,
    /// How long its answer's body has to be.
    pub(crate) length: u64,
    /// Whether all requests go over one connection, which is made before.
    pub(crate) kept: bool,
    /// Requests whose time is not taken, and which come first.
    pub(crate) warm: usize,
    /// Requests whose time is taken.
    pub(crate) count: usize,
}

/// Whom a client trusts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Trust {
    /// The authority of the cage alone, the last one of those that its environment names.
    Environment,
    /// The authorities in a file.
    File(PathBuf),
}

/// Does what was ordered.
pub(crate) fn follow(order: &Order) -> Outcome<Vec<Duration>> {
    let route = Route::of(order)?;
    let request = Wire::whole(&order.request);
    let mut kept = if order.kept { Some(route.open()?) } else { None };
    let mut times = Vec::with_capacity(order.count);
    for index in 0..order.warm + order.count {
        let began = Instant::now();
        let mut new = None;
        let connection = match &mut kept {
            Some(kept) => kept,
            None => new.insert(route.open()?),
        };
        let length = connection.skim(&request)?;
        let passed = began.elapsed();
        if length != order.length {
            return Err(format!("{length} bytes came instead of {}", order.length).into());
        }
        if index >= order.warm {
            times.push(passed);
        }
    }
    Ok(times)
}

/// The way to a host, with everything that is made but once.
struct Route {
    address: SocketAddr,
    /// What a proxy is asked for.
    tunnel: Option<String>,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

impl Route {
    fn of(order: &Order) -> Outcome<Self> {
        let Order { host, port, .. } = order;
        let address = match order.address {
            Some(address) => address,
            None => {
                let mut found = (host.as_str(), *port).to_socket_addrs()?;
                found.next().ok_or_else(|| format!("{host} has no address"))?
            }
        };
        let ask = || format!("CONNECT {host}:{port} HTTP/1.1\r\nhost: {host}:{port}\r\n\r\n");
        let tls = match &order.trust {
            Some(trust) => Some((trust.config()?, ServerName::try_from(host.clone())?)),
            None => None,
        };
        Ok(Self { address, tunnel: order.tunnel.then(ask), tls })
    }

    fn open(&self) -> Outcome<Connection<Stream>> {
        let mut stream = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        if let Some(ask) = &self.tunnel {
            dig(&mut stream, ask)?;
        }
        Ok(Connection::over(match &self.tls {
            None => Stream::Plain(stream),
            Some((config, name)) => {
                let tls = ClientConnection::new(Arc::clone(config), name.clone())?;
                // It shakes hands with the first request.
                Stream::Secure(Box::new(StreamOwned::new(tls, stream)))
            }
        }))
    }
}

/// Has a proxy dig a tunnel. It says nothing more until the client speaks, so that nothing
/// behind its answer can be lost.
fn dig(stream: &mut TcpStream, ask: &str) -> Outcome<()> {
    stream.write_all(ask.as_bytes())?;
    let (mut answer, mut length) = ([0; 1024], 0);
    while !answer[..length].ends_with(b"\r\n\r\n") {
        match stream.read(&mut answer[length..])? {
            0 => return Err("the proxy has said no end of a head".into()),
            more => length += more,
        }
    }
    match answer.starts_with(b"HTTP/1.1 200") {
        true => Ok(()),
        false => Err(format!("no tunnel: {}", String::from_utf8_lossy(&answer[..length])).into()),
    }
}

impl Trust {
    /// Sessions are not resumed: a new connection is one of a program that has made none before.
    fn config(&self) -> Outcome<Arc<ClientConfig>> {
        let file = match self {
            Self::File(file) => file.clone(),
            Self::Environment => {
                let file = std::env::var_os(BUNDLE);
                file.ok_or_else(|| format!("{BUNDLE} is not set in the cage"))?.into()
            }
        };
        let certificates = CertificateDer::pem_file_iter(&file)
            .map_err(|error| format!("{}: {error}", file.display()))?;
        let mut roots = RootCertStore::empty();
        // A cage's own authority is the last one in its bundle. The operator's, whom the origin's
        // certificate is from, is there as well: trusted, it would hide that TLS was not ended.
        roots.add_parsable_certificates(certificates.filter_map(Result::ok).last());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// A connection with or without TLS.
enum Stream {
    Plain(TcpStream),
    Secure(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(into),
            Self::Secure(stream) => stream.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, from: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(from),
            Self::Secure(stream) => stream.write(from),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Secure(stream) => stream.flush(),
        }
    }
}
