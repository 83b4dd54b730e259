//! The place of a session's cage: who uses it, and what has to be in it.

use std::{
    io,
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::Instant,
};

use super::{
    Source,
    cage::Cage,
    folder::{self, Folder, Link},
    lock,
};

/// The place of a session's cage, whether there is one or not.
#[derive(Default)]
pub(super) struct Slot {
    /// Held while a cage is started.
    pub(super) cage: tokio::sync::Mutex<Option<Arc<Cage>>>,
    /// The same cage, for those who may not wait.
    pub(super) live: Mutex<Option<Arc<Cage>>>,
    /// Held while uploads are brought up to date, so that the newest list is the last that is
    /// followed. Holds the links that are wanted.
    pub(super) mounting: Mutex<Vec<Link>>,
    /// Whether the session is gone: no cage is started any more.
    pub(super) deleted: AtomicBool,
    pub(super) use_: Mutex<Use>,
}

#[derive(Debug)]
pub(super) struct Use {
    pub(super) last: Instant,
    /// Whether the session is at rest.
    pub(super) resting: bool,
    pub(super) calls: usize,
}

impl Default for Use {
    fn default() -> Self {
        Self { last: Instant::now(), resting: false, calls: 0 }
    }
}

impl Slot {
    /// Brings a session's uploads up to date and says which links are wanted.
    pub(super) fn mount(&self, folder: &Folder, source: &Source) -> io::Result<Vec<Link>> {
        let mut links = lock(&self.mounting);
        let mounts = source()?;
        folder.mount(&mounts)?;
        *links = folder::links(&mounts);
        Ok(links.clone())
    }

    /// Its cage, if it is alive. Does not wait for one that is being started.
    pub(super) fn live(&self) -> Option<Arc<Cage>> {
        let mut live = lock(&self.live);
        if live.as_ref().is_some_and(|cage| cage.is_gone()) {
            *live = None;
        }
        live.clone()
    }
}

/// A use of a session's place, until it is dropped: as long, its cage is not ended for want of use.
pub struct Used(Arc<Slot>);

impl Used {
    pub(super) fn of(slot: &Arc<Slot>) -> Self {
        let mut used = lock(&slot.use_);
        used.calls += 1;
        used.resting = false;
        used.last = Instant::now();
        drop(used);
        Self(Arc::clone(slot))
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        let mut used = lock(&self.0.use_);
        used.calls -= 1;
        used.last = Instant::now();
    }
}
