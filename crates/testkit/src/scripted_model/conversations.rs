//! What is remembered of each conversation, to tell whether a client replays it to the letter.
//!
//! Holds hashes of what clients sent and the blocks that were sent to them, for the last conversations only. Two
//! clients may have conversations that begin alike: a conversation is a bundle of threads, and a request must
//! continue one of them.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::outline::{Outline, link};
use super::wire::Keepsakes;

const MOST_CONVERSATIONS: usize = 10_000;
const MOST_THREADS: usize = 4_096;

#[derive(Default)]
pub(super) struct Conversations {
    by_key: HashMap<u64, Conversation>,
    by_use: BTreeMap<u64, u64>,
    uses: u64,
}

/// Where a request stands among what is remembered.
pub(super) struct Place {
    key: u64,
    tip: u64,
}

#[derive(Default)]
struct Conversation {
    used: u64,
    tips: HashMap<u64, Tip>,
    // Threads were forgotten, so that a request which continues none may still be right.
    forgetful: bool,
    memory: Memory,
}

/// What was sent to a conversation's clients.
#[derive(Default)]
pub(super) struct Memory {
    paused: bool,
    sent: HashMap<String, Vec<Value>>,
    bonds: HashMap<String, Bonds>,
}

// The last request of one or more threads.
struct Tip {
    chain: Vec<u64>,
    threads: u64,
    // Answers that did not arrive whole: an equal request is then the retry, not another thread.
    failed: u64,
}

struct Bonds {
    model: String,
    claims: Vec<String>,
}

impl Conversations {
    /// Compares a request with what is remembered, and remembers it.
    pub(super) fn observe(
        &mut self,
        outline: &Outline,
        may_change: bool,
        check: impl FnOnce(&Memory, &mut Vec<String>),
    ) -> (Place, Vec<String>) {
        let key = outline.conversation();
        let conversation = self.touch(key);
        let mut violations = Vec::new();
        check(&conversation.memory, &mut violations);
        let mut chain = Vec::with_capacity(outline.messages.len());
        for block in &outline.messages {
            chain.push(link(chain.last().copied().unwrap_or_default(), block.hash));
        }
        let tip = chain.last().copied().unwrap_or_default();
        let continued =
            chain.iter().rev().find(|prefix| conversation.tips.contains_key(prefix)).copied();
        match continued {
            Some(same) if same == tip => {}
            Some(before) => conversation.leave(before),
            None if outline.has_answer
                && !may_change
                && !conversation.forgetful
                && !conversation.tips.is_empty() =>
            {
                violations.push(conversation.divergence(&chain, outline));
            }
            None => {}
        }
        conversation.arrive(tip, chain);
        (Place { key, tip }, violations)
    }

    /// Remembers what was sent in answer to a request.
    pub(super) fn answered(
        &mut self,
        place: &Place,
        model: &str,
        keepsakes: Keepsakes,
        paused: bool,
        whole: bool,
    ) {
        let conversation = self.touch(place.key);
        if !whole && let Some(tip) = conversation.tips.get_mut(&place.tip) {
            tip.failed += 1;
        }
        let memory = &mut conversation.memory;
        memory.paused |= paused;
        for (claim, block) in keepsakes.blocks {
            remember(memory.sent.entry(claim).or_default(), block);
        }
        for (id, claims) in keepsakes.bonds {
            memory.bonds.insert(id, Bonds { model: model.to_owned(), claims });
        }
    }

    fn touch(&mut self, key: u64) -> &mut Conversation {
        self.uses += 1;
        let conversation = self.by_key.entry(key).or_default();
        self.by_use.remove(&conversation.used);
        conversation.used = self.uses;
        self.by_use.insert(self.uses, key);
        if self.by_use.len() > MOST_CONVERSATIONS
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.by_key.remove(&oldest);
        }
        self.by_key.entry(key).or_default()
    }
}

impl Conversation {
    fn arrive(&mut self, tip: u64, chain: Vec<u64>) {
        if self.tips.len() >= MOST_THREADS {
            self.tips.clear();
            self.forgetful = true;
        }
        let known = self.tips.entry(tip).or_insert(Tip { chain, threads: 0, failed: 0 });
        if known.failed > 0 && known.threads > 0 {
            known.failed -= 1;
        } else {
            known.threads += 1;
        }
    }

    fn leave(&mut self, tip: u64) {
        if let Some(known) = self.tips.get_mut(&tip) {
            known.threads -= 1;
            known.failed = known.failed.min(known.threads);
            if known.threads == 0 {
                self.tips.remove(&tip);
            }
        }
    }

    // Names the place of the first difference to the thread that agrees longest.
    fn divergence(&self, chain: &[u64], outline: &Outline) -> String {
        let agreed = |tip: &Tip| {
            tip.chain.iter().zip(chain).take_while(|(before, now)| before == now).count()
        };
        let nearest = self.tips.values().max_by_key(|tip| agreed(tip));
        let (agreed, before) = nearest.map_or((0, 0), |tip| (agreed(tip), tip.chain.len()));
        match outline.messages.get(agreed) {
            Some(block) => {
                let first =
                    outline.messages.iter().position(|other| other.message == block.message);
                let inner = agreed - first.unwrap_or(agreed);
                let place = (outline.place)(block.message, inner);
                format!(
                    "prefix changed: {place} is not what an earlier request of this conversation had there"
                )
            }
            None => format!(
                "prefix changed: {agreed} blocks of messages, after an earlier request had {before}"
            ),
        }
    }
}

impl Memory {
    /// Whether something was sent that can be known by this.
    pub(super) fn knows(&self, claim: &str) -> bool {
        self.sent.contains_key(claim)
    }

    /// Whether the model has ended an answer that the client may send back as it is.
    pub(super) fn paused(&self) -> bool {
        self.paused
    }

    /// What has to stand beside the block with this id, if it was sent by this model.
    pub(super) fn bonds(&self, id: &str, model: &str) -> &[String] {
        let bonds = self.bonds.get(id).filter(|bonds| bonds.model == model);
        bonds.map(|bonds| bonds.claims.as_slice()).unwrap_or_default()
    }

    /// Compares a block with what was sent under the first of its claims that is known.
    pub(super) fn compare(
        &self,
        place: &str,
        claims: impl IntoIterator<Item = String>,
        block: &Value,
        found: &mut Vec<String>,
    ) {
        let claimed = claims.into_iter().find_map(|claim| self.sent.get_key_value(&claim));
        let Some((claim, sent)) = claimed else {
            return;
        };
        let fields: Vec<Option<String>> =
            sent.iter().map(|sent| differing_field(sent, block)).collect();
        // Replies with the same id can have been sent to conversations that began alike.
        if let Some(Some(field)) = fields.last()
            && fields.iter().all(Option::is_some)
        {
            found.push(format!("{place} claims {claim}, but its {field} is not what was sent"));
        }
    }
}

fn remember(known: &mut Vec<Value>, block: Value) {
    if !known.contains(&block) {
        known.push(block);
    }
}

/// The first field whose JSON text differs. An absent field and a null are one, as the official SDKs add nulls.
fn differing_field(sent: &Value, replayed: &Value) -> Option<String> {
    let (sent, replayed) = (sent.as_object()?, replayed.as_object()?);
    let names = sent.keys().chain(replayed.keys()).filter(|name| *name != "cache_control");
    let text = |value: Option<&Value>| value.unwrap_or(&Value::Null).to_string();
    names.into_iter().find(|name| text(sent.get(*name)) != text(replayed.get(*name))).cloned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::scripted_model::anthropic::outline;

    #[test]
    fn keeps_the_conversations_used_last_and_no_more() {
        let mut conversations = Conversations::default();
        let mut say = |first: usize, answer: &str| {
            let user = |text: &str| json!({"role": "user", "content": text});
            let mut messages = vec![user(&first.to_string())];
            if !answer.is_empty() {
                messages.extend([json!({"role": "assistant", "content": answer}), user("v")]);
            }
            let body = json!({"messages": messages});
            let (place, found) = conversations.observe(&outline(&body), false, |_, _| {});
            conversations.answered(&place, "m", Keepsakes::default(), false, true);
            let sizes = (conversations.by_key.len(), conversations.by_use.len());
            assert!(sizes.0 == sizes.1 && sizes.0 <= MOST_CONVERSATIONS, "{sizes:?}");
            found
        };
        for first in 0..MOST_CONVERSATIONS {
            say(first, "");
        }
        say(0, "a");
        say(1, "a");
        say(MOST_CONVERSATIONS, "");
        // The first two were used again, so the third had to go, and its change of heart goes unseen.
        assert_eq!(say(0, "b").len(), 1);
        say(2, "");
        assert_eq!(say(1, "b").len(), 1);
    }
}
