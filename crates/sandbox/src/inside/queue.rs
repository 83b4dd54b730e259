//! The order of calls: those that change something run alone and in the order in which they
//! were given; those that only look run together, after all changes that were given before them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::tools::Stop;

/// How often one who waits looks whether it was stopped.
const LOOK: Duration = Duration::from_millis(50);

/// The calls that wait or run, by number, each with whether it runs alone.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<(u64, BTreeMap<u64, bool>)>,
    changed: Condvar,
}

/// A place in the queue, until it is dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    queue: Arc<Queue>,
    number: u64,
    alone: bool,
}

impl Queue {
    /// The next place.
    pub(super) fn draw(self: &Arc<Self>, alone: bool) -> Ticket {
        let mut state = self.lock();
        let number = state.0;
        state.0 += 1;
        state.1.insert(number, alone);
        Ticket { queue: Arc::clone(self), number, alone }
    }

    fn lock(&self) -> MutexGuard<'_, (u64, BTreeMap<u64, bool>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// Waits until nothing is in the way. False when it was stopped first.
    pub(super) fn wait(&self, stop: &Stop) -> bool {
        let mut state = self.queue.lock();
        loop {
            if stop.is_stopped() {
                return false;
            }
            let mut before = state.1.range(..self.number);
            if !before.any(|(_, alone)| *alone || self.alone) {
                return true;
            }
            let waited = self.queue.changed.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.queue.lock().1.remove(&self.number);
        self.queue.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;

    #[test]
    fn changes_run_alone_and_in_order_and_looks_together() {
        let queue = Arc::new(Queue::default());
        let (said, heard) = mpsc::channel();
        let tickets: Vec<_> = [false, false, true, true, false, true]
            .iter()
            .enumerate()
            .map(|(at, alone)| (at, queue.draw(*alone)))
            .collect();
        // The first two look at the same time: each waits for the other.
        let meet = Arc::new(std::sync::Barrier::new(2));
        let threads: Vec<_> = tickets
            .into_iter()
            .rev()
            .map(|(at, ticket)| {
                let (said, meet) = (said.clone(), Arc::clone(&meet));
                thread::spawn(move || {
                    assert!(ticket.wait(&Stop::new().unwrap()));
                    if at < 2 {
                        meet.wait();
                    }
                    said.send(at).unwrap();
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        let order: Vec<_> = heard.try_iter().collect();
        assert_eq!(order[2..], [2, 3, 4, 5]);
    }

    #[test]
    fn one_that_was_stopped_makes_room() {
        let queue = Arc::new(Queue::default());
        let (first, second, third) = (queue.draw(true), queue.draw(true), queue.draw(true));
        let stop = Stop::new().unwrap();
        stop.stop();
        assert!(!second.wait(&stop));
        drop((first, second));
        assert!(third.wait(&Stop::new().unwrap()));
    }
}
