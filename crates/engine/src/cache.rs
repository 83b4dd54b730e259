//! States of sessions that have just come to rest, so that the next turn need not fold the log
//! from its beginning. Short-lived and small: a session at rest is rows.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::state::State;

/// How long a state is kept.
const LIFE: Duration = Duration::from_secs(30);
/// How many states are kept.
const MOST: usize = 256;

#[derive(Default)]
pub(crate) struct Cache {
    states: Mutex<HashMap<Arc<str>, (Instant, State)>>,
}

impl Cache {
    pub(crate) fn take(&self, session: &str) -> Option<State> {
        self.states
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(session)
            .map(|(_, state)| state)
    }

    pub(crate) fn keep(&self, session: &Arc<str>, state: State) {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        if states.len() >= MOST {
            let oldest = states.iter().min_by_key(|(_, (since, _))| *since);
            if let Some(oldest) = oldest.map(|(session, _)| Arc::clone(session)) {
                states.remove(&oldest);
            }
        }
        states.insert(Arc::clone(session), (Instant::now(), state));
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
