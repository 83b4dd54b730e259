//! Whose each session of the protocol is, so that nobody listens to another's.
//!
//! Holds names and ids. Never knows what a session does.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rmcp::transport::streamable_http_server::session::{
    SessionManager as _, local::LocalSessionManager,
};

/// How many sessions one caller may have. The oldest ends when there are more.
const MOST: usize = 64;

/// Who has opened which session.
#[derive(Debug, Default)]
pub(super) struct Owners(Mutex<Ledger>);

#[derive(Debug, Default)]
struct Ledger {
    sessions: HashMap<String, Entry>,
    /// Counts sessions: the lowest number is the oldest.
    next: u64,
}

#[derive(Debug)]
struct Entry {
    owner: String,
    number: u64,
}

impl Owners {
    /// Whether a session is somebody's.
    pub(super) fn is_of(&self, session: &str, owner: &str) -> bool {
        self.ledger().sessions.get(session).is_some_and(|entry| entry.owner == owner)
    }

    /// Notes a new session, forgets those that have ended, and ends those of its owner that are too
    /// many.
    pub(super) async fn add(&self, manager: &LocalSessionManager, session: String, owner: String) {
        let known = self.ledger().next;
        let live: Vec<String> =
            manager.sessions.read().await.keys().map(|id| id.to_string()).collect();
        let surplus = self.ledger().add(session, owner, &live, known);
        for session in surplus {
            if let Err(error) = manager.close_session(&session.into()).await {
                tracing::debug!(%error, "a session of the protocol has ended by itself");
            }
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    /// Returns the sessions that are to end. `live` is no news of those from the number `known` on.
    fn add(&mut self, session: String, owner: String, live: &[String], known: u64) -> Vec<String> {
        self.sessions.retain(|id, entry| entry.number >= known || live.contains(id));
        let mut own: Vec<(u64, String)> = self
            .sessions
            .iter()
            .filter(|(_, entry)| entry.owner == owner)
            .map(|(id, entry)| (entry.number, id.clone()))
            .collect();
        own.sort_unstable();
        own.truncate((own.len() + 1).saturating_sub(MOST));
        self.sessions.insert(session, Entry { owner, number: self.next });
        self.next += 1;
        own.into_iter().map(|(_, id)| id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_its_owners_and_the_oldest_make_room() {
        let owners = Owners::default();
        let mut live: Vec<String> = Vec::new();
        let mut add = |id: String, owner: &str| {
            live.push(id.clone());
            let mut ledger = owners.ledger();
            let known = ledger.next;
            ledger.add(id, owner.to_owned(), &live, known)
        };
        for number in 0..MOST {
            assert_eq!(add(format!("a{number}"), "a"), [""; 0]);
        }
        assert_eq!(add("b0".into(), "b"), [""; 0], "another's are counted apart");
        assert_eq!(add("one-more".into(), "a"), ["a0"]);
        assert!(owners.is_of("a1", "a") && !owners.is_of("a1", "b"));
        assert!(!owners.is_of("never-was", "b"));
        // Those that have ended are forgotten, but for those that came after the look at who lives.
        let known = owners.ledger().next - 1;
        owners.ledger().add("b1".into(), "b".into(), &["b1".to_owned()], known);
        assert_eq!(owners.ledger().sessions.len(), 2);
        assert!(owners.is_of("one-more", "a") && owners.is_of("b1", "b"));
    }
}
