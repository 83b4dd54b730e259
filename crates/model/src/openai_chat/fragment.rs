//! One fragment of an assistant's message while it streams.
//!
//! A fragment becomes a native block: an object with the fragment's one member. Nothing here
//! reads numbers as numbers; what is not text that grows stays the bytes that came.

use std::collections::HashSet;

use serde_json::value::RawValue;

use crate::{
    Block, BlockKind, View,
    members::{Members, elements, object, object_in, raw, string},
    portable::CallIds,
};

/// A fragment being put together.
#[derive(Debug)]
pub(super) enum Fragment {
    /// A member that is a string: `content`, `refusal`, `reasoning`, ….
    Text {
        /// The member.
        member: String,
        /// What has come of it.
        text: String,
    },
    /// A member that is an array: `reasoning_details`, `content` in parts, `annotations`, ….
    List {
        /// The member.
        member: String,
        /// Its elements.
        elements: Vec<Element>,
    },
    /// One call of `tool_calls`.
    Call(Call),
    /// A member of another type; a later value has replaced an earlier one.
    Whole {
        /// The member.
        member: String,
        /// Its value.
        value: Box<RawValue>,
    },
}

/// What a fragment is to others, which decides what may grow behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Text for the user.
    Text,
    /// Thinking.
    Thinking,
    /// A call.
    Call,
    /// Anything else.
    Opaque,
}

impl Class {
    /// The class of a member, by its name.
    pub(super) fn of(member: &str) -> Self {
        match member {
            "content" | "refusal" => Self::Text,
            "tool_calls" => Self::Call,
            _ if member.starts_with("reasoning") || member.starts_with("thinking") => {
                Self::Thinking
            }
            _ => Self::Opaque,
        }
    }

    /// The class of a member that is neither text nor a call, whatever its name.
    fn of_odd(member: &str) -> Self {
        match Self::of(member) {
            Self::Thinking => Self::Thinking,
            _ => Self::Opaque,
        }
    }
}

impl Fragment {
    /// What it is to others.
    pub(super) fn class(&self) -> Class {
        match self {
            Self::Call(_) => Class::Call,
            Self::Text { member, .. } => Class::of(member),
            Self::Whole { member, .. } => Class::of_odd(member),
            Self::List { member, elements } => {
                elements.first().map_or(Class::Opaque, |element| element.class(member))
            }
        }
    }

    /// What kind of block it becomes.
    pub(super) fn kind(&self) -> BlockKind {
        match (self, self.class()) {
            (Self::Call(call), _) => BlockKind::ToolUse { name: call.name.clone() },
            (_, Class::Text) => BlockKind::Text,
            (_, Class::Thinking) => BlockKind::Thinking,
            _ => BlockKind::Opaque,
        }
    }

    /// Ends the fragment. `cut` says that the provider stopped inside of it.
    pub(super) fn finish(self, cut: bool) -> Block {
        let class = self.class();
        let (native, view) = match self {
            Self::Call(call) => return call.finish(cut),
            Self::Text { member, text } => {
                (object([(&*member, &*string(&text))]), Some(View::Text(text)))
            }
            Self::List { member, elements } => {
                let elements: Vec<String> = elements.iter().map(Element::json).collect();
                (object([(&*member, &*format!("[{}]", elements.join(",")))]), None)
            }
            Self::Whole { member, value } => (object([(&*member, value.get())]), None),
        };
        let view = match (class, view) {
            (Class::Text, Some(text)) => text,
            (Class::Thinking, _) => View::Thinking,
            _ => View::Opaque,
        };
        Block { native: raw(native), view }
    }
}

/// One element of a [`Fragment::List`].
#[derive(Debug)]
pub(super) enum Element {
    /// One that came whole.
    Whole(Box<RawValue>),
    /// Thinking that comes in pieces, each an element of its own with a bit more text.
    Growing {
        /// The members, in their order; the text that grows is not up to date here.
        members: Vec<(String, Box<RawValue>)>,
        /// The member that grows.
        grows: &'static str,
        /// Whether its text stands in a part: `[{"type":"text","text":"…"}]`.
        in_part: bool,
        /// What has come of it.
        text: String,
    },
}

impl Element {
    /// Reads an element as it came.
    pub(super) fn new(element: &RawValue) -> Self {
        Self::growing(element).unwrap_or_else(|| Self::Whole(element.to_owned()))
    }

    /// What it is to others as an element of that member.
    pub(super) fn class(&self, member: &str) -> Class {
        match self {
            Self::Growing { .. } => Class::Thinking,
            // A content's parts that are text never become elements.
            Self::Whole(_) => Class::of_odd(member),
        }
    }

    fn growing(element: &RawValue) -> Option<Self> {
        let members = Members::of(element)?;
        // OpenRouter's `reasoning_details`, and Mistral's thinking inside of `content`.
        let (grows, in_part) = match &*members.text("type")? {
            "reasoning.text" => ("text", false),
            "reasoning.summary" => ("summary", false),
            "thinking" => ("thinking", true),
            _ => return None,
        };
        let text = match members.get(grows) {
            None => String::new(),
            Some(value) if value.get() == "null" => String::new(),
            Some(value) if in_part => {
                elements(value).into_iter().map(plain).collect::<Option<String>>()?
            }
            Some(_) => members.text(grows)?.into_owned(),
        };
        let members = members.0.into_iter();
        let members = members.map(|(name, value)| (name.into_owned(), value.to_owned())).collect();
        Some(Self::Growing { members, grows, in_part, text })
    }

    /// Takes the next element as more of this one; gives it back when it is one of its own.
    pub(super) fn grow(&mut self, next: Self) -> Option<Self> {
        let (
            Self::Growing { members, grows, text, .. },
            Self::Growing { members: more_members, grows: more_grows, text: more, .. },
        ) = (&mut *self, &next)
        else {
            return Some(next);
        };
        let value = |members: &[(String, Box<RawValue>)], name: &str| {
            let member = members.iter().find(|(member, _)| member == name);
            member.map(|(_, value)| value.get().to_owned()).filter(|value| value != "null")
        };
        let (index, next_index) = (value(members, "index"), value(more_members, "index"));
        let other_index = index.is_some() && next_index.is_some() && index != next_index;
        // A signature ends what it signs.
        let signed = value(members, "signature").is_some() && !more.is_empty();
        if grows != more_grows || other_index || signed {
            return Some(next);
        }
        text.push_str(more);
        for (name, new) in more_members {
            match members.iter_mut().find(|(member, _)| member == name) {
                Some((_, there)) if there.get() == "null" => there.clone_from(new),
                Some(_) => {}
                None => members.push((name.clone(), new.clone())),
            }
        }
        None
    }

    fn json(&self) -> String {
        match self {
            Self::Whole(element) => element.get().to_owned(),
            Self::Growing { members, grows, in_part, text } => {
                let grown = if *in_part {
                    format!("[{}]", object([("type", r#""text""#), ("text", &string(text))]))
                } else {
                    string(text)
                };
                object(members.iter().map(|(name, value)| {
                    (&**name, if name == grows { &*grown } else { value.get() })
                }))
            }
        }
    }
}

/// The text of a part that is text and nothing else.
pub(super) fn plain(part: &RawValue) -> Option<String> {
    let members = Members::of(part)?;
    let only = members.0.iter().all(|(name, _)| name == "type" || name == "text");
    (only && members.text("type")? == "text")
        .then(|| members.text("text").map(std::borrow::Cow::into_owned))?
}

/// One call of a tool.
#[derive(Debug, Default)]
pub(super) struct Call {
    /// The provider's number of the call, when it has one.
    pub(super) index: Option<u64>,
    /// The provider's id; empty until it came.
    pub(super) id: String,
    /// The tool's name.
    pub(super) name: String,
    /// The input, as far as it came.
    pub(super) arguments: String,
    /// The members besides `index`, `id` and `function`.
    members: Vec<(String, Box<RawValue>)>,
    /// The members of `function` besides `name` and `arguments`.
    function: Vec<(String, Box<RawValue>)>,
}

impl Call {
    /// Reads one piece of a call; `None` when it is none.
    pub(super) fn piece(delta: &RawValue) -> Option<Self> {
        let mut call = Self::default();
        for (name, value) in Members::of(delta)?.0 {
            match &*name {
                _ if value.get() == "null" => {}
                "index" => call.index = serde_json::from_str(value.get()).ok(),
                "id" => call.id = serde_json::from_str(value.get()).ok()?,
                "function" => call.read_function(value)?,
                _ => call.members.push((name.into_owned(), value.to_owned())),
            }
        }
        // Some write the missing id of an optional member.
        if call.id == "null" {
            call.id.clear();
        }
        Some(call)
    }

    fn read_function(&mut self, function: &RawValue) -> Option<()> {
        for (name, value) in Members::of(function)?.0 {
            match &*name {
                _ if value.get() == "null" => {}
                "name" => self.name = serde_json::from_str(value.get()).ok()?,
                // Some write the object where its text belongs.
                "arguments" if value.get().starts_with('{') => {
                    value.get().clone_into(&mut self.arguments);
                }
                "arguments" => self.arguments = serde_json::from_str(value.get()).ok()?,
                _ => self.function.push((name.into_owned(), value.to_owned())),
            }
        }
        Some(())
    }

    /// Whether a piece that came later belongs to this call. Most servers number their calls;
    /// some give every call the number 0, some no number, some no id.
    pub(super) fn continues_with(&self, piece: &Self) -> bool {
        if !piece.id.is_empty() && !self.id.is_empty() {
            return piece.id == self.id && (piece.index.is_none() || piece.index == self.index);
        }
        if piece.index.is_some() && piece.index != self.index {
            return false;
        }
        // A name opens a call, unless it is said once more.
        piece.name.is_empty()
            || (piece.index.is_some()
                && piece.name == self.name
                && object_in(&self.arguments).is_none())
    }

    /// Adds a piece that came later.
    pub(super) fn grow(&mut self, piece: Self) {
        if self.id.is_empty() {
            self.id = piece.id;
        }
        self.arguments.push_str(&piece.arguments);
        for (name, value) in piece.members {
            set(&mut self.members, name, value);
        }
        for (name, value) in piece.function {
            set(&mut self.function, name, value);
        }
    }

    /// Gives the call an id that no call of this response has, if it has none of that kind.
    pub(super) fn name_apart(&mut self, ids: CallIds, seed: &str, taken: &mut HashSet<String>) {
        if self.id.is_empty() || taken.contains(&self.id) {
            self.id = ids.fit(&format!("{seed} {} {}", self.name, taken.len()), taken);
        }
        taken.insert(self.id.clone());
    }

    fn finish(self, cut: bool) -> Block {
        // Some say nothing where there is no input.
        let input = if self.arguments.trim().is_empty() {
            (!cut).then(|| raw("{}".to_owned()))
        } else {
            object_in(&self.arguments)
        };
        // Many servers parse what they are sent back, and refuse the conversation if they can't.
        let arguments = match &input {
            Some(_) if !self.arguments.trim().is_empty() => &*self.arguments,
            _ => "{}",
        };
        let (name, arguments) = (string(&self.name), string(arguments));
        let function = [("name", &*name), ("arguments", &*arguments)].into_iter();
        let function = object(function.chain(borrowed(&self.function)));
        let id = string(&self.id);
        let mut members: Vec<(&str, &str)> = vec![("id", &id)];
        if !self.members.iter().any(|(name, _)| name == "type") {
            members.push(("type", r#""function""#));
        }
        // `type` stands before `function` in all that is written by hand; the rest behind.
        let (kind, rest): (Vec<_>, Vec<_>) =
            borrowed(&self.members).partition(|(name, _)| *name == "type");
        members.extend(kind);
        members.push(("function", &function));
        members.extend(rest);
        let native = object([("tool_calls", &*format!("[{}]", object(members)))]);
        Block {
            native: raw(native),
            view: View::ToolUse { call_id: self.id, name: self.name, input },
        }
    }
}

fn set(members: &mut Vec<(String, Box<RawValue>)>, name: String, value: Box<RawValue>) {
    match members.iter_mut().find(|(member, _)| *member == name) {
        Some((_, there)) => *there = value,
        None => members.push((name, value)),
    }
}

fn borrowed(members: &[(String, Box<RawValue>)]) -> impl Iterator<Item = (&str, &str)> {
    members.iter().map(|(name, value)| (&**name, value.get()))
}
