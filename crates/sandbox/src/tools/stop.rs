//! [`Stop`]: ends a call from outside. It never ends a process by itself.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::event::{EventfdFlags, eventfd};

/// Ends a call early. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Stop(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    stopped: AtomicBool,
    event: OwnedFd,
}

impl Stop {
    /// One that has not been used.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(Inner { stopped: AtomicBool::new(false), event })))
    }

    /// Asks the call to end. Doing it again does nothing.
    pub fn stop(&self) {
        if !self.0.stopped.swap(true, Ordering::SeqCst) {
            raise(&self.0.event);
        }
    }

    /// Whether the call was asked to end.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.stopped.load(Ordering::SeqCst)
    }
}

impl AsFd for Stop {
    /// Readable from the moment of [`Stop::stop`] on. Nobody reads it empty.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }
}

/// Makes an eventfd readable.
pub(crate) fn raise(event: &OwnedFd) {
    // It fails only when the counter is full, and then it is readable already.
    let _full = rustix::io::write(event, &1_u64.to_ne_bytes());
}
