//! How many connections there may be at a time: through one door, through all doors of this
//! process, and of those that keep much in memory. It holds permits and no connection.

use std::sync::{Arc, LazyLock};

use rustix::process::{Resource, getrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections that one cage may have open at a time. More wait to be accepted.
pub(super) const CONNECTIONS: usize = 1024;
/// How many of them may keep much: what is under way of many streams of HTTP/2.
const WIDE: usize = 32;
/// The most of all doors together, however many descriptors there are.
const MOST: u64 = 1 << 16;

/// Each connection takes two descriptors. Half of them stay with the rest of the server, so that no
/// cage takes its files and its clients from it.
static ALL: LazyLock<(Arc<Semaphore>, usize)> = LazyLock::new(|| {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let all = usize::try_from((descriptors / 4).clamp(4, MOST)).unwrap_or(CONNECTIONS);
    (Arc::new(Semaphore::new(all)), all)
});

/// The places of one door.
#[derive(Debug)]
pub(super) struct Places {
    own: Arc<Semaphore>,
    all: Arc<Semaphore>,
    wide: Arc<Semaphore>,
}

/// One connection's place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new() -> Self {
        let (all, count) = &*ALL;
        // Where there are few, one cage does not get all of them.
        let own = CONNECTIONS.min(count / 4).max(1);
        Self {
            own: Arc::new(Semaphore::new(own)),
            all: Arc::clone(all),
            wide: Arc::new(Semaphore::new(WIDE)),
        }
    }

    /// Waits for a place. None when there are none any more.
    pub(super) async fn take(&self) -> Option<Place> {
        let own = Arc::clone(&self.own).acquire_owned().await.ok()?;
        let all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Place { _own: own, _all: all })
    }

    /// The right to keep much, if it is to be had now.
    pub(super) fn widen(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.wide).try_acquire_owned().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_is_one_of_the_doors_and_one_of_all() {
        let (one, other) = (Places::new(), Places::new());
        let (of_one, of_other) = (one.own.available_permits(), other.own.available_permits());
        let place = one.take().await.unwrap();
        assert_eq!(one.own.available_permits(), of_one - 1);
        assert_eq!(other.own.available_permits(), of_other);
        assert!(Arc::ptr_eq(&one.all, &other.all) && of_one * 4 <= ALL.1);
        drop(place);
        assert_eq!(one.own.available_permits(), of_one);
    }

    #[test]
    fn few_connections_may_keep_much_and_a_door_takes_none_from_another() {
        let (one, other) = (Places::new(), Places::new());
        let mut wide: Vec<_> = std::iter::from_fn(|| one.widen()).collect();
        assert_eq!(wide.len(), WIDE);
        assert!(one.widen().is_none() && other.widen().is_some());
        wide.pop();
        assert!(one.widen().is_some());
    }
}
