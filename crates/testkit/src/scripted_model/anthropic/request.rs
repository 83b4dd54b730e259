//! A request's body of this wire, read no further than matching a script needs: contents stay raw until somebody asks.
//!
//! Never checks anything; that is `checks` and `replay`.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::scripted_model::wire::{Asked, Wishes};

#[derive(Deserialize)]
pub(super) struct MessagesRequest<'a> {
    #[serde(borrow)]
    model: Cow<'a, str>,
    #[serde(default)]
    stream: bool,
    #[serde(borrow, default)]
    system: Option<&'a RawValue>,
    #[serde(borrow)]
    messages: Vec<Message<'a>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

impl Message<'_> {
    fn blocks(&self) -> Vec<Value> {
        blocks(self.content)
    }
}

impl MessagesRequest<'_> {
    fn last_user(&self) -> Vec<Value> {
        let last = self.messages.iter().rev().find(|message| message.role == "user");
        last.map(Message::blocks).unwrap_or_default()
    }
}

impl Asked for MessagesRequest<'_> {
    fn model(&self) -> &str {
        &self.model
    }

    fn stream(&self) -> bool {
        self.stream
    }

    fn length(&self) -> usize {
        self.messages.len()
    }

    fn last_user_text(&self) -> String {
        let users = self.messages.iter().rev().filter(|message| message.role == "user");
        users
            .map(|message| texts(&message.blocks()))
            .find(|text| !text.is_empty())
            .unwrap_or_default()
    }

    fn last_user_contains(&self, wanted: &str) -> bool {
        let blocks = self.last_user();
        let in_result = |block: &Value| {
            block["type"] == "tool_result" && texts(&contents(&block["content"])).contains(wanted)
        };
        texts(&blocks).contains(wanted) || blocks.iter().any(in_result)
    }

    fn system_contains(&self, wanted: &str) -> bool {
        let turns = self.messages.iter().filter(|message| message.role == "system");
        texts(&blocks(self.system)).contains(wanted)
            || turns.into_iter().any(|turn| texts(&turn.blocks()).contains(wanted))
    }

    fn has_tool_result_for(&self, tool: &str) -> bool {
        let results = self.last_user();
        let ids: Vec<&str> =
            results.iter().filter_map(|block| block["tool_use_id"].as_str()).collect();
        if ids.is_empty() {
            return false;
        }
        let answered = |block: &Value| {
            block["name"] == tool && block["id"].as_str().is_some_and(|id| ids.contains(&id))
        };
        let assistants = self.messages.iter().rev().filter(|message| message.role == "assistant");
        assistants.into_iter().any(|message| message.blocks().iter().any(answered))
    }

    fn wishes(&self) -> Wishes {
        Wishes::default()
    }
}

fn blocks(content: Option<&RawValue>) -> Vec<Value> {
    let parsed = content.and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
    parsed.map(|value| contents(&value)).unwrap_or_default()
}

/// The blocks of a `content`: a string is shorthand for one text block.
pub(super) fn contents(content: &Value) -> Vec<Value> {
    match content {
        Value::String(text) => vec![serde_json::json!({"type": "text", "text": text})],
        Value::Array(blocks) => blocks.clone(),
        _ => Vec::new(),
    }
}

fn texts(blocks: &[Value]) -> String {
    let found: Vec<&str> = blocks
        .iter()
        .filter(|block| block["type"] == "text")
        .filter_map(|block| block["text"].as_str())
        .collect();
    found.join("\n")
}
