//! Turns the chunks of a Chat Completions stream into neutral events, without IO.
//!
//! One decoder for all servers: it takes calls without number or id and calls that come whole,
//! any name of the counts of tokens, a `stop` where there are calls, usage before, in and behind
//! the last chunk, and errors of any shape. It never decides whether a failure is retried.

use std::{
    borrow::Cow,
    collections::{HashSet, VecDeque},
};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    fragment::{Call, Class, Element, Fragment, plain},
    refusal,
};
use crate::{
    Event, Failure, FailureKind, Response, Stop, Usage,
    members::{Members, elements, text},
    portable::CallIds,
    wire::Decode,
};

/// The state of one response.
#[derive(Debug)]
pub(super) struct Decoder {
    ids: CallIds,
    fragments: Vec<Fragment>,
    usage: Usage,
    served: Option<String>,
    /// What names the response, for calls without an id.
    seed: String,
    reason: Option<String>,
    /// The policy that a filter has named.
    category: Option<String>,
    /// Whether all has come but for the words that end the stream.
    settled: bool,
    finished: bool,
}

/// A chunk; what is inside stays raw until it is known to matter.
#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    created: Option<&'a RawValue>,
    model: Option<String>,
    #[serde(borrow)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    /// Groq.
    #[serde(borrow)]
    x_groq: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    /// Errors that don't stand in `error`.
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    detail: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    index: Option<u64>,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(borrow)]
    finish_reason: Option<Cow<'a, str>>,
    /// Some report usage here.
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    /// Azure: which policies have been touched.
    #[serde(borrow)]
    content_filter_results: Option<&'a RawValue>,
}

/// `CompletionUsage`, with the names that servers have for cached tokens.
#[derive(Deserialize)]
struct Counts {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    total_tokens: Option<u64>,
    prompt_tokens_details: Option<PromptDetails>,
    /// DeepSeek.
    prompt_cache_hit_tokens: Option<u64>,
    /// Some put it here.
    cached_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct PromptDetails {
    cached_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
}

impl Decoder {
    /// A decoder for one response of a server that takes such ids.
    pub(super) fn new(ids: CallIds) -> Self {
        Self {
            ids,
            fragments: Vec::new(),
            usage: Usage::default(),
            served: None,
            seed: String::new(),
            reason: None,
            category: None,
            settled: false,
            finished: false,
        }
    }
}

impl Decode for Decoder {
    fn is_finished(&self) -> bool {
        self.finished
    }

    fn decode(&mut self, data: &str, events: &mut VecDeque<Event>) {
        if self.finished {
            return;
        }
        if data.trim() == "[DONE]" {
            events.push_back(self.ended());
            return;
        }
        let Ok(chunk) = serde_json::from_str::<Chunk<'_>>(data) else {
            // Errors have shapes of their own.
            let (kind, message) = refusal::in_stream(data).unwrap_or_else(|| {
                let unread = "the provider sent an event that can't be read".to_owned();
                (FailureKind::Transient, unread)
            });
            events.push_back(self.fail(kind, message));
            return;
        };
        if !self.chunk(&chunk, data, events) {
            events.push_back(self.fail(
                FailureKind::Transient,
                "the provider sent content that can't be read".to_owned(),
            ));
        }
    }

    fn end(&mut self) -> Option<Event> {
        if self.finished {
            return None;
        }
        Some(if self.settled {
            self.ended()
        } else {
            let cut = "the stream was cut before the response ended".to_owned();
            self.fail(FailureKind::Transient, cut)
        })
    }

    fn fail(&mut self, kind: FailureKind, message: String) -> Event {
        self.finished = true;
        Event::Failed(Failure { kind, message, retry_after: None, usage: self.usage })
    }
}

impl Decoder {
    /// Reads a chunk; `false` when its content can't be read.
    fn chunk(&mut self, chunk: &Chunk<'_>, data: &str, events: &mut VecDeque<Event>) -> bool {
        let flat = chunk.choices.is_none() && (chunk.message.is_some() || chunk.detail.is_some());
        if flat || chunk.error.is_some_and(|error| error.get() != "null") {
            self.count(chunk.usage, events);
            if let Some((kind, message)) = refusal::in_stream(data) {
                events.push_back(self.fail(kind, message));
            }
            return true;
        }
        if self.served.is_none() {
            self.served = chunk.model.clone().filter(|model| !model.is_empty());
        }
        if self.seed.is_empty() {
            self.seed =
                [chunk.id, chunk.created].into_iter().flatten().map(RawValue::get).collect();
        }
        // Only one choice was asked for.
        let choices = chunk.choices.iter().flatten();
        for choice in choices.filter(|choice| choice.index.unwrap_or(0) == 0) {
            if let Some(delta) = choice.delta
                && !self.delta(delta, events)
            {
                return false;
            }
            if let Some(results) = choice.content_filter_results {
                self.category = filtered(results).or(self.category.take());
            }
            if let Some(reason) = choice.finish_reason.as_ref().filter(|reason| !reason.is_empty())
            {
                self.reason = Some(reason.clone().into_owned());
            }
            self.count(choice.usage, events);
        }
        self.count(chunk.x_groq.and_then(|extra| Members::of(extra)?.get("usage")), events);
        self.count(chunk.usage, events);
        true
    }

    /// The hot path: one call per token; `false` when the delta can't be read.
    fn delta(&mut self, delta: &RawValue, events: &mut VecDeque<Event>) -> bool {
        if delta.get() == "null" {
            return true;
        }
        let Some(members) = Members::of(delta) else { return false };
        members.0.into_iter().all(|(name, value)| {
            match (&*name, value.get().as_bytes().first()) {
                // Whose message it is, and which of several.
                ("role" | "index", _) | (_, Some(b'n')) => true,
                ("tool_calls", Some(b'[')) => {
                    elements(value).into_iter().all(|piece| self.call(piece, events))
                }
                // Nobody could answer such calls, and no server would take them back.
                ("tool_calls", _) => ["{}", "\"\""].contains(&value.get()),
                ("content", Some(b'[')) => {
                    for part in elements(value) {
                        self.part(part, events);
                    }
                    true
                }
                (_, Some(b'"')) => match text(value) {
                    Some(more) => {
                        self.text(name, &more, events);
                        true
                    }
                    // Half a character, for one.
                    None => false,
                },
                (_, Some(b'[')) => {
                    for element in elements(value) {
                        self.element(&name, element, events);
                    }
                    true
                }
                (_, Some(b'{')) if value.get() == "{}" => true,
                ("content" | "refusal", _) => false,
                _ => {
                    self.whole(name, value, events);
                    true
                }
            }
        })
    }

    /// More text of a member.
    fn text(&mut self, member: Cow<'_, str>, more: &str, events: &mut VecDeque<Event>) {
        if more.is_empty() {
            return;
        }
        let there = self.grows(
            Class::of(&member),
            |fragment| matches!(fragment, Fragment::Text { member: has, .. } if *has == *member),
        );
        let index = there.unwrap_or_else(|| {
            let member = member.clone().into_owned();
            self.begin(Fragment::Text { member, text: String::new() }, events)
        });
        if let Some(Fragment::Text { text, .. }) = self.fragments.get_mut(index) {
            text.push_str(more);
        }
        if Class::of(&member) == Class::Text {
            events.push_back(Event::Text { index, text: more.to_owned() });
        }
    }

    /// A part of a content that is no string. Text in parts is text.
    fn part(&mut self, part: &RawValue, events: &mut VecDeque<Event>) {
        match plain(part) {
            Some(more) => self.text(Cow::Borrowed("content"), &more, events),
            None => self.element("content", part, events),
        }
    }

    /// One more element of a list, or more of its last one.
    fn element(&mut self, member: &str, element: &RawValue, events: &mut VecDeque<Event>) {
        let element = Element::new(element);
        let class = element.class(member);
        let there = self.grows(class, |has| {
            has.class() == class
                && matches!(has, Fragment::List { member: has, .. } if has == member)
        });
        match there.and_then(|index| self.fragments.get_mut(index)) {
            Some(Fragment::List { elements, .. }) => {
                let next = match elements.last_mut() {
                    Some(last) => last.grow(element),
                    None => Some(element),
                };
                elements.extend(next);
            }
            _ => {
                let elements = vec![element];
                self.begin(Fragment::List { member: member.to_owned(), elements }, events);
            }
        }
    }

    /// A member that is no text and no list.
    fn whole(&mut self, member: Cow<'_, str>, value: &RawValue, events: &mut VecDeque<Event>) {
        let there = self.fragments.iter_mut().find_map(|fragment| match fragment {
            Fragment::Whole { member: has, value } if *has == *member => Some(value),
            _ => None,
        });
        match there {
            Some(there) => *there = value.to_owned(),
            None => {
                let member = member.into_owned();
                self.begin(Fragment::Whole { member, value: value.to_owned() }, events);
            }
        }
    }

    /// One piece of a call.
    fn call(&mut self, piece: &RawValue, events: &mut VecDeque<Event>) -> bool {
        let Some(piece) = Call::piece(piece) else { return false };
        let open = self.fragments.iter_mut().rev().find_map(|fragment| match fragment {
            Fragment::Call(call) if call.continues_with(&piece) => Some(call),
            _ => None,
        });
        match open {
            Some(call) => call.grow(piece),
            // Nobody could be told what has begun.
            None if piece.name.is_empty() => return false,
            None => {
                self.begin(Fragment::Call(piece), events);
            }
        }
        true
    }

    fn begin(&mut self, fragment: Fragment, events: &mut VecDeque<Event>) -> usize {
        let index = self.fragments.len();
        events.push_back(Event::Started { index, kind: fragment.kind() });
        self.fragments.push(fragment);
        index
    }

    /// The fragment that grows, of those that nothing stands behind which the user would miss.
    fn grows(&self, class: Class, is: impl Fn(&Fragment) -> bool) -> Option<usize> {
        let hidden = |fragment: &Fragment| match (class, fragment.class()) {
            (Class::Opaque, _) | (_, Class::Opaque) => true,
            (mine, other) => mine == Class::Thinking && other == Class::Thinking,
        };
        let mut newest_first = self.fragments.iter().enumerate().rev();
        let (index, fragment) =
            newest_first.find(|(_, fragment)| is(fragment) || !hidden(fragment))?;
        is(fragment).then_some(index)
    }

    fn count(&mut self, usage: Option<&RawValue>, events: &mut VecDeque<Event>) {
        let Some(counts) = usage.and_then(|raw| serde_json::from_str::<Counts>(raw.get()).ok())
        else {
            return;
        };
        let prompt = counts.prompt_tokens.unwrap_or(0);
        let details = counts.prompt_tokens_details;
        let read = details.as_ref().and_then(|details| details.cached_tokens);
        let read = read.or(counts.prompt_cache_hit_tokens).or(counts.cached_tokens);
        let read = read.unwrap_or(0).min(prompt);
        let written = details.and_then(|details| details.cache_write_tokens).unwrap_or(0);
        let written = written.min(prompt - read);
        // Some count thinking in the total alone.
        let rest = counts.total_tokens.unwrap_or(0).saturating_sub(prompt);
        let usage = Usage {
            input_tokens: prompt - read - written,
            output_tokens: counts.completion_tokens.unwrap_or(0).max(rest),
            cache_read_input_tokens: read,
            cache_write_5m_tokens: written,
            cache_write_1h_tokens: 0,
        };
        self.settled = self.reason.is_some();
        if usage != self.usage {
            self.usage = usage;
            events.push_back(Event::Usage(usage));
        }
    }

    fn ended(&mut self) -> Event {
        let Some(reason) = self.reason.take() else {
            return self.fail(
                FailureKind::Transient,
                "the provider ended the response without a reason".to_owned(),
            );
        };
        match &*reason {
            "error" | "network_error" => {
                let failed = "the provider stopped with an error".to_owned();
                return self.fail(FailureKind::Transient, failed);
            }
            // DeepSeek.
            "insufficient_system_resource" => {
                let full = "the provider stopped for want of resources".to_owned();
                return self.fail(FailureKind::Overloaded, full);
            }
            _ => {}
        }
        self.finished = true;
        let mut taken = HashSet::new();
        for fragment in &mut self.fragments {
            if let Fragment::Call(call) = fragment {
                call.name_apart(self.ids, &self.seed, &mut taken);
            }
        }
        let stop = self.stop(&reason);
        let cut = !matches!(stop, Stop::EndTurn | Stop::ToolUse);
        let count = self.fragments.len();
        let fragments = std::mem::take(&mut self.fragments).into_iter().enumerate();
        let blocks =
            fragments.map(|(index, fragment)| fragment.finish(cut && index + 1 == count)).collect();
        Event::Ended(Response { blocks, stop, usage: self.usage, served: self.served.take() })
    }

    /// `finish_reason`, as far as it can be believed. What this version doesn't know ends the
    /// turn.
    fn stop(&mut self, reason: &str) -> Stop {
        let refused = self.fragments.iter().find_map(|fragment| match fragment {
            Fragment::Text { member, text } if member == "refusal" => Some(text.clone()),
            _ => None,
        });
        let calls = self.fragments.iter().any(|fragment| fragment.class() == Class::Call);
        match reason {
            "length" | "max_tokens" => Stop::MaxTokens,
            // Mistral.
            "model_length" => Stop::WindowExceeded,
            _ if reason.starts_with("content_filter") || refused.is_some() => {
                Stop::Refusal { category: self.category.take(), explanation: refused }
            }
            _ if calls => Stop::ToolUse,
            _ => Stop::EndTurn,
        }
    }
}

/// The first policy by which something was filtered.
fn filtered(results: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Policy {
        #[serde(default)]
        filtered: bool,
    }
    let touched = |policy: &RawValue| {
        serde_json::from_str::<Policy>(policy.get()).is_ok_and(|policy| policy.filtered)
    };
    let policies = Members::of(results)?.0.into_iter();
    policies.into_iter().find(|(_, policy)| touched(policy)).map(|(name, _)| name.into_owned())
}
