//! What origins have said to robots, for a while. Bounded; it asks nobody and knows no clock.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::robots::Robots;

/// How long rules count (RFC 9309, 2.4).
const LONG: Duration = Duration::from_secs(24 * 60 * 60);
/// How long it counts that there was no answer.
const SHORT: Duration = Duration::from_secs(5 * 60);
/// The most origins.
const ORIGINS: usize = 1000;
/// The most that all rules together may take, in bytes.
const BYTES: usize = 8 << 20;

/// Rules of origins. The one used longest ago leaves first.
#[derive(Default)]
pub(super) struct Known {
    origins: Mutex<Origins>,
}

#[derive(Default)]
struct Origins {
    rules: HashMap<String, Origin>,
    bytes: usize,
}

struct Origin {
    robots: Arc<Robots>,
    until: Instant,
    used: Instant,
    bytes: usize,
}

impl Origins {
    fn remove(&mut self, origin: &str) {
        if let Some(removed) = self.rules.remove(origin) {
            self.bytes -= removed.bytes;
        }
    }
}

impl Known {
    /// What an origin has said.
    pub(super) fn get(&self, origin: &str, now: Instant) -> Option<Arc<Robots>> {
        let mut origins = self.lock();
        match origins.rules.get_mut(origin) {
            Some(known) if now < known.until => {
                known.used = now;
                Some(Arc::clone(&known.robots))
            }
            Some(_) => {
                origins.remove(origin);
                None
            }
            None => None,
        }
    }

    /// Remembers what an origin has said, or for a short while that it has said nothing.
    pub(super) fn keep(&self, origin: String, robots: Robots, for_long: bool, now: Instant) {
        let mut origins = self.lock();
        origins.remove(&origin);
        let bytes = robots.weight() + origin.len();
        while origins.rules.len() >= ORIGINS || origins.bytes + bytes > BYTES {
            let oldest = origins.rules.iter().min_by_key(|(_, known)| known.used);
            let Some(oldest) = oldest.map(|(origin, _)| origin.clone()) else {
                // It alone is too much.
                return;
            };
            origins.remove(&oldest);
        }
        let until = now + if for_long { LONG } else { SHORT };
        let known = Origin { robots: Arc::new(robots), until, used: now, bytes };
        origins.bytes += bytes;
        origins.rules.insert(origin, known);
    }

    fn lock(&self) -> MutexGuard<'_, Origins> {
        // Nothing in between can fail, so what is held is whole.
        self.origins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_count_for_a_day_and_silence_for_minutes() {
        let (known, now) = (Known::default(), Instant::now());
        known.keep("a".to_owned(), Robots::default(), true, now);
        known.keep("b".to_owned(), Robots::closed(), false, now);
        let counts = |origin: &str, after: Duration| known.get(origin, now + after).is_some();
        assert!(counts("a", SHORT) && counts("a", LONG - Duration::from_secs(1)));
        assert!(!counts("a", LONG) && !counts("a", Duration::ZERO), "it was forgotten");
        assert!(counts("b", SHORT - Duration::from_secs(1)) && !counts("b", SHORT));
        assert_eq!(known.lock().bytes, 0);
    }

    #[test]
    fn the_one_used_longest_ago_leaves_first() {
        let (known, now) = (Known::default(), Instant::now());
        let at = |seconds: usize| now + Duration::from_secs(seconds as u64);
        for origin in 0..ORIGINS {
            known.keep(origin.to_string(), Robots::default(), true, at(origin));
        }
        assert!(known.get("0", at(ORIGINS)).is_some());
        known.keep("new".to_owned(), Robots::default(), true, at(ORIGINS + 1));
        assert!(known.get("1", at(ORIGINS + 2)).is_none());
        assert!(known.get("0", at(ORIGINS + 2)).is_some());
        let large = format!("user-agent: *\n{}", "allow: /a\n".repeat(50_000));
        for origin in 0..20 {
            let robots = Robots::read(large.as_bytes(), "a");
            known.keep(format!("large {origin}"), robots, true, at(ORIGINS + 3 + origin));
        }
        let origins = known.lock();
        let bytes: usize = origins.rules.values().map(|known| known.bytes).sum();
        assert_eq!(origins.bytes, bytes);
        assert!(bytes <= BYTES && origins.rules.contains_key("large 19"));
    }
}
