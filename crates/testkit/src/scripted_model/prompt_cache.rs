//! Prompt caching as the APIs do it: a prefix is written, marked or by itself, and read by whoever sends it again.
//!
//! Holds hashes with their end of life, bounded in number. Never holds text, and has no minimum size for a prefix.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hasher};
use std::time::{Duration, Instant};

use super::outline::{Block, Lifetime, Outline, link};

/// How far before a marker the API looks for a prefix written earlier, in blocks (Anthropic, "Prompt caching").
const LOOK_BACK: usize = 20;
/// How long a prefix lives that nobody asked to keep (OpenAI, "Prompt caching": 5 to 10 minutes).
const UNASKED: Duration = Duration::from_secs(600);
const MOST_ENTRIES: usize = 200_000;

/// Tokens of a request, by where they came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct InputUsage {
    pub(super) uncached: u64,
    pub(super) read: u64,
    pub(super) created_5m: u64,
    pub(super) created_1h: u64,
}

impl InputUsage {
    /// The estimate for a request that nobody looked into.
    pub(super) fn uncached(body_bytes: usize) -> Self {
        Self { uncached: tokens(body_bytes).max(1), ..Self::default() }
    }

    pub(super) fn created(&self) -> u64 {
        self.created_5m + self.created_1h
    }
}

#[derive(Default)]
pub(super) struct PromptCache {
    entries: HashMap<u64, Instant>,
    oldest: VecDeque<u64>,
}

impl PromptCache {
    /// Splits a request's tokens where every prefix is cached without being asked to.
    pub(super) fn account_unasked(
        &mut self,
        model: &str,
        outline: &Outline,
        body_bytes: usize,
        now: Instant,
    ) -> InputUsage {
        let prefixes = prefixes(model, outline);
        let total = tokens(body_bytes).max(1);
        let known =
            |(prefix, _): &&(u64, usize)| self.entries.get(prefix).is_some_and(|end| *end > now);
        let found = prefixes.iter().rev().find(known);
        let read = found.map_or(0, |(_, bytes)| tokens(*bytes).min(total));
        for (prefix, _) in &prefixes {
            self.keep(*prefix, now + UNASKED);
        }
        InputUsage { uncached: total - read, read, ..InputUsage::default() }
    }

    /// Splits a request's tokens and remembers its marked prefixes.
    pub(super) fn account(
        &mut self,
        model: &str,
        outline: &Outline,
        body_bytes: usize,
        now: Instant,
    ) -> InputUsage {
        let prefixes = prefixes(model, outline);
        let total = tokens(body_bytes).max(1);
        // A block's JSON can be longer than it was in the body, where a string stood for a text block.
        let tokens_up_to = |position: usize| tokens(prefixes[position].1).min(total);
        let markers: Vec<(usize, Lifetime)> = outline
            .blocks()
            .enumerate()
            .filter_map(|(position, Block { marker, .. })| {
                marker.map(|lifetime| (position, lifetime))
            })
            .collect();
        let known = |position: &usize| {
            self.entries.get(&prefixes[*position].0).is_some_and(|end| *end > now)
        };
        let found = markers
            .iter()
            .filter_map(|(marker, _)| {
                (marker.saturating_sub(LOOK_BACK - 1)..=*marker).rev().find(known)
            })
            .max();

        let mut usage = InputUsage { read: found.map_or(0, tokens_up_to), ..InputUsage::default() };
        let mut covered = usage.read;
        for (position, lifetime) in markers {
            let created = tokens_up_to(position).saturating_sub(covered);
            covered += created;
            let length = match lifetime {
                Lifetime::FiveMinutes => {
                    usage.created_5m += created;
                    Duration::from_secs(300)
                }
                Lifetime::OneHour => {
                    usage.created_1h += created;
                    Duration::from_secs(3600)
                }
            };
            self.keep(prefixes[position].0, now + length);
        }
        usage.uncached = total - covered;
        usage
    }

    // A read prolongs a life, so that an entry keeps the later of its ends.
    fn keep(&mut self, prefix: u64, until: Instant) {
        let end = self.entries.entry(prefix).or_insert_with(|| {
            self.oldest.push_back(prefix);
            until
        });
        *end = until.max(*end);
        while self.oldest.len() > MOST_ENTRIES {
            if let Some(gone) = self.oldest.pop_front() {
                self.entries.remove(&gone);
            }
        }
    }
}

// The hash of each prefix, and its bytes.
fn prefixes(model: &str, outline: &Outline) -> Vec<(u64, usize)> {
    let mut hasher = DefaultHasher::new();
    hasher.write(model.as_bytes());
    let mut chain = hasher.finish();
    let mut bytes = 0;
    let mut prefixes = Vec::new();
    for block in outline.blocks() {
        chain = link(chain, block.hash);
        bytes += block.bytes;
        prefixes.push((chain, bytes));
    }
    prefixes
}

fn tokens(bytes: usize) -> u64 {
    bytes as u64 / 4
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::scripted_model::anthropic::outline;

    fn text(size: usize, marker: bool) -> serde_json::Value {
        let mut block = json!({"type": "text", "text": "x".repeat(size)});
        if marker {
            block["cache_control"] = json!({"type": "ephemeral"});
        }
        block
    }

    #[test]
    fn a_prefix_dies_after_its_lifetime_and_is_found_no_further_back_than_the_api_looks() {
        let now = Instant::now();
        let mut cache = PromptCache::default();
        let first = outline(&json!({"system": [text(4000, true)]}));
        assert!(cache.account("m", &first, 5000, now).created() > 990);
        assert!(cache.account("m", &first, 5000, now + Duration::from_secs(299)).read > 990);
        assert!(cache.account("m", &first, 5000, now + Duration::from_secs(598)).read > 990);
        assert_eq!(cache.account("m", &first, 5000, now + Duration::from_secs(899)).read, 0);
        assert_eq!(cache.account("other", &first, 5000, now).read, 0);

        let far = |count: usize| {
            let mut blocks = vec![text(4000, false)];
            blocks.extend((0..count).map(|index| text(10 + index, index + 1 == count)));
            outline(&json!({"system": blocks}))
        };
        let mut cache = PromptCache::default();
        cache.account("m", &first, 9000, now);
        assert!(cache.account("m", &far(19), 9000, now).read > 990);
        let mut cache = PromptCache::default();
        cache.account("m", &first, 9000, now);
        assert_eq!(cache.account("m", &far(20), 9000, now).read, 0);
    }
}
