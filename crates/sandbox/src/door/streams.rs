//! Where the streams of one HTTP/2 connection run. They end with whoever holds the set.

use std::sync::{Arc, Mutex, Weak};

use hyper::rt::Executor;
use tokio::task::JoinSet;

use super::locked;

/// Starts the streams of one connection.
#[derive(Debug, Clone)]
pub(super) struct Streams(Weak<Mutex<JoinSet<()>>>);

/// A set, and what starts tasks in it. The set is to be held for as long as the connection.
pub(super) fn pair() -> (Arc<Mutex<JoinSet<()>>>, Streams) {
    let tasks = Arc::default();
    let streams = Streams(Arc::downgrade(&tasks));
    (tasks, streams)
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        // Without the set the connection is gone, and its streams with it.
        if let Some(tasks) = self.0.upgrade() {
            let mut tasks = locked(&tasks);
            while tasks.try_join_next().is_some() {}
            tasks.spawn(stream);
        }
    }
}
