//! One item of a response's output: while it streams, when it is whole, and what others may know
//! of it.
//!
//! An item is kept as the raw object that ended it. Only the arguments of a call that is no JSON
//! object are ever replaced, because nobody takes such a call back.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    Block, BlockKind, View,
    members::object_in,
    portable::{self, Portable},
};

/// An item under way.
#[derive(Debug)]
pub(super) struct Building {
    /// The provider's number of the item.
    pub(super) output_index: u64,
    /// Whether the provider has sent the item whole.
    pub(super) is_whole: bool,
    meaning: Meaning,
    /// The newest form of the item that has come.
    native: Box<RawValue>,
    /// What the user has been shown.
    text: String,
}

#[derive(Debug)]
enum Meaning {
    Text,
    Thinking,
    ToolUse { call_id: String, name: String },
    Opaque,
}

/// The type of an item.
#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    content: &'a RawValue,
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    refusal: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Call<'a> {
    call_id: String,
    name: String,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Reasoning<'a> {
    #[serde(borrow)]
    encrypted_content: Option<&'a RawValue>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

impl Building {
    /// Begins an item from the object that announces it; `None` if that is no item at all.
    pub(super) fn new(output_index: u64, native: &RawValue) -> Option<Self> {
        // A list could be read as one, too, member by member.
        if !native.get().starts_with('{') {
            return None;
        }
        let meaning = match &*kind(native)? {
            "message" => Meaning::Text,
            "reasoning" => Meaning::Thinking,
            "function_call" => {
                let call: Call<'_> = serde_json::from_str(native.get()).ok()?;
                Meaning::ToolUse { call_id: call.call_id, name: call.name }
            }
            _ => Meaning::Opaque,
        };
        let (native, text) = (native.to_owned(), String::new());
        Some(Self { output_index, is_whole: false, meaning, native, text })
    }

    /// What kind of block it is.
    pub(super) fn kind(&self) -> BlockKind {
        match &self.meaning {
            Meaning::Text => BlockKind::Text,
            Meaning::Thinking => BlockKind::Thinking,
            Meaning::ToolUse { name, .. } => BlockKind::ToolUse { name: name.clone() },
            Meaning::Opaque => BlockKind::Opaque,
        }
    }

    /// Whether its text is for the user.
    pub(super) fn is_text(&self) -> bool {
        matches!(self.meaning, Meaning::Text)
    }

    /// Appends to the text.
    pub(super) fn grow(&mut self, more: &str) {
        self.text.push_str(more);
    }

    /// Takes the whole item. Gives what of its text was not streamed; `None` if it is not the
    /// item that was announced.
    pub(super) fn complete(&mut self, native: &RawValue) -> Option<String> {
        let whole = Self::new(self.output_index, native)?;
        if std::mem::discriminant(&whole.meaning) != std::mem::discriminant(&self.meaning) {
            return None;
        }
        let shown = std::mem::take(&mut self.text);
        *self = Self { is_whole: true, ..whole };
        self.text = match self.meaning {
            Meaning::Text => said(&self.native).unwrap_or_else(|| shown.clone()),
            _ => String::new(),
        };
        Some(self.text.strip_prefix(&*shown).unwrap_or_default().to_owned())
    }

    /// Takes the form of a whole item that a response has at its end, where it holds what the
    /// earlier one lacks: some servers add the encrypted reasoning only there.
    pub(super) fn amend(&mut self, native: &RawValue) {
        if matches!(self.meaning, Meaning::Thinking)
            && kind(native).is_some_and(|kind| kind == "reasoning")
            && !is_replayable(&self.native)
            && is_replayable(native)
        {
            self.native = native.to_owned();
        }
    }

    /// What a refusal in it says.
    pub(super) fn refusal(&self) -> Option<String> {
        match self.meaning {
            Meaning::Text => refused(&self.native),
            _ => None,
        }
    }

    /// Ends the item. With `cut`, the provider stopped inside the response's last one.
    pub(super) fn finish(self, cut: bool) -> Block {
        let Self { is_whole, meaning, native, text, .. } = self;
        match meaning {
            Meaning::Text => {
                let native = if is_whole || text.is_empty() { native } else { message(&text) };
                Block { native, view: View::Text(text) }
            }
            Meaning::Thinking => Block { native, view: View::Thinking },
            Meaning::Opaque => Block { native, view: View::Opaque },
            Meaning::ToolUse { call_id, name } => {
                let call = serde_json::from_str::<Call<'_>>(native.get()).ok();
                let status = call.as_ref().and_then(|call| call.status.as_deref());
                let arguments = call.as_ref().and_then(|call| call.arguments);
                let written = arguments.and_then(object);
                let is_cut = match status {
                    _ if !is_whole => true,
                    Some("completed") => false,
                    Some("incomplete") => true,
                    _ => cut,
                };
                // A tool without parameters may be called without arguments.
                let nothing = || is_blank(arguments).then(|| portable::no_input().into_owned());
                let input = if is_cut { None } else { written.clone().or_else(nothing) };
                let native = match arguments {
                    _ if written.is_some() => native,
                    Some(arguments) => replaced(&native, arguments, r#""{}""#),
                    None => self::call(&call_id, &name, &portable::no_input()),
                };
                Block { native, view: View::ToolUse { call_id, name, input } }
            }
        }
    }
}

/// The type of an item.
pub(super) fn kind(item: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Kind<'_>>(item.get()).ok().map(|item| item.kind)
}

/// Whether an item of reasoning holds anything that the provider can read back. An id alone names
/// what was never stored, and a summary alone is not taken.
pub(super) fn is_replayable(reasoning: &RawValue) -> bool {
    serde_json::from_str::<Reasoning<'_>>(reasoning.get()).is_ok_and(|reasoning| {
        let holds = |member: Option<&RawValue>, nothing| {
            member.is_some_and(|member| member.get() != nothing)
        };
        holds(reasoning.encrypted_content, r#""""#) || holds(reasoning.content, "[]")
    })
}

/// What any other dialect may say of an item.
pub(super) fn portable(item: &RawValue) -> Option<Portable<'_>> {
    match &*kind(item)? {
        "message" => {
            said(item).filter(|text| !text.is_empty()).map(|text| Portable::Text(text.into()))
        }
        "function_call" => {
            let call: Call<'_> = serde_json::from_str(item.get()).ok()?;
            let input = call.arguments.and_then(object);
            Some(Portable::ToolUse {
                call_id: call.call_id,
                name: call.name,
                input: input.map_or_else(portable::no_input, Cow::Owned),
            })
        }
        _ => None,
    }
}

/// A message of a model that was never sent whole, or that came over another wire.
pub(super) fn message(text: &str) -> Box<RawValue> {
    raw(format!(r#"{{"type":"message","role":"assistant","content":{}}}"#, quoted(text)))
}

/// A call, likewise.
pub(super) fn call(call_id: &str, name: &str, input: &RawValue) -> Box<RawValue> {
    raw(format!(
        r#"{{"type":"function_call","call_id":{},"name":{},"arguments":{}}}"#,
        quoted(call_id),
        quoted(name),
        quoted(input.get()),
    ))
}

/// A JSON string.
fn quoted(text: &str) -> String {
    // A string has no map keys, so this can't fail.
    serde_json::to_string(text).unwrap_or_default()
}

/// Checks text that was written as JSON; `null` stands in for the impossible.
fn raw(json: String) -> Box<RawValue> {
    RawValue::from_string(json).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// The text of a message, its refusals included; `None` if it can't be read.
fn said(message: &RawValue) -> Option<String> {
    let parts = parts(message)?;
    Some(parts.into_iter().flat_map(|part| [part.text, part.refusal]).flatten().collect())
}

fn refused(message: &RawValue) -> Option<String> {
    let refusals: String = parts(message)?.into_iter().filter_map(|part| part.refusal).collect();
    (!refusals.is_empty()).then_some(refusals)
}

/// The parts of a message. A plain string, which the API takes too, is one part.
fn parts(message: &RawValue) -> Option<Vec<Part<'_>>> {
    let content = serde_json::from_str::<Message<'_>>(message.get()).ok()?.content.get();
    if let Ok(text) = serde_json::from_str(content) {
        return Some(vec![Part { text: Some(text), refusal: None }]);
    }
    let parts: Vec<&RawValue> = serde_json::from_str(content).ok()?;
    // A list could be read as a part, too, member by member.
    let mut parts = parts.into_iter().map(RawValue::get);
    parts.try_fold(Vec::new(), |mut read, part| {
        read.push(serde_json::from_str(part.starts_with('{').then_some(part)?).ok()?);
        Some(read)
    })
}

/// The JSON object in a string of arguments, to the letter.
fn object(arguments: &RawValue) -> Option<Box<RawValue>> {
    let json: String = serde_json::from_str(arguments.get()).ok()?;
    object_in(&json)
}

fn is_blank(arguments: Option<&RawValue>) -> bool {
    arguments.is_none_or(|arguments| {
        serde_json::from_str::<Cow<'_, str>>(arguments.get())
            .is_ok_and(|arguments| arguments.trim().is_empty())
    })
}

/// An item with another value for a member, and everything else to the letter. The member has to
/// be borrowed from the item: the difference of the addresses is its place in there.
fn replaced(item: &RawValue, member: &RawValue, value: &str) -> Box<RawValue> {
    let whole = item.get();
    let start = member.get().as_ptr().addr().saturating_sub(whole.as_ptr().addr());
    match (whole.get(..start), whole.get(start + member.get().len()..)) {
        (Some(before), Some(after)) => raw(format!("{before}{value}{after}")),
        _ => item.to_owned(),
    }
}
