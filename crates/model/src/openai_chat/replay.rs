//! Fragments of an assistant's message, put together again, or told to other wires.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::{fragment::Class, servers::Quirks};
use crate::{
    members::{Members, elements, object_in, string, text},
    portable::{self, Portable},
};

/// The longest name of a tool that the dialect takes.
pub(super) const LONGEST_NAME: usize = 64;

/// A member of a message, put together from fragments.
enum Merged<'a> {
    /// What stands between the quotes.
    Text(String),
    /// What stands between the brackets, element by element.
    List(Vec<Cow<'a, str>>),
    /// A value that replaces the one before it.
    Whole(&'a str),
}

impl<'a> Merged<'a> {
    fn of(value: &'a RawValue) -> Self {
        match (value.get().as_bytes().first(), between_quotes(value.get())) {
            (_, Some(inner)) => Self::Text(inner.to_owned()),
            (Some(b'['), _) => Self::List(raw_elements(value)),
            _ => Self::Whole(value.get()),
        }
    }

    /// Adds the same member of a later fragment.
    fn add(&mut self, value: &'a RawValue) {
        match (&mut *self, Self::of(value)) {
            (Self::Text(text), Self::Text(more)) => text.push_str(&more),
            (Self::List(elements), Self::List(more)) => elements.extend(more),
            // A content that is partly text and partly parts is all parts.
            (Self::List(elements), Self::Text(more)) => elements.push(part(&more)),
            (Self::Text(text), Self::List(more)) => {
                let mut elements = vec![part(text)];
                elements.extend(more);
                *self = Self::List(elements);
            }
            (_, whole) => *self = whole,
        }
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Text(text) => {
                out.push('"');
                out.push_str(text);
                out.push('"');
            }
            Self::List(elements) => {
                out.push('[');
                out.push_str(&elements.join(","));
                out.push(']');
            }
            Self::Whole(value) => out.push_str(value),
        }
    }
}

fn between_quotes(value: &str) -> Option<&str> {
    value.strip_prefix('"')?.strip_suffix('"')
}

fn raw_elements(value: &RawValue) -> Vec<Cow<'_, str>> {
    elements(value).into_iter().map(|element| Cow::Borrowed(element.get())).collect()
}

/// A part with the text that stands between a string's quotes.
fn part(inner: &str) -> Cow<'static, str> {
    Cow::Owned(format!(r#"{{"type":"text","text":"{inner}"}}"#))
}

/// The message that a server sent in fragments; `None` when nothing of it may go back.
pub(super) fn own(quirks: &Quirks, blocks: &[Box<RawValue>]) -> Option<String> {
    let mut merged: Vec<(Cow<'_, str>, Merged<'_>)> = Vec::new();
    for (name, value) in blocks.iter().filter_map(|block| Members::of(block)).flat_map(|it| it.0) {
        if name == "role" || !quirks.takes_back.have(&name) {
            continue;
        }
        match merged.iter_mut().find(|(member, _)| *member == name) {
            Some((_, there)) => there.add(value),
            None => merged.push((name, Merged::of(value))),
        }
    }
    // Thinking without an outcome is no message.
    if merged.iter().all(|(name, _)| Class::of(name) == Class::Thinking) {
        return None;
    }
    let mut out = open(quirks, |member| merged.iter().any(|(name, _)| name == member));
    for (name, value) in &merged {
        out.push(',');
        out.push_str(&string(name));
        out.push(':');
        value.write(&mut out);
    }
    out.push('}');
    Some(out)
}

/// The message of another provider's model.
pub(super) fn foreign(quirks: &Quirks, blocks: &[Portable<'_>]) -> String {
    let mut texts: Vec<&str> = Vec::new();
    let mut calls: Vec<String> = Vec::new();
    for block in blocks {
        match block {
            Portable::Text(text) => texts.push(text),
            Portable::ToolUse { call_id, name, input } => calls.push(format!(
                r#"{{"id":{},"type":"function","function":{{"name":{},"arguments":{}}}{}}}"#,
                string(call_id),
                string(&portable::tool_name(name, LONGEST_NAME)),
                string(input.get()),
                if calls.is_empty() { quirks.foreign_call } else { "" },
            )),
        }
    }
    let mut out = open(quirks, |member| member == "content" && !texts.is_empty());
    if !texts.is_empty() {
        out.push_str(r#","content":"#);
        out.push_str(&string(&texts.join("\n\n")));
    }
    if !calls.is_empty() {
        out.push_str(r#","tool_calls":["#);
        out.push_str(&calls.join(","));
        out.push(']');
    }
    out.push('}');
    out
}

/// Begins a message, with the members that the server misses otherwise.
fn open(quirks: &Quirks, has: impl Fn(&str) -> bool) -> String {
    let mut out = String::from(r#"{"role":"assistant""#);
    if let Some(due) = quirks.due.filter(|due| !has(due)) {
        out.push(',');
        out.push_str(&string(due));
        out.push_str(r#":"""#);
    }
    if !has("content") {
        out.push_str(r#","content":"#);
        out.push_str(quirks.no_content);
    }
    out
}

/// What any other dialect may say of a fragment.
pub(super) fn portable(block: &RawValue) -> Option<Portable<'_>> {
    let members = Members::of(block)?;
    if let Some(calls) = members.get("tool_calls") {
        let call = Members::of(elements(calls).first()?)?;
        let function = Members::of(call.get("function")?)?;
        let input = function.text("arguments").and_then(|arguments| object_in(&arguments));
        return Some(Portable::ToolUse {
            call_id: call.text("id")?.into_owned(),
            name: function.text("name")?.into_owned(),
            input: input.map_or_else(portable::no_input, Cow::Owned),
        });
    }
    let said = members.get("content").or_else(|| members.get("refusal"))?;
    text(said).filter(|text| !text.is_empty()).map(Portable::Text)
}
