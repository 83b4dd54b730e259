//! One part of an answer, and the block that it becomes or joins.
//!
//! The smallest unit that the API wants back is a part. Text streams as many parts, which may be
//! joined as long as none of them bears a thought signature; one that does comes back alone, in
//! its own place. Numbers are never read as numbers, and a block of one part keeps its very
//! bytes.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    Block, BlockKind, View,
    members::{Members, is_object},
    portable::{self, Portable},
};

/// `FunctionCall`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FunctionCall<'a> {
    /// The call's id, where the API gave one.
    pub(super) id: Option<String>,
    name: Option<String>,
    #[serde(borrow)]
    args: Option<&'a RawValue>,
    #[serde(borrow)]
    partial_args: Option<&'a RawValue>,
    #[serde(default)]
    will_continue: Option<bool>,
}

/// What a part means.
enum Meaning<'a> {
    /// Text or a thought's summary; `text` is still raw.
    Text {
        text: &'a RawValue,
        thought: bool,
    },
    Call(FunctionCall<'a>),
    /// A thought without text.
    Thought,
    /// Code and its results, files, calls of Google's own tools, and what nobody knows yet.
    Opaque,
}

/// A part, read.
pub(super) struct Part<'a> {
    raw: &'a RawValue,
    members: Members<'a>,
    meaning: Meaning<'a>,
    signed: bool,
}

impl<'a> Part<'a> {
    /// Reads a part; `None` if that is no object, or has a call that can't be read: the API would
    /// want a response to it, and nobody could give one.
    pub(super) fn read(raw: &'a RawValue) -> Option<Self> {
        let members: Members<'a> = serde_json::from_str(raw.get()).ok()?;
        let thought = members.there("thought").is_some_and(|thought| thought.get() == "true");
        let call = match members.there("functionCall") {
            Some(call) if call.get().starts_with('{') => serde_json::from_str(call.get()).ok()?,
            Some(_) => return None,
            None => None,
        };
        let text = || members.there("text").filter(|text| text.get().starts_with('"'));
        let meaning = if let Some(call) = call {
            Meaning::Call(call)
        } else if let Some(text) = text() {
            Meaning::Text { text, thought }
        } else if thought {
            Meaning::Thought
        } else {
            Meaning::Opaque
        };
        let signed = members.there("thoughtSignature").is_some();
        Some(Self { raw, members, meaning, signed })
    }

    /// Whether it bears a thought signature.
    pub(super) fn is_signed(&self) -> bool {
        self.signed
    }

    /// The call, if it is one.
    pub(super) fn call(&self) -> Option<&FunctionCall<'a>> {
        match &self.meaning {
            Meaning::Call(call) => Some(call),
            _ => None,
        }
    }
}

impl FunctionCall<'_> {
    /// The name of the tool, as it was sent.
    pub(super) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }
}

/// What came of giving a part to the blocks so far; with the new text for the user.
pub(super) enum Added {
    /// It has begun a block.
    Begun(String),
    /// It has joined the last block.
    Joined(String),
    /// It says nothing: an empty text without a signature.
    Nothing,
}

/// A block being put together.
#[derive(Debug)]
pub(super) struct Building {
    /// The part that began it.
    first: Box<RawValue>,
    kind: Kind,
    /// Whether text without a signature may follow.
    open: bool,
    joined: bool,
}

#[derive(Debug)]
enum Kind {
    Text(String),
    Thinking(String),
    Call { id: Option<String>, name: String, input: Option<Box<RawValue>>, has_args: bool },
    Opaque,
}

/// Adds a part to the blocks so far; `None` if it can't be read.
pub(super) fn add(blocks: &mut Vec<Building>, raw: &RawValue) -> Option<Added> {
    let part = Part::read(raw)?;
    let kind = match part.meaning {
        Meaning::Text { text, thought } => {
            let text: String = serde_json::from_str(text.get()).ok()?;
            if !part.signed {
                let bare =
                    part.members.0.iter().all(|(name, _)| name == "text" || name == "thought");
                if bare && text.is_empty() {
                    return Some(Added::Nothing);
                }
                if let Some(last) = blocks.last_mut()
                    && last.takes(&part.members)
                {
                    last.append(&text);
                    return Some(Added::Joined(if thought { String::new() } else { text }));
                }
            }
            if thought { Kind::Thinking(text) } else { Kind::Text(text) }
        }
        Meaning::Call(call) => {
            // Arguments in pieces come only to those who ask for them, which nobody here does.
            let whole = call.partial_args.is_none() && call.will_continue != Some(true);
            let name = call.name.filter(|name| whole && !name.is_empty())?;
            // A function without parameters is called without arguments.
            let input = match call.args {
                Some(args) => is_object(args).then(|| args.to_owned()),
                None => Some(portable::no_input().into_owned()),
            };
            Kind::Call { id: call.id, name, input, has_args: call.args.is_some() }
        }
        Meaning::Thought => Kind::Thinking(String::new()),
        Meaning::Opaque => Kind::Opaque,
    };
    let text = if let Kind::Text(text) = &kind { text.clone() } else { String::new() };
    let open = !part.signed && matches!(kind, Kind::Text(_) | Kind::Thinking(_));
    blocks.push(Building { first: part.raw.to_owned(), kind, open, joined: false });
    Some(Added::Begun(text))
}

impl Building {
    /// What kind of block it is.
    pub(super) fn kind(&self) -> BlockKind {
        match &self.kind {
            Kind::Text(_) => BlockKind::Text,
            Kind::Thinking(_) => BlockKind::Thinking,
            Kind::Call { name, .. } => BlockKind::ToolUse { name: name.clone() },
            Kind::Opaque => BlockKind::Opaque,
        }
    }

    /// Whether it is a call.
    pub(super) fn is_call(&self) -> bool {
        matches!(self.kind, Kind::Call { .. })
    }

    /// Whether a text with these members may join it: all but the text must be the same.
    fn takes(&self, members: &Members<'_>) -> bool {
        self.open
            && serde_json::from_str::<Members<'_>>(self.first.get()).is_ok_and(|own| {
                own.0.len() == members.0.len()
                    && own.0.iter().zip(&members.0).all(|((one, value), (other, theirs))| {
                        one == other && (one == "text" || value.get() == theirs.get())
                    })
            })
    }

    fn append(&mut self, more: &str) {
        if let Kind::Text(text) | Kind::Thinking(text) = &mut self.kind {
            text.push_str(more);
            self.joined = true;
        }
    }

    /// Ends the block. `call_id` is for a call that has none. With `cut`, the provider stopped
    /// inside the response's last block, so arguments that never came count as unfinished.
    pub(super) fn finish(self, call_id: impl FnOnce() -> String, cut: bool) -> Block {
        let Self { first, kind, joined, .. } = self;
        let view = match kind {
            Kind::Text(text) => {
                let native = if joined { with_text(&first, &text) } else { None };
                return Block { native: native.unwrap_or(first), view: View::Text(text) };
            }
            Kind::Thinking(text) => {
                let native = if joined { with_text(&first, &text) } else { None };
                return Block { native: native.unwrap_or(first), view: View::Thinking };
            }
            Kind::Call { id, name, input, has_args } => View::ToolUse {
                call_id: id.filter(|id| !id.is_empty()).unwrap_or_else(call_id),
                name,
                input: input.filter(|_| has_args || !cut),
            },
            Kind::Opaque => View::Opaque,
        };
        Block { native: first, view }
    }
}

/// A part with another text.
fn with_text(part: &RawValue, text: &str) -> Option<Box<RawValue>> {
    let members: Members<'_> = serde_json::from_str(part.get()).ok()?;
    let text = serde_json::to_string(text).ok()?;
    let mut json = String::with_capacity(part.get().len() + text.len());
    for (name, value) in &members.0 {
        json.push(if json.is_empty() { '{' } else { ',' });
        json.push_str(&serde_json::to_string(name).ok()?);
        json.push(':');
        json.push_str(if name == "text" { &text } else { value.get() });
    }
    json.push('}');
    RawValue::from_string(json).ok()
}

/// What any other dialect may say of a part.
pub(super) fn portable(block: &RawValue) -> Option<Portable<'_>> {
    match Part::read(block)?.meaning {
        Meaning::Text { text, thought: false } => {
            let text: String = serde_json::from_str(text.get()).ok()?;
            (!text.is_empty()).then_some(Portable::Text(Cow::Owned(text)))
        }
        Meaning::Call(call) => Some(Portable::ToolUse {
            call_id: call.id.unwrap_or_default(),
            name: call.name?,
            input: match call.args {
                Some(args) if is_object(args) => Cow::Borrowed(args),
                _ => portable::no_input(),
            },
        }),
        Meaning::Text { thought: true, .. } | Meaning::Thought | Meaning::Opaque => None,
    }
}
