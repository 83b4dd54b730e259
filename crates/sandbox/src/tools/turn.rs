//! [`Turn`]: one call at a time, and whoever waits can be stopped. It protects no data.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::Stop;

/// How often one who waits looks whether it was stopped.
const LOOK: Duration = Duration::from_millis(50);

/// Something that one call has at a time.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    taken: Mutex<bool>,
    free: Condvar,
}

/// Gives the turn back when it is dropped.
pub(crate) struct Taken<'a>(&'a Turn);

impl Turn {
    /// Waits for the turn. `None` when `stop` came first.
    pub(crate) fn take(&self, stop: &Stop) -> Option<Taken<'_>> {
        let mut taken = lock(&self.taken);
        while *taken {
            if stop.is_stopped() {
                return None;
            }
            taken = self.free.wait_timeout(taken, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        if stop.is_stopped() {
            return None;
        }
        *taken = true;
        Some(Taken(self))
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *lock(&self.0.taken) = false;
        self.0.free.notify_one();
    }
}

/// Locks, whatever has happened to others that held the lock: what is inside is whole at every
/// step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
