//! States of sessions that have just come to rest, with their tools, so that the next turn need not
//! fold the log from its beginning. Short-lived and small: a session at rest is rows.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{drive::Kit, state::State};

/// How long a state is kept.
const LIFE: Duration = Duration::from_secs(30);
/// How many states are kept.
const MOST: usize = 256;

/// What is kept of a session.
type Kept = (State, Kit);

#[derive(Default)]
pub(crate) struct Cache {
    states: Mutex<HashMap<Arc<str>, (Instant, Kept)>>,
}

impl Cache {
    pub(crate) fn take(&self, session: &str) -> Option<Kept> {
        self.states
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(session)
            .map(|(_, kept)| kept)
    }

    pub(crate) fn keep(&self, session: &Arc<str>, kept: Kept) {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        if states.len() >= MOST {
            let oldest = states.iter().min_by_key(|(_, (since, _))| *since);
            if let Some(oldest) = oldest.map(|(session, _)| Arc::clone(session)) {
                states.remove(&oldest);
            }
        }
        states.insert(Arc::clone(session), (Instant::now(), kept));
    }

    /// Forgets what is old. Called now and then.
    pub(crate) fn sweep(&self) {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        states.retain(|_, (since, _)| since.elapsed() < LIFE);
        if states.is_empty() {
            states.shrink_to_fit();
        }
    }
}
