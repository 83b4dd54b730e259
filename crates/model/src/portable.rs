//! A conversation as a wire sees it that has not written all of it: its own responses to the
//! letter, the others' as what any model can read, and call ids that its alphabet allows.

use std::{borrow::Cow, collections::HashSet};

use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::{Item, Request, ToolResult, WireKind};

/// Said for the user where two answers would meet or an answer would be the last, for models that
/// refuse such conversations. It comes to that where an operator's text stands behind an answer
/// and is sent in the system prompt, or where somebody else goes on with a paused answer.
pub(crate) const GO_ON: &str = "Go on.";

/// What any wire can say of a block that came over another one.
#[derive(Debug, Clone)]
pub enum Portable<'a> {
    /// Text for the user; never empty.
    Text(Cow<'a, str>),
    /// A tool call.
    ToolUse {
        /// The provider's own id of the call; empty when the wire has none.
        call_id: String,
        /// The tool's name.
        name: String,
        /// The input: a JSON object, `{}` for one that was cut.
        input: Cow<'a, RawValue>,
    },
}

/// Which ids of calls a wire can carry.
#[derive(Debug, Clone, Copy)]
pub struct CallIds {
    /// The longest, in characters.
    pub longest: usize,
    /// Whether `-` and `_` may be in them, beside ASCII letters and digits.
    pub punctuation: bool,
    /// Whether each must have the longest length exactly.
    pub exact: bool,
}

/// One step of a conversation, for one wire.
#[derive(Debug)]
pub enum Step<'a> {
    /// Content from the user, as in [`Item::User`].
    User(&'a RawValue),
    /// A response of the same provider over the same wire: its blocks, to be sent as they came.
    Own(&'a [Box<RawValue>]),
    /// A response of somebody else; call ids are mapped. Not empty.
    Foreign(Vec<Portable<'a>>),
    /// Results; call ids are those of the calls as this wire sends them.
    Results(Vec<ResultOf<'a>>),
    /// Privileged text.
    System(&'a str),
}

/// What came of one call.
#[derive(Debug)]
pub struct ResultOf<'a> {
    /// The call's id, as this wire sends it; empty when its own response had none.
    pub call_id: Cow<'a, str>,
    /// The result itself; its `call_id` is the one of the log.
    pub result: &'a ToolResult,
}

/// Goes through a conversation for the provider of that name and wire. The same items always
/// give the same steps, and more items never change those before them, unless this provider gives
/// a call the very id that a foreign one was sent under until then.
#[must_use]
pub fn steps<'a>(provider: &str, wire: WireKind, items: &'a [Item], ids: CallIds) -> Vec<Step<'a>> {
    // What is sent to the letter has its ids already; a mapped one must not meet them.
    let mut taken: HashSet<String> = HashSet::new();
    for item in items {
        if let Item::Assistant { provider: origin, wire: of, blocks } = item
            && is_own(provider, wire, origin, *of)
        {
            taken.extend(blocks.iter().filter_map(|block| call_id(wire, block)));
        }
    }
    // The calls of the newest response: as they are in the log, and as they are sent.
    let mut calls: Vec<(String, String)> = Vec::new();
    let mut steps = Vec::with_capacity(items.len());
    for item in items {
        match item {
            Item::User(content) => steps.push(Step::User(content)),
            Item::System(text) => steps.push(Step::System(text)),
            Item::Assistant { provider: origin, wire: of, blocks } => {
                calls.clear();
                if is_own(provider, wire, origin, *of) {
                    steps.push(Step::Own(blocks));
                    continue;
                }
                let mut foreign: Vec<Portable<'a>> =
                    blocks.iter().filter_map(|block| of.portable(block)).collect();
                for portable in &mut foreign {
                    if let Portable::ToolUse { call_id, .. } = portable {
                        let sent = ids.fit(call_id, &taken);
                        taken.insert(sent.clone());
                        calls.push((std::mem::replace(call_id, sent.clone()), sent));
                    }
                }
                if !foreign.is_empty() {
                    steps.push(Step::Foreign(foreign));
                }
            }
            Item::ToolResults(results) => {
                // Results stand in the order of their calls; the ids of some wires say nothing.
                let by_place = calls.len() == results.len();
                if by_place && !calls.is_empty() {
                    name_calls(&mut steps, results);
                }
                let results = results.iter().enumerate().map(|(index, result)| {
                    let named = calls.iter().find(|(logged, _)| *logged == result.call_id);
                    let call = if by_place { calls.get(index) } else { named };
                    let call_id = match call {
                        Some((_, sent)) => Cow::Owned(sent.clone()),
                        None => Cow::Borrowed(result.call_id.as_str()),
                    };
                    ResultOf { call_id, result }
                });
                steps.push(Step::Results(results.collect()));
            }
        }
    }
    steps
}

/// Gives the calls of the newest response, a foreign one, their tools' own names: its wire may have
/// had to send others, under which this one has declared nothing.
fn name_calls(steps: &mut [Step<'_>], results: &[ToolResult]) {
    let newest = steps.iter_mut().rev().find_map(|step| match step {
        Step::Foreign(blocks) => Some(blocks),
        _ => None,
    });
    let names = newest.into_iter().flatten().filter_map(|block| match block {
        Portable::ToolUse { name, .. } => Some(name),
        Portable::Text(_) => None,
    });
    for (name, result) in names.zip(results) {
        (*result.name).clone_into(name);
    }
}

fn is_own(provider: &str, wire: WireKind, origin: &str, of: WireKind) -> bool {
    provider == origin && wire == of
}

fn call_id(wire: WireKind, block: &RawValue) -> Option<String> {
    match wire.portable(block)? {
        Portable::ToolUse { call_id, .. } => Some(call_id),
        Portable::Text(_) => None,
    }
}

impl CallIds {
    /// The id itself where the wire can carry it and nobody has it, else one made from it.
    pub(crate) fn fit(self, id: &str, taken: &HashSet<String>) -> String {
        if self.carries(id) && !taken.contains(id) {
            return id.to_owned();
        }
        let length = self.longest.min(24);
        let made = (0_u64..).map(|round| {
            let digest = Sha256::digest(format!("{round} {id}"));
            letters(&digest).chars().take(length).collect::<String>()
        });
        // Each round gives another text, so one of them is free.
        made.into_iter().find(|made| !taken.contains(made)).unwrap_or_default()
    }

    fn carries(self, id: &str) -> bool {
        let letter = |byte: u8| {
            byte.is_ascii_alphanumeric() || (self.punctuation && matches!(byte, b'-' | b'_'))
        };
        let fits = if self.exact {
            id.len() == self.longest
        } else {
            (1..=self.longest).contains(&id.len())
        };
        fits && id.bytes().all(letter)
    }
}

/// Bytes as lower-case letters and digits, one for each: 32 of a digest are enough for any id.
fn letters(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
    bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect()
}

/// `{}`, the input of a call that was cut.
#[must_use]
pub fn no_input() -> Cow<'static, RawValue> {
    // This is JSON; `null` stands in for the impossible.
    let empty = RawValue::from_string("{}".to_owned());
    empty.map_or(Cow::Borrowed(RawValue::NULL), Cow::Owned)
}

/// Those of a request's tools whose names a wire can't carry: the name as it is sent, and the
/// tool's own; what [`crate::Body::renamed`] has to hold.
#[must_use]
pub fn renamed(request: &Request, longest: usize) -> Vec<(String, String)> {
    let sent = request.tools.iter().map(|tool| (tool_name(&tool.name, longest), &tool.name));
    sent.filter(|(sent, own)| sent != *own)
        .map(|(sent, own)| (sent.into_owned(), own.clone()))
        .collect()
}

/// A tool's name as a wire can carry it: at most `longest` letters, digits, `_` and `-`. One that
/// does not fit gets its beginning and a hash. Also for calls in the past, whose tools may be gone.
#[must_use]
pub fn tool_name(name: &str, longest: usize) -> Cow<'_, str> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if (1..=longest).contains(&name.len()) && name.bytes().all(letter) {
        return Cow::Borrowed(name);
    }
    let hash = letters(&Sha256::digest(name));
    let kept = name.bytes().map(|byte| if letter(byte) { char::from(byte) } else { '_' });
    let kept: String = kept.take(longest - 9).collect();
    Cow::Owned(format!("{kept}_{}", &hash[..8]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: CallIds = CallIds { longest: 9, punctuation: false, exact: true };
    const USUAL: CallIds = CallIds { longest: 64, punctuation: true, exact: false };

    #[test]
    fn an_id_stays_where_it_fits_and_is_free() {
        let mut taken = HashSet::new();
        assert_eq!(USUAL.fit("toolu_01-x", &taken), "toolu_01-x");
        assert_eq!(SHORT.fit("abcDEF123", &taken), "abcDEF123");
        taken.insert("toolu_01-x".to_owned());
        let made = USUAL.fit("toolu_01-x", &taken);
        assert_ne!(made, "toolu_01-x");
        assert!(USUAL.carries(&made));
        taken.insert(made.clone());
        assert_ne!(USUAL.fit("toolu_01-x", &taken), made);
    }

    #[test]
    fn an_id_that_does_not_fit_is_made_from_it() {
        let taken = HashSet::new();
        for id in ["", "toolu_0123456789", "call|fc_1", "f\u{fc}nf", &"x".repeat(65)] {
            for rule in [SHORT, USUAL] {
                let made = rule.fit(id, &taken);
                assert!(rule.carries(&made), "{id} became {made}");
                assert_eq!(made, rule.fit(id, &taken));
            }
        }
    }

    #[test]
    fn names_of_tools_are_cut_and_stay_apart() {
        let (one, other) = (format!("{}1", "a".repeat(100)), format!("{}2", "a".repeat(100)));
        assert_eq!(tool_name("read_file-2", 64), "read_file-2");
        assert_eq!(tool_name(&one, 64).len(), 64);
        assert_ne!(tool_name(&one, 64), tool_name(&other, 64));
        assert!(tool_name("a b", 64).starts_with("a_b_"));
        let mut request = crate::golden::request("claude-opus-5", Vec::new());
        request.tools = ["short", &one].map(crate::golden::tool).into();
        assert_eq!(renamed(&request, 64), [(tool_name(&one, 64).into_owned(), one.clone())]);
        assert_eq!(renamed(&request, 128), []);
    }
}
