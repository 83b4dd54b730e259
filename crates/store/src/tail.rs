//! Following a log's end inside one process.
//!
//! A bus per watched session, which exists only while somebody watches. Records reach it after
//! they are durable and in the order of the log; previews pass through beside them, carry no
//! place and are lost when a watcher is slow. A watcher that has fallen behind reads the log.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::broadcast;

use crate::Record;

/// How many ticks a watcher may fall behind before it has to read the log.
const DEPTH: usize = 1024;

/// What a watcher hears.
#[derive(Debug, Clone)]
pub enum Tick {
    /// Records that have just become durable, in order.
    Records(Arc<[Record]>),
    /// A passing sign of something that is not in the log yet.
    Preview(Arc<Preview>),
    /// The session and its log are gone.
    Deleted,
}

/// A passing sign of an event that is not in the log yet; its meaning is the engine's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// The thread that it belongs to.
    pub thread: Arc<str>,
    /// The kind that the event will have.
    pub kind: &'static str,
    /// The id that the event will have.
    pub event: Arc<str>,
    /// Whether it is the first sign of that event.
    pub opens: bool,
    /// What a client is shown, JSON.
    pub body: String,
}

/// The buses of all watched sessions.
#[derive(Clone, Default)]
pub(crate) struct Hub {
    buses: Arc<Mutex<HashMap<Arc<str>, broadcast::Sender<Tick>>>>,
}

impl Hub {
    pub(crate) fn watch(&self, session: &str) -> Tail {
        let session: Arc<str> = session.into();
        let mut buses = self.buses.lock().unwrap_or_else(PoisonError::into_inner);
        let ticks = buses
            .entry(Arc::clone(&session))
            .or_insert_with(|| broadcast::Sender::new(DEPTH))
            .subscribe();
        Tail { session, ticks, hub: self.clone() }
    }

    pub(crate) fn tell(&self, session: &str, tick: impl FnOnce() -> Tick) {
        let buses = self.buses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bus) = buses.get(session) {
            // Nobody listening is no fault.
            let _ = bus.send(tick());
        }
    }

    pub(crate) fn is_watched(&self, session: &str) -> bool {
        self.buses.lock().unwrap_or_else(PoisonError::into_inner).contains_key(session)
    }
}

/// One watcher of one session.
pub struct Tail {
    session: Arc<str>,
    ticks: broadcast::Receiver<Tick>,
    hub: Hub,
}

/// The watcher has fallen behind: some ticks are lost, and the log has to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behind;

impl Tail {
    /// Waits for the next tick.
    ///
    /// # Errors
    /// [`Behind`] when ticks were lost.
    pub async fn next(&mut self) -> Result<Tick, Behind> {
        // The hub keeps the sender while a tail exists, so that "closed" can't come.
        self.ticks.recv().await.map_err(|_| Behind)
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let mut buses = self.hub.buses.lock().unwrap_or_else(PoisonError::into_inner);
        if buses.get(&self.session).is_some_and(|bus| bus.receiver_count() <= 1) {
            buses.remove(&self.session);
        }
    }
}
