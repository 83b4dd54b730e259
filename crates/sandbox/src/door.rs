//! The only door out of a cage, from the server's side.
//!
//! A cage's connections and name queries end at sockets that the cage's set-up handed to the
//! server (`crate::inside::network`). The door reads where each was meant to go, asks the
//! environment's policy and the guard, and dials out itself, to the addresses that were checked.
//!
//! A name is resolved once and answered with an address that stands for it in this cage alone.
//! So every later connection is known by its name, and a name that may not be reached never gets
//! to a resolver. The door believes nothing that comes from inside and keeps no secrets.

use std::{
    collections::VecDeque,
    io,
    net::{TcpListener, UdpSocket},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use posthouse_net::Guard;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::settings::Networking;

mod connection;
mod datagram;
mod dns;
mod hosts;
mod names;
mod pump;
mod resolver;
mod web;

#[cfg(test)]
pub(crate) mod tests;

/// Connections that one cage may have open at a time. More wait to be accepted.
const CONNECTIONS: usize = 1024;
/// Names that one cage may have looked up at a time.
const LOOKUPS: usize = 8;
/// Decisions that are kept.
const RECORD: usize = 256;

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

/// One decision of the door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The name, or the address where none is known.
    pub host: String,
    /// The port, or none where a name was asked for.
    pub port: Option<u16>,
    /// Whether it was let through.
    pub allowed: bool,
    /// What has decided.
    pub rule: Rule,
}

/// What a decision rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The environment allows everything that the guard does.
    Unrestricted,
    /// The host is in the environment's list.
    Listed,
    /// The host is not in the environment's list.
    NotListed,
    /// The guard refuses the address.
    Guard,
    /// The address stands for no name that this cage has asked for.
    Unknown,
}

/// What all connections of a door share.
#[derive(Debug)]
struct State {
    hosts: hosts::Hosts,
    guard: Guard,
    names: Mutex<names::Names>,
    places: Arc<Semaphore>,
    allowed: AtomicU64,
    denied: AtomicU64,
    record: Mutex<VecDeque<Decision>>,
}

impl Door {
    /// Opens the door of a cage. To be called within a runtime.
    ///
    /// # Errors
    ///
    /// If a socket can't be watched.
    pub fn open(
        listeners: Vec<TcpListener>,
        dns: UdpSocket,
        policy: Networking,
        guard: Guard,
    ) -> io::Result<Self> {
        let state = Arc::new(State {
            hosts: hosts::Hosts::new(policy),
            guard: guard.share(LOOKUPS),
            names: Mutex::default(),
            places: Arc::new(Semaphore::new(CONNECTIONS)),
            allowed: AtomicU64::new(0),
            denied: AtomicU64::new(0),
            record: Mutex::default(),
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

    /// The last decisions, the oldest first.
    #[must_use]
    pub fn record(&self) -> Vec<Decision> {
        locked(&self.state.record).iter().cloned().collect()
    }
}

impl State {
    fn decided(&self, host: &str, port: Option<u16>, allowed: bool, rule: Rule) {
        let counter = if allowed { &self.allowed } else { &self.denied };
        counter.fetch_add(1, Ordering::Relaxed);
        let mut record = locked(&self.record);
        if record.len() == RECORD {
            record.pop_front();
        }
        record.push_back(Decision { host: host.to_owned(), port, allowed, rule });
    }
}

/// What stands behind these locks is whole between any two statements, also after a panic.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
