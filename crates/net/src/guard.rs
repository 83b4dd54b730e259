//! The guard: resolves a name once, keeps the addresses that may be reached, and dials those alone.
//!
//! It never asks a name twice for one connection, never follows anything that a peer says, and
//! holds no connection itself.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use ipnet::IpNet;
use tokio::{
    net::TcpStream,
    sync::{Semaphore, oneshot},
    task::JoinSet,
    time::{sleep, timeout},
};

use rustls::{client::Resumption, pki_types::CertificateDer};

use crate::{host::Host, ranges, tls::Roots};

/// The longest that a caller waits for a name. Less than the ten seconds that a cage waits.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(8);
/// Addresses kept of one name.
const ADDRESSES: usize = 16;
/// Names that are looked up at the same time by the server itself, and by all shares together. Each
/// holds a thread.
const LOOKUPS: usize = 64;
/// Sessions of TLS that each share keeps.
const SESSIONS: usize = 256;
/// How long one address may take before the next is tried beside it (RFC 8305, 5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);
/// The longest that all addresses of a name may take.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// What the operator has opened. Nothing by default.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Networks that may be reached although they are not public. Metadata addresses are opened
    /// only by an entry that holds nothing else (`/32`, `/128`).
    pub allow_private: Vec<IpNet>,
    /// Names that are not resolved: whoever connects to one, at *any* port, reaches this address
    /// at this port, as if it were public. (The server itself stays out of reach.)
    pub resolve: BTreeMap<String, SocketAddr>,
    /// Authorities that are trusted for TLS beside the system's.
    pub trusted_roots: Vec<CertificateDer<'static>>,
}

/// The guard. A clone is the same guard.
#[derive(Debug, Clone)]
pub struct Guard {
    shared: Arc<Shared>,
    /// The share of whoever holds this clone; see [`Guard::share`].
    share: Arc<Share>,
}

/// What is not the same for everybody.
#[derive(Debug)]
struct Share {
    lookups: Arc<Semaphore>,
    /// What it has in common with the other shares. The server itself waits for nobody.
    common: Option<Arc<Semaphore>>,
    /// Sessions of TLS that may be taken up again. By one that somebody else has begun, an origin
    /// would know the two for one.
    resumption: Resumption,
}

impl Share {
    fn new(lookups: usize, common: Option<Arc<Semaphore>>) -> Arc<Self> {
        let resumption = Resumption::in_memory_sessions(SESSIONS);
        Arc::new(Self { lookups: Arc::new(Semaphore::new(lookups)), common, resumption })
    }
}

#[derive(Debug)]
struct Shared {
    allow_private: Vec<IpNet>,
    resolve: BTreeMap<String, SocketAddr>,
    roots: Roots,
    own: Vec<SocketAddr>,
    /// Of all shares together.
    lookups: Arc<Semaphore>,
    resolver: fn(&str) -> io::Result<Vec<IpAddr>>,
    looked_up: AtomicU64,
    dialled: AtomicU64,
}

/// A host with the addresses at which it may be reached. Made by [`Guard`] alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    host: String,
    target: Target,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Addresses(Vec<IpAddr>),
    Fixed(SocketAddr),
}

impl Pinned {
    /// The host as it was asked for, in lower case.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Where a connection to `port` goes, in the order in which it is tried.
    #[must_use]
    pub fn targets(&self, port: u16) -> Vec<SocketAddr> {
        match &self.target {
            Target::Addresses(addresses) => {
                addresses.iter().map(|address| SocketAddr::new(*address, port)).collect()
            }
            Target::Fixed(address) => vec![*address],
        }
    }

    /// Whether the operator has fixed where this name leads ([`Rules::resolve`]), at any port.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        matches!(self.target, Target::Fixed(_))
    }
}

/// Why a host may not be reached. The texts name no address that the caller has not named.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Neither a name nor an address.
    #[error(transparent)]
    Malformed(#[from] crate::host::MalformedHost),
    /// The name has no address.
    #[error("{host} has no address")]
    NotFound {
        /// The name.
        host: String,
    },
    /// The resolver has not answered in time, or could not.
    #[error("{host} could not be resolved; try again later")]
    Unresolved {
        /// The name.
        host: String,
    },
    /// An address that is not of the public internet.
    #[error(
        "{host} is {kind}, not public; an operator can open networks with `egress.allow_private`"
    )]
    NotPublic {
        /// The name or address as it was asked for.
        host: String,
        /// What kind of address it is.
        kind: &'static str,
    },
    /// This very server.
    #[error("{host} is this server; it can't be reached from inside")]
    Own {
        /// The name or address as it was asked for.
        host: String,
    },
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// It may not be.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// No address has answered.
    #[error("{host} port {port}: no connection")]
    Failed {
        /// The host.
        host: String,
        /// The port that was asked for.
        port: u16,
        /// What the last address said.
        #[source]
        source: io::Error,
    },
    /// The origin is not who it should be.
    #[error("{host}: its certificate is not trusted: {reason}")]
    Untrusted {
        /// The host.
        host: String,
        /// What is wrong with it.
        reason: rustls::CertificateError,
    },
    /// None has answered in time.
    #[error("{host} port {port}: no answer in time")]
    TimedOut {
        /// The host.
        host: String,
        /// The port that was asked for.
        port: u16,
    },
}

impl Guard {
    /// A guard by these rules. `own` is where this server listens: refused whatever the rules say.
    /// An unspecified address stands for every address of this machine. Addresses that a router
    /// in front of the machine sends here are not known to it; name them in `own`.
    #[must_use]
    pub fn new(rules: Rules, own: Vec<SocketAddr>) -> Self {
        Self::with_resolver(rules, own, ask_system)
    }

    pub(crate) fn with_resolver(
        rules: Rules,
        own: Vec<SocketAddr>,
        resolver: fn(&str) -> io::Result<Vec<IpAddr>>,
    ) -> Self {
        let Rules { allow_private, resolve, trusted_roots } = rules;
        // Asked-for names come in lower case and without a dot at the end.
        let plain = |name: &str| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let resolve = resolve.into_iter().map(|(name, at)| (plain(&name), at)).collect();
        let shared = Shared {
            allow_private,
            resolve,
            roots: Roots::new(trusted_roots),
            own,
            lookups: Arc::new(Semaphore::new(LOOKUPS)),
            resolver,
            looked_up: AtomicU64::new(0),
            dialled: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared), share: Share::new(LOOKUPS, None) }
    }

    /// The same guard for somebody who may have at most `lookups` names looked up at a time, so
    /// that one cage with slow names does not hold up the others, and whose sessions of TLS are
    /// taken up again by nobody else.
    #[must_use]
    pub fn share(&self, lookups: usize) -> Self {
        let common = Some(Arc::clone(&self.shared.lookups));
        Self { shared: Arc::clone(&self.shared), share: Share::new(lookups, common) }
    }

    pub(crate) fn roots(&self) -> &Roots {
        &self.shared.roots
    }

    pub(crate) fn resumption(&self) -> &Resumption {
        &self.share.resumption
    }

    /// Whether the operator has opened every address behind a host: by `resolve`, or by
    /// `allow_private`. Only there may a secret travel without TLS.
    #[must_use]
    pub fn is_opened(&self, pinned: &Pinned) -> bool {
        match &pinned.target {
            Target::Fixed(_) => true,
            Target::Addresses(addresses) => addresses.iter().all(|address| {
                self.shared.allow_private.iter().any(|network| network.contains(address))
            }),
        }
    }

    /// Whether the operator may have opened what is behind a host, as far as that can be told
    /// without resolving it: for an early refusal. [`Self::is_opened`] has the last word.
    #[must_use]
    pub fn may_be_opened(&self, host: &str) -> bool {
        let Shared { allow_private, resolve, .. } = &*self.shared;
        match Host::parse(host) {
            Ok(Host::Address(address)) => {
                allow_private.iter().any(|network| network.contains(&address))
            }
            Ok(Host::Name(name)) => resolve.contains_key(&name) || !allow_private.is_empty(),
            Err(_) => false,
        }
    }

    /// How many names were handed to the system's resolver.
    #[must_use]
    pub fn looked_up(&self) -> u64 {
        self.shared.looked_up.load(Ordering::Relaxed)
    }

    /// How many connections were attempted.
    #[must_use]
    pub fn dialled(&self) -> u64 {
        self.shared.dialled.load(Ordering::Relaxed)
    }

    /// Resolves a name once, or reads an address, and keeps what may be reached.
    ///
    /// # Errors
    ///
    /// [`Refused`] if nothing is left, and why.
    pub async fn resolve(&self, host: &str) -> Result<Pinned, Refused> {
        let name = match Host::parse(host)? {
            Host::Address(address) => return self.literal(address),
            Host::Name(name) => name,
        };
        if let Some(address) = self.shared.resolve.get(&name) {
            return Ok(Pinned { host: name, target: Target::Fixed(*address) });
        }
        match timeout(RESOLVE_TIMEOUT, self.look_up(name.clone())).await {
            Ok(Ok(addresses)) => self.keep(name, addresses),
            Ok(Err(_)) => Err(Refused::NotFound { host: name }),
            Err(_) => Err(Refused::Unresolved { host: name }),
        }
    }

    /// The address itself, if it may be reached.
    ///
    /// # Errors
    ///
    /// [`Refused`] if it may not.
    pub fn literal(&self, address: IpAddr) -> Result<Pinned, Refused> {
        self.check(address)?;
        Ok(Pinned { host: address.to_string(), target: Target::Addresses(vec![address]) })
    }

    /// Whether an address may be reached. Ports of this server are a matter of [`Guard::connect`].
    ///
    /// # Errors
    ///
    /// [`Refused::NotPublic`] if it may not.
    pub fn check(&self, address: IpAddr) -> Result<(), Refused> {
        self.refusal(address)
            .map_or(Ok(()), |kind| Err(Refused::NotPublic { host: address.to_string(), kind }))
    }

    /// Dials the pinned addresses, one after the other and soon beside each other. Nagle's
    /// algorithm is off. Dropping the future ends all attempts.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if none may be dialled or none answers.
    pub async fn connect(&self, pinned: &Pinned, port: u16) -> Result<TcpStream, ConnectError> {
        let host = || pinned.host.clone();
        let targets: Vec<SocketAddr> =
            pinned.targets(port).into_iter().filter(|target| !self.is_own(*target)).collect();
        if targets.is_empty() {
            return Err(Refused::Own { host: host() }.into());
        }
        match timeout(CONNECT_TIMEOUT, self.dial(targets)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(source)) => Err(ConnectError::Failed { host: host(), port, source }),
            Err(_) => Err(ConnectError::TimedOut { host: host(), port }),
        }
    }

    async fn dial(&self, targets: Vec<SocketAddr>) -> io::Result<TcpStream> {
        // Most names have one address, which needs no task beside this one.
        if let [target] = targets[..] {
            self.shared.dialled.fetch_add(1, Ordering::Relaxed);
            return reach(target).await;
        }
        // Attempts end with the set, hence with this future.
        let mut attempts = JoinSet::new();
        let mut waiting = targets.into_iter();
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        loop {
            if let Some(target) = waiting.next() {
                self.shared.dialled.fetch_add(1, Ordering::Relaxed);
                attempts.spawn(reach(target));
            }
            let more = waiting.len() > 0;
            tokio::select! {
                ended = attempts.join_next() => match ended {
                    Some(Ok(Ok(stream))) => return Ok(stream),
                    Some(Ok(Err(error))) => last = error,
                    Some(Err(error)) => last = io::Error::other(error),
                    None if !more => return Err(last),
                    None => {}
                },
                () = sleep(NEXT_ADDRESS), if more => {}
            }
        }
    }

    /// Keeps of a resolver's answer what may be reached.
    fn keep(&self, host: String, found: Vec<IpAddr>) -> Result<Pinned, Refused> {
        let mut refusal = None;
        let mut kept = Vec::new();
        for address in found {
            match self.refusal(address) {
                Some(kind) => refusal = Some(kind),
                None if kept.len() < ADDRESSES && !kept.contains(&address) => kept.push(address),
                None => {}
            }
        }
        match refusal {
            _ if !kept.is_empty() => Ok(Pinned { host, target: Target::Addresses(kept) }),
            Some(kind) => Err(Refused::NotPublic { host, kind }),
            None => Err(Refused::NotFound { host }),
        }
    }

    fn refusal(&self, address: IpAddr) -> Option<&'static str> {
        let networks = &self.shared.allow_private;
        if let Some(kind) = ranges::kind(address)
            && !ranges::opened(address, kind, networks)
        {
            return Some(kind.name);
        }
        // The way to an address was opened; what stands at its end is another question.
        let inside = match address {
            IpAddr::V6(address) => ranges::embedded(address)?,
            IpAddr::V4(_) => return None,
        };
        self.refusal(IpAddr::V4(inside))
    }

    async fn look_up(&self, name: String) -> io::Result<Vec<IpAddr>> {
        let closed = |_| io::Error::other("the guard is closed");
        let own = Arc::clone(&self.share.lookups).acquire_owned().await.map_err(closed)?;
        let common = match &self.share.common {
            Some(common) => Some(Arc::clone(common).acquire_owned().await.map_err(closed)?),
            None => None,
        };
        self.shared.looked_up.fetch_add(1, Ordering::Relaxed);
        let resolver = self.shared.resolver;
        let (tell, told) = oneshot::channel();
        // A thread of its own, which ends when the resolver does: a runtime that is to stop waits
        // for its blocking tasks, and names can be slow on purpose.
        thread::Builder::new().name("lookup".to_owned()).spawn(move || {
            // Held until the resolver is done, also when nobody waits for it any more.
            let _permits = (own, common);
            let _ = tell.send(resolver(&name));
        })?;
        told.await.map_err(io::Error::other)?
    }

    fn is_own(&self, target: SocketAddr) -> bool {
        self.shared.own.iter().any(|own| {
            own.port() == target.port()
                && if own.ip().is_unspecified() {
                    is_local(target.ip())
                } else {
                    own.ip().to_canonical() == target.ip().to_canonical()
                }
        })
    }
}

async fn reach(target: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Whether an address belongs to this machine: whether a socket can be bound to it. Nothing is sent.
fn is_local(address: IpAddr) -> bool {
    address.is_unspecified() || UdpSocket::bind((address.to_canonical(), 0)).is_ok()
}

fn ask_system(name: &str) -> io::Result<Vec<IpAddr>> {
    Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
}

#[cfg(test)]
mod tests;
