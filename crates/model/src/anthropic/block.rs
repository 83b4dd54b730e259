//! One content block of a response while it streams.
//!
//! A block is the raw object that opened it plus a short list of changes. What no delta touched
//! is never parsed, and a block that no delta touched keeps its very bytes. Numbers are never
//! read as numbers.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{Block, BlockKind, View, members::is_object};

/// A block being put together.
#[derive(Debug)]
pub(super) struct Building {
    /// The provider's number of the block.
    pub(super) wire_index: u64,
    meaning: Meaning,
    start: Box<RawValue>,
    changes: Vec<(Cow<'static, str>, Change)>,
}

#[derive(Debug)]
enum Meaning {
    Text,
    Thinking,
    ToolUse { call_id: String, name: String },
    Opaque,
}

/// What the deltas made of a member.
#[derive(Debug)]
enum Change {
    /// A string that grows.
    Text(String),
    /// JSON that arrives as text.
    Json(String),
    /// An array that grows.
    List(Vec<Box<RawValue>>),
    /// A value that replaces what was there.
    Value(Box<RawValue>),
}

/// The members of an object in their order, raw.
pub(super) struct Members(pub(super) Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// What is looked at when a block begins.
#[derive(Deserialize)]
struct Opening<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
}

impl Building {
    /// Begins a block from the object that announces it; `None` if that is no block at all.
    pub(super) fn new(wire_index: u64, start: &RawValue) -> Option<Self> {
        // A list could be read as one, too, member by member.
        if !start.get().starts_with('{') {
            return None;
        }
        let opening: Opening<'_> = serde_json::from_str(start.get()).ok()?;
        let meaning = match &*opening.kind {
            "text" if opening.text.is_none_or(is_string) => Meaning::Text,
            "text" => return None,
            "thinking" | "redacted_thinking" => Meaning::Thinking,
            "tool_use" => Meaning::ToolUse { call_id: opening.id?, name: opening.name? },
            _ => Meaning::Opaque,
        };
        Some(Self { wire_index, meaning, start: start.to_owned(), changes: Vec::new() })
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

    /// The text that a text block already holds when it begins.
    pub(super) fn opening_text(&self) -> Option<String> {
        match self.meaning {
            Meaning::Text => self.start_string("text").filter(|text| !text.is_empty()),
            _ => None,
        }
    }

    /// Whether it is a text block.
    pub(super) fn is_text(&self) -> bool {
        matches!(self.meaning, Meaning::Text)
    }

    /// Appends to a string member.
    pub(super) fn grow_text(&mut self, name: &'static str, more: &str) {
        self.append(Cow::Borrowed(name), more);
    }

    /// Appends to a member whose JSON is streamed as text.
    pub(super) fn grow_json(&mut self, name: &'static str, more: &str) {
        if let Some(Change::Json(json)) = self.change(name) {
            json.push_str(more);
        } else {
            self.put(Cow::Borrowed(name), Change::Json(more.to_owned()));
        }
    }

    /// Appends one element to an array member.
    pub(super) fn push(&mut self, name: &'static str, element: &RawValue) {
        self.extend(Cow::Borrowed(name), vec![element.to_owned()]);
    }

    /// Sets a member.
    pub(super) fn set(&mut self, name: &'static str, value: &RawValue) {
        self.put(Cow::Borrowed(name), Change::Value(value.to_owned()));
    }

    /// Applies a delta of an unknown kind: strings append to the member of the same name, arrays
    /// extend it, a null leaves alone what is there, anything else replaces it. What others go by
    /// stays: a block's type, a call's id and name, and that a text is one. Gives the new text of
    /// a text block; `None` when the delta can't be read, as half a character can't.
    pub(super) fn merge(&mut self, delta: Members) -> Option<String> {
        let is_call = matches!(self.meaning, Meaning::ToolUse { .. });
        let mut text = String::new();
        for (name, value) in delta.0 {
            let is_text = self.is_text() && name == "text";
            match value.get().as_bytes().first() {
                _ if name == "type" || (is_call && matches!(&*name, "id" | "name")) => {}
                Some(b'"') => {
                    let more: String = serde_json::from_str(value.get()).ok()?;
                    if is_text {
                        text.push_str(&more);
                    }
                    self.append(Cow::Owned(name), &more);
                }
                Some(b'n') if is_text => {}
                _ if is_text => return None,
                Some(b'[') => {
                    let elements = serde_json::from_str(value.get()).unwrap_or_default();
                    self.extend(Cow::Owned(name), elements);
                }
                Some(b'n') if self.change(&name).is_some() || self.start_has(&name) => {}
                _ => self.put(Cow::Owned(name), Change::Value(value)),
            }
        }
        Some(text)
    }

    /// Ends the block. With `cut`, the provider stopped inside the response's last block, so an
    /// input that never began counts as unfinished.
    pub(super) fn finish(self, cut: bool) -> Block {
        let Self { meaning, start, changes, .. } = self;
        let mut view_input = None;
        let mut view_text = None;
        let native = if changes.is_empty() {
            start
        } else {
            let mut members = serde_json::from_str::<Members>(start.get())
                .map_or_else(|_| Vec::new(), |members| members.0);
            for (name, change) in changes {
                let value = match change {
                    Change::Text(text) => {
                        let value = raw_string(&text);
                        if name == "text" {
                            view_text = Some(text);
                        }
                        value
                    }
                    Change::Json(json) => {
                        let input = object(json, &members, &name);
                        view_input = Some(input.clone());
                        Some(input.unwrap_or_else(empty_object))
                    }
                    Change::List(elements) => raw_list(&elements),
                    Change::Value(value) => Some(value),
                };
                let Some(value) = value else { continue };
                match members.iter_mut().find(|(member, _)| *member == name) {
                    Some((_, there)) => *there = value,
                    None => members.push((name.into_owned(), value)),
                }
            }
            raw_object(&members).unwrap_or(start)
        };
        let view = match meaning {
            Meaning::Text => {
                View::Text(view_text.or_else(|| member(&native, "text")).unwrap_or_default())
            }
            Meaning::Thinking => View::Thinking,
            Meaning::Opaque => View::Opaque,
            Meaning::ToolUse { call_id, name } => {
                // Without a single delta the input is what the opening said.
                let input = view_input.unwrap_or_else(|| {
                    member::<Box<RawValue>>(&native, "input").filter(|input| is_object(input))
                });
                let input = input.filter(|input| !(cut && input.get() == "{}"));
                return Block {
                    native: legal_input(native, input.is_some()),
                    view: View::ToolUse { call_id, name, input },
                };
            }
        };
        Block { native, view }
    }

    fn change(&mut self, name: &str) -> Option<&mut Change> {
        self.changes.iter_mut().find(|(member, _)| member == name).map(|(_, change)| change)
    }

    fn put(&mut self, name: Cow<'static, str>, change: Change) {
        match self.change(&name) {
            Some(there) => *there = change,
            None => self.changes.push((name, change)),
        }
    }

    fn append(&mut self, name: Cow<'static, str>, more: &str) {
        if let Some(Change::Text(text)) = self.change(&name) {
            text.push_str(more);
            return;
        }
        let mut text = match self.change(&name) {
            Some(Change::Value(value)) => serde_json::from_str(value.get()).unwrap_or_default(),
            Some(_) => String::new(),
            None => self.start_string(&name).unwrap_or_default(),
        };
        text.push_str(more);
        self.put(name, Change::Text(text));
    }

    fn extend(&mut self, name: Cow<'static, str>, more: Vec<Box<RawValue>>) {
        if let Some(Change::List(elements)) = self.change(&name) {
            elements.extend(more);
            return;
        }
        let mut elements: Vec<Box<RawValue>> = member(&self.start, &name).unwrap_or_default();
        elements.extend(more);
        self.put(name, Change::List(elements));
    }

    fn start_string(&self, name: &str) -> Option<String> {
        member(&self.start, name)
    }

    fn start_has(&self, name: &str) -> bool {
        member::<Box<RawValue>>(&self.start, name).is_some()
    }
}

fn is_string(value: &RawValue) -> bool {
    value.get().starts_with('"')
}

/// A member of a raw object; `None` also when it is null or of another type.
fn member<T: for<'de> Deserialize<'de>>(object: &RawValue, name: &str) -> Option<T> {
    let members: Members = serde_json::from_str(object.get()).ok()?;
    let (_, value) = members.0.into_iter().find(|(member, _)| member == name)?;
    serde_json::from_str::<Option<T>>(value.get()).ok()?
}

/// Streamed JSON as an object. Nothing streamed means what the opening said, else `{}`.
fn object(json: String, members: &[(String, Box<RawValue>)], name: &str) -> Option<Box<RawValue>> {
    if json.trim().is_empty() {
        let opening = members.iter().find(|(member, _)| member == name);
        return Some(match opening {
            Some((_, value)) if is_object(value) => value.clone(),
            _ => empty_object(),
        });
    }
    RawValue::from_string(json).ok().filter(|value| is_object(value))
}

/// `{}`.
fn empty_object() -> Box<RawValue> {
    // `to_raw_value` of an empty map can't fail; `null` stands in for the impossible.
    raw("{}".to_owned()).unwrap_or_else(|| RawValue::NULL.to_owned())
}

/// A tool call must be replayed with an object as its input, also when the model never
/// finished one.
fn legal_input(native: Box<RawValue>, has_input: bool) -> Box<RawValue> {
    if has_input || member::<Box<RawValue>>(&native, "input").is_some_and(|input| is_object(&input))
    {
        return native;
    }
    let Ok(Members(mut members)) = serde_json::from_str(native.get()) else {
        return native;
    };
    match members.iter_mut().find(|(member, _)| member == "input") {
        Some((_, input)) => *input = empty_object(),
        None => members.push(("input".to_owned(), empty_object())),
    }
    raw_object(&members).unwrap_or(native)
}

/// Checks text that was written as JSON.
fn raw(json: String) -> Option<Box<RawValue>> {
    let checked = RawValue::from_string(json);
    debug_assert!(checked.is_ok());
    checked.ok()
}

fn raw_string(text: &str) -> Option<Box<RawValue>> {
    raw(serde_json::to_string(text).ok()?)
}

fn raw_list(elements: &[Box<RawValue>]) -> Option<Box<RawValue>> {
    let elements: Vec<&str> = elements.iter().map(|element| element.get()).collect();
    raw(format!("[{}]", elements.join(",")))
}

fn raw_object(members: &[(String, Box<RawValue>)]) -> Option<Box<RawValue>> {
    let length: usize =
        members.iter().map(|(name, value)| name.len() + value.get().len() + 4).sum();
    let mut json = String::with_capacity(length + 2);
    json.push('{');
    for (index, (name, value)) in members.iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        json.push_str(&serde_json::to_string(name).ok()?);
        json.push(':');
        json.push_str(value.get());
    }
    json.push('}');
    raw(json)
}
