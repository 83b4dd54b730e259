//! The only door out of a cage, from the server's side.
//!
//! A cage's connections and name queries end at sockets that the cage's set-up handed to the
//! server (`crate::inside::network`). The door reads where each was meant to go, asks the
//! environment's policy and the guard, and dials out itself, to the addresses that were checked.
//!
//! A name is resolved once and answered with an address that stands for it in this cage alone.
//! So every later connection is known by its name, and a name that may not be reached never gets
//! to a resolver. What is under a list is looked into: the door ends its TLS, carries HTTP and
//! nothing else, and holds each request to the host that its connection was for. There the
//! session's secrets take the place of their placeholders. The door believes nothing that comes
//! from inside and keeps no secrets.

use std::{
    io,
    net::{TcpListener, UdpSocket},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use posthouse_net::Guard;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::settings::{Networking, Rule};

mod authority;
mod connection;
mod datagram;
mod dns;
mod hosts;
mod inject;
mod keeper;
mod look;
mod names;
mod opening;
mod places;
mod pump;
mod relay;
mod request;
mod resolver;
mod streams;
mod tls;
mod watched;
mod web;

#[cfg(test)]
pub(crate) mod tests;

pub(crate) use authority::{Authority, NAME_HASH};
pub use keeper::{Decision, Keeper, Nobody, Secret, Started, Unavailable, Use, Work};

/// Names that one cage may have looked up at a time.
const LOOKUPS: usize = 8;

/// An open door. It closes, with every connection through it, when it is dropped.
#[derive(Debug)]
pub struct Door {
    state: Arc<State>,
    // Holds the loops, which hold what they have started. Dropping it ends all of them.
    _tasks: JoinSet<()>,
}

/// How often the door has let through and refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Connections that were let through, whether or not the other side answered.
    pub allowed: u64,
    /// Connections and names that were refused.
    pub denied: u64,
}

/// What all connections of a door share.
#[derive(Debug)]
struct State {
    hosts: hosts::Hosts,
    guard: Guard,
    names: Mutex<names::Names>,
    places: places::Places,
    /// For what is read ahead of requests.
    room: Arc<Semaphore>,
    allowed: AtomicU64,
    denied: AtomicU64,
    keeper: Arc<dyn Keeper>,
    authority: Arc<Authority>,
}

impl Door {
    /// Opens the door of a cage, which trusts `authority`. To be called within a runtime.
    ///
    /// # Errors
    ///
    /// If a socket can't be watched.
    pub(crate) fn open(
        listeners: Vec<TcpListener>,
        dns: UdpSocket,
        policy: &Networking,
        guard: &Guard,
        keeper: Arc<dyn Keeper>,
        authority: Arc<Authority>,
    ) -> io::Result<Self> {
        let state = Arc::new(State {
            hosts: hosts::Hosts::new(policy),
            guard: guard.share(LOOKUPS),
            names: Mutex::default(),
            places: places::Places::new(),
            room: inject::room(),
            allowed: AtomicU64::new(0),
            denied: AtomicU64::new(0),
            keeper,
            authority,
        });
        let mut tasks = JoinSet::new();
        for listener in listeners {
            listener.set_nonblocking(true)?;
            let listener = tokio::net::TcpListener::from_std(listener)?;
            tasks.spawn(connection::accept(listener, Arc::clone(&state)));
        }
        dns.set_nonblocking(true)?;
        tasks.spawn(resolver::serve(tokio::net::UdpSocket::from_std(dns)?, Arc::clone(&state)));
        Ok(Self { state, _tasks: tasks })
    }

    /// How often it has let through and refused so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            allowed: self.state.allowed.load(Ordering::Relaxed),
            denied: self.state.denied.load(Ordering::Relaxed),
        }
    }
}

impl State {
    fn decided(&self, host: &str, port: Option<u16>, allowed: bool, rule: Rule) {
        let counter = if allowed { &self.allowed } else { &self.denied };
        counter.fetch_add(1, Ordering::Relaxed);
        self.keeper.decided(Decision { host: host.to_owned(), port, allowed, rule });
    }
}

/// What stands behind these locks is whole between any two statements, also after a panic.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
