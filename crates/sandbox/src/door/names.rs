//! Which address stands for which name in one cage.
//!
//! Addresses are of 198.18.0.0/15, which is no host's on the internet (RFC 2544), and are given
//! out in turn: one comes back only after all others. The table is bounded; the name that was not
//! used for longest makes room. Names that may not be reached have addresses as well, so that a
//! connection to one can be told why it goes nowhere; they make room for each other alone. Pure:
//! times are handed in.

use std::{
    collections::{HashMap, VecDeque},
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use posthouse_net::Pinned;

/// Names kept at a time.
const NAMES: usize = 4096;
/// Names kept at a time that may not be reached.
const BLOCKED: usize = 1024;
/// The network of addresses that stand for names.
const FIRST: u32 = Ipv4Addr::new(198, 18, 0, 0).to_bits();
const SIZE: u32 = 1 << 17;
/// The first 256 are given to nobody: the cage's own name server may be one of them.
const RESERVED: u32 = 256;

/// How long an answer may be kept inside, in seconds.
pub(super) const TIME_TO_LIVE: u32 = 60;
/// How long a name stays pinned to what it was resolved to.
const FRESH: Duration = Duration::from_secs(60);

/// The table.
#[derive(Debug, Default)]
pub(super) struct Names {
    by_name: HashMap<String, Entry>,
    by_address: HashMap<Ipv4Addr, String>,
    /// Names that may not be reached, with their addresses; not among the others.
    blocked: HashMap<String, Ipv4Addr>,
    /// Their addresses, the oldest first.
    blocked_in_turn: VecDeque<(Ipv4Addr, String)>,
    given: u32,
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    address: Ipv4Addr,
    pinned: Pinned,
    resolved: Instant,
    used: u64,
}

/// What an address stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A name, and where it leads.
    Name {
        pinned: Pinned,
        /// Whether the name was resolved a short while ago.
        fresh: bool,
    },
    /// A name that may not be reached. Nobody was asked for it.
    Blocked(String),
}

/// Whether an address is one of those that stand for names.
pub(super) fn stands_for_a_name(address: Ipv4Addr) -> bool {
    (FIRST..FIRST + SIZE).contains(&address.to_bits())
}

impl Names {
    /// The address that stands for a name, if it was resolved a short while ago.
    pub(super) fn fresh(&mut self, name: &str, now: Instant) -> Option<Ipv4Addr> {
        self.uses += 1;
        let entry = self.by_name.get_mut(name)?;
        entry.used = self.uses;
        entry.is_fresh(now).then_some(entry.address)
    }

    /// What an address stands for.
    pub(super) fn meaning(&mut self, address: Ipv4Addr, now: Instant) -> Option<Meaning> {
        self.uses += 1;
        let name = self.by_address.get(&address)?;
        let Some(entry) = self.by_name.get_mut(name) else {
            return Some(Meaning::Blocked(name.clone()));
        };
        entry.used = self.uses;
        Some(Meaning::Name { pinned: entry.pinned.clone(), fresh: entry.is_fresh(now) })
    }

    /// The address of a name that may not be reached, and whether it is new.
    pub(super) fn block(&mut self, name: &str) -> (Ipv4Addr, bool) {
        if let Some(address) = self.blocked.get(name) {
            return (*address, false);
        }
        if self.blocked.len() >= BLOCKED
            && let Some((address, oldest)) = self.blocked_in_turn.pop_front()
        {
            self.by_address.remove(&address);
            self.blocked.remove(&oldest);
        }
        let address = self.next_address();
        self.by_address.insert(address, name.to_owned());
        self.blocked.insert(name.to_owned(), address);
        self.blocked_in_turn.push_back((address, name.to_owned()));
        (address, true)
    }

    /// Keeps what a name was resolved to. A name that is known keeps its address.
    pub(super) fn pin(&mut self, pinned: Pinned, now: Instant) -> Ipv4Addr {
        self.uses += 1;
        let used = self.uses;
        if let Some(entry) = self.by_name.get_mut(pinned.host()) {
            let address = entry.address;
            *entry = Entry { address, pinned, resolved: now, used };
            return address;
        }
        if self.by_name.len() >= NAMES {
            self.make_room();
        }
        let address = self.next_address();
        let name = pinned.host().to_owned();
        self.by_address.insert(address, name.clone());
        self.by_name.insert(name, Entry { address, pinned, resolved: now, used });
        address
    }

    fn make_room(&mut self) {
        let oldest = self.by_name.iter().min_by_key(|(_, entry)| entry.used);
        if let Some(name) = oldest.map(|(name, _)| name.clone())
            && let Some(entry) = self.by_name.remove(&name)
        {
            self.by_address.remove(&entry.address);
        }
    }

    fn next_address(&mut self) -> Ipv4Addr {
        loop {
            let address = Ipv4Addr::from_bits(FIRST + RESERVED + self.given);
            self.given = (self.given + 1) % (SIZE - RESERVED);
            // There are far more addresses than names: this ends.
            if !self.by_address.contains_key(&address) {
                return address;
            }
        }
    }
}

impl Entry {
    fn is_fresh(&self, now: Instant) -> bool {
        now.duration_since(self.resolved) < FRESH
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use posthouse_net::{Guard, Rules};

    use super::*;

    async fn pinned(name: &str) -> Pinned {
        let at = "127.0.0.1:1".parse().unwrap();
        let rules = Rules { resolve: BTreeMap::from([(name.to_owned(), at)]), ..Rules::default() };
        Guard::new(rules, vec![]).resolve(name).await.unwrap()
    }

    #[tokio::test]
    async fn a_name_keeps_its_address_and_grows_old() {
        let mut names = Names::default();
        let begin = Instant::now();
        let first = names.pin(pinned("a.example").await, begin);
        let second = names.pin(pinned("b.example").await, begin);
        assert_eq!(first, Ipv4Addr::new(198, 18, 1, 0));
        assert_ne!(first, second);
        assert!(stands_for_a_name(first));
        assert_eq!(names.fresh("a.example", begin + FRESH / 2), Some(first));
        assert_eq!(names.fresh("a.example", begin + FRESH), None);
        let old = Meaning::Name { pinned: pinned("a.example").await, fresh: false };
        assert_eq!(names.meaning(first, begin + FRESH), Some(old));
        assert_eq!(names.pin(pinned("a.example").await, begin + FRESH), first);
        assert_eq!(names.fresh("a.example", begin + FRESH), Some(first));
        assert_eq!(names.fresh("c.example", begin), None);
        assert_eq!(names.meaning(Ipv4Addr::new(198, 19, 0, 1), begin), None);
    }

    #[tokio::test]
    async fn the_name_unused_for_longest_makes_room_and_its_address_means_nothing() {
        let mut names = Names::default();
        let now = Instant::now();
        let kept = names.pin(pinned("kept.example").await, now);
        let lost = names.pin(pinned("lost.example").await, now);
        for number in 0..NAMES - 1 {
            names.meaning(kept, now).unwrap();
            names.pin(pinned(&format!("n{number}.example")).await, now);
        }
        assert_eq!(names.by_name.len(), NAMES);
        assert_eq!(names.by_address.len(), NAMES);
        let fresh = Meaning::Name { pinned: pinned("kept.example").await, fresh: true };
        assert_eq!(names.meaning(kept, now), Some(fresh));
        assert_eq!(names.meaning(lost, now), None);
        assert_ne!(names.pin(pinned("lost.example").await, now), lost);
    }

    #[tokio::test]
    async fn names_that_are_blocked_have_addresses_and_take_none_from_others() {
        let mut names = Names::default();
        let now = Instant::now();
        let kept = names.pin(pinned("kept.example").await, now);
        let (first, new) = names.block("evil.example");
        assert!(new && first != kept && stands_for_a_name(first));
        assert_eq!(names.block("evil.example"), (first, false));
        assert_eq!(names.meaning(first, now), Some(Meaning::Blocked("evil.example".to_owned())));
        assert_eq!(names.fresh("evil.example", now), None);
        for number in 0..3 * BLOCKED {
            names.block(&format!("n{number}.example"));
        }
        assert_eq!((names.blocked.len(), names.blocked_in_turn.len()), (BLOCKED, BLOCKED));
        assert_eq!(names.by_address.len(), BLOCKED + 1);
        assert_eq!(names.meaning(first, now), None);
        assert_eq!(names.fresh("kept.example", now), Some(kept));
    }

    #[tokio::test]
    async fn addresses_stay_in_their_network() {
        let mut names = Names { given: SIZE - RESERVED - 1, ..Names::default() };
        let now = Instant::now();
        let last = names.pin(pinned("a.example").await, now);
        assert_eq!(last, Ipv4Addr::new(198, 19, 255, 255));
        let again = names.pin(pinned("b.example").await, now);
        assert_eq!(again, Ipv4Addr::new(198, 18, 1, 0));
        assert!(!stands_for_a_name(Ipv4Addr::new(198, 17, 255, 255)));
        assert!(!stands_for_a_name(Ipv4Addr::new(198, 20, 0, 0)));
    }
}
