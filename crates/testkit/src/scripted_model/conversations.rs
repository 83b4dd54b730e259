//! What is remembered of each conversation, to tell whether a client replays it to the letter.
//!
//! Holds hashes of what clients sent and the blocks that were sent to them, for the last conversations only. Two
//! clients may have conversations that begin alike: a conversation is a bundle of threads, and a request must
//! continue one of them.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::outline::{Outline, link, list};

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
    paused: bool,
    sent: HashMap<String, Vec<Value>>,
    thoughts: HashMap<String, Thoughts>,
}

// The last request of one or more threads.
struct Tip {
    chain: Vec<u64>,
    threads: u64,
    // Answers that did not arrive whole: an equal request is then the retry, not another thread.
    failed: u64,
}

struct Thoughts {
    model: String,
    claims: Vec<String>,
}

impl Conversations {
    /// Compares a request with what is remembered, and remembers it.
    pub(super) fn observe(
        &mut self,
        body: &Value,
        outline: &Outline,
        may_change: bool,
    ) -> (Place, Vec<String>) {
        let key = outline.conversation();
        let conversation = self.touch(key);
        let mut violations = Vec::new();
        conversation.check_blocks(body, &mut violations);
        conversation.check_thoughts(body, &mut violations);
        let last_is_assistant =
            list(&body["messages"]).last().is_some_and(|message| message["role"] == "assistant");
        if last_is_assistant && !conversation.paused {
            violations.push(
                "the last message is the assistant's, and no pause_turn was sent before it"
                    .to_owned(),
            );
        }
        let mut chain = Vec::with_capacity(outline.messages.len());
        for block in &outline.messages {
            chain.push(link(chain.last().copied().unwrap_or_default(), block.hash));
        }
        let tip = chain.last().copied().unwrap_or_default();
        let continued =
            chain.iter().rev().find(|prefix| conversation.tips.contains_key(prefix)).copied();
        let has_answer =
            list(&body["messages"]).iter().any(|message| message["role"] == "assistant");
        match continued {
            Some(same) if same == tip => {}
            Some(before) => conversation.leave(before),
            None if has_answer
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
        content: Vec<Value>,
        stop: &str,
        whole: bool,
    ) {
        let conversation = self.touch(place.key);
        if !whole && let Some(tip) = conversation.tips.get_mut(&place.tip) {
            tip.failed += 1;
        }
        conversation.paused |= stop == "pause_turn";
        let is_thought =
            |block: &&Value| block["type"] == "thinking" || block["type"] == "redacted_thinking";
        let claims: Vec<String> = content.iter().filter(is_thought).filter_map(claim).collect();
        for block in content {
            if !claims.is_empty() && block["type"] == "tool_use" {
                let id = block["id"].as_str().unwrap_or_default().to_owned();
                conversation
                    .thoughts
                    .insert(id, Thoughts { model: model.to_owned(), claims: claims.clone() });
            }
            if let Some(text) = block["thinking"].as_str().filter(|text| !text.is_empty()) {
                let known = conversation.sent.entry(format!("the thinking {text:?}")).or_default();
                remember(known, block.clone());
            }
            if let Some(claim) = claim(&block) {
                remember(conversation.sent.entry(claim).or_default(), block);
            }
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
                format!(
                    "prefix changed: messages[{}].content[{inner}] is not what an earlier request of this \
                     conversation had there",
                    block.message
                )
            }
            None => format!(
                "prefix changed: {agreed} blocks of messages, after an earlier request had {before}"
            ),
        }
    }

    fn check_blocks(&self, body: &Value, violations: &mut Vec<String>) {
        for (index, message) in list(&body["messages"]).iter().enumerate() {
            if message["role"] != "assistant" {
                continue;
            }
            for (position, block) in list(&message["content"]).iter().enumerate() {
                let text = block["thinking"].as_str().filter(|text| !text.is_empty());
                let by_text = text.map(|text| format!("the thinking {text:?}"));
                let claims = [claim(block), by_text];
                let claimed =
                    claims.into_iter().flatten().find_map(|claim| self.sent.get_key_value(&claim));
                let Some((claim, sent)) = claimed else {
                    continue;
                };
                let fields: Vec<Option<String>> =
                    sent.iter().map(|sent| differing_field(sent, block)).collect();
                // Replies with the same id can have been sent to conversations that began alike.
                if let Some(Some(field)) = fields.last()
                    && fields.iter().all(Option::is_some)
                {
                    violations.push(format!(
                        "messages[{index}].content[{position}] claims {claim}, but its {field} is not what was sent"
                    ));
                }
            }
        }
    }

    // The API refuses a tool loop whose last assistant turn has lost its thinking, as long as thinking is on.
    fn check_thoughts(&self, body: &Value, violations: &mut Vec<String>) {
        if !matches!(body["thinking"]["type"].as_str(), Some("enabled" | "adaptive")) {
            return;
        }
        let messages = list(&body["messages"]);
        let Some(last) = messages.iter().rposition(|message| message["role"] == "assistant") else {
            return;
        };
        let blocks = list(&messages[last]["content"]);
        let present: Vec<String> = blocks.iter().filter_map(claim).collect();
        for id in blocks
            .iter()
            .filter(|block| block["type"] == "tool_use")
            .filter_map(|block| block["id"].as_str())
        {
            if let Some(thoughts) = self.thoughts.get(id)
                && body["model"] == thoughts.model.as_str()
                && let Some(missing) = thoughts.claims.iter().find(|claim| !present.contains(claim))
            {
                violations.push(format!("messages[{last}] has the tool_use {id} but not the thinking before it ({missing})"));
                return;
            }
        }
    }
}

fn remember(known: &mut Vec<Value>, block: Value) {
    if !known.contains(&block) {
        known.push(block);
    }
}

/// By what a block says that it comes from the model.
fn claim(block: &Value) -> Option<String> {
    match block["type"].as_str()? {
        "thinking" => {
            block["signature"].as_str().map(|signature| format!("the signature {signature:?}"))
        }
        "redacted_thinking" => block["data"].as_str().map(|data| format!("the data {data:?}")),
        _ => block["id"].as_str().map(|id| format!("the id {id:?}")),
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
            let (place, found) = conversations.observe(&body, &Outline::of(&body), false);
            conversations.answered(&place, "m", Vec::new(), "end_turn", true);
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
