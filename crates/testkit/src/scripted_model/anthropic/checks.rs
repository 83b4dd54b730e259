//! What the Messages API refuses, looked for in one request by itself.
//!
//! Never compares requests with each other, or with what was sent; that is `conversations` and `replay`.

use std::collections::HashSet;

use axum::http::HeaderMap;
use serde_json::Value;

use super::request::contents;
use crate::scripted_model::outline::list;

const MOST_MARKERS: usize = 4;

pub(super) fn check_headers(headers: &HeaderMap, found: &mut Vec<String>) {
    if !headers.contains_key("x-api-key") && !headers.contains_key("authorization") {
        found.push("neither x-api-key nor Authorization is sent".to_owned());
    }
    if !headers.contains_key("anthropic-version") {
        found.push("anthropic-version is not sent".to_owned());
    }
}

pub(super) fn check_body(body: &Value, found: &mut Vec<String>) {
    if !body["max_tokens"].is_u64() {
        found.push("max_tokens is missing or not a number".to_owned());
    }
    check_tools(list(&body["tools"]), found);
    check_texts("system", &body["system"], found);
    check_messages(list(&body["messages"]), found);
    check_pairs(list(&body["messages"]), found);
    check_markers(body, found);
}

fn check_tools(tools: &[Value], found: &mut Vec<String>) {
    let mut names = HashSet::new();
    for (index, tool) in tools.iter().enumerate() {
        let is_custom = tool["type"].as_str().is_none_or(|kind| kind == "custom");
        match tool["name"].as_str() {
            Some(name) if !names.insert(name) => {
                found.push(format!("tools[{index}]: the name {name:?} is taken"))
            }
            None if is_custom => found.push(format!("tools[{index}] has no name")),
            _ => {}
        }
        if is_custom && tool["input_schema"]["type"] != "object" {
            found.push(format!("tools[{index}].input_schema is not a schema of type object"));
        }
    }
}

fn check_messages(messages: &[Value], found: &mut Vec<String>) {
    if messages.is_empty() {
        found.push("messages is empty".to_owned());
    }
    let mut before = "";
    for (index, message) in messages.iter().enumerate() {
        let role = message["role"].as_str().unwrap_or_default();
        match role {
            "user" | "assistant" => {}
            "system" if before == "user" => {}
            "system" => found.push(format!(
                "messages[{index}] has the role system but does not follow the user's"
            )),
            _ => found.push(format!("messages[{index}] has the unknown role {role:?}")),
        }
        before = role;
        let path = format!("messages[{index}].content");
        match &message["content"] {
            Value::String(text) if text.is_empty() => found.push(format!("{path} is empty")),
            Value::Array(blocks) if blocks.is_empty() => found.push(format!("{path} is empty")),
            Value::String(_) | Value::Array(_) => {}
            _ => found.push(format!("{path} is neither a string nor a list")),
        }
        check_texts(&path, &message["content"], found);
        for (position, block) in list(&message["content"]).iter().enumerate() {
            let place = format!("{path}[{position}]");
            match block["type"].as_str() {
                None => found.push(format!("{place} has no type")),
                Some("tool_use") if role != "assistant" => {
                    found.push(format!("{place}: a tool_use is the assistant's"))
                }
                Some("tool_result") if role != "user" => {
                    found.push(format!("{place}: a tool_result is the user's"))
                }
                Some("tool_result") => {
                    check_texts(&format!("{place}.content"), &block["content"], found)
                }
                Some(_) => {}
            }
        }
    }
}

fn check_texts(path: &str, content: &Value, found: &mut Vec<String>) {
    for (position, block) in list(content).iter().enumerate() {
        if block["type"] == "text"
            && block["text"].as_str().is_none_or(|text| text.trim().is_empty())
        {
            found.push(format!("{path}[{position}] is a text block without text"));
        }
    }
}

// The API merges neighbours of one role, and a system message changes nothing about who speaks.
fn turns(messages: &[Value]) -> Vec<(String, Vec<Value>)> {
    let mut turns: Vec<(String, Vec<Value>)> = Vec::new();
    for message in messages.iter().filter(|message| message["role"] != "system") {
        let role = message["role"].as_str().unwrap_or_default();
        let blocks = contents(&message["content"]);
        match turns.last_mut() {
            Some((last, known)) if last == role => known.extend(blocks),
            _ => turns.push((role.to_owned(), blocks)),
        }
    }
    turns
}

fn check_pairs(messages: &[Value], found: &mut Vec<String>) {
    let turns = turns(messages);
    let mut all = HashSet::new();
    let mut asked: Vec<String> = Vec::new();
    for (index, (role, blocks)) in turns.iter().enumerate() {
        if role != "user" {
            asked.clear();
            for id in
                blocks.iter().filter(|block| block["type"] == "tool_use").map(|block| &block["id"])
            {
                let id = id.as_str().unwrap_or_default().to_owned();
                if id.is_empty() {
                    found.push("a tool_use has no id".to_owned());
                } else if !all.insert(id.clone()) {
                    found.push(format!("the tool_use id {id} is there twice"));
                }
                asked.push(id);
            }
            // With nothing behind it, the last message is the violation, and is reported as such.
            continue;
        }
        let mut answered = HashSet::new();
        let mut other_before = false;
        for block in blocks {
            if block["type"] != "tool_result" {
                other_before = true;
                continue;
            }
            let id = block["tool_use_id"].as_str().unwrap_or_default();
            if !asked.iter().any(|asked| asked == id) {
                found.push(format!(
                    "the tool_result for {id:?} has no tool_use in the assistant message before it"
                ));
            } else if !answered.insert(id) {
                found.push(format!("the tool_use {id} is answered twice"));
            } else if other_before {
                found.push(format!(
                    "the tool_result for {id} stands behind other content in its message"
                ));
            }
        }
        if index > 0 {
            for id in asked.iter().filter(|id| !answered.contains(id.as_str())) {
                found.push(format!("the tool_use {id} is not answered in the next user message"));
            }
        }
        asked.clear();
    }
}

fn check_markers(body: &Value, found: &mut Vec<String>) {
    let mut markers = Vec::new();
    let mut blocks: Vec<(String, &Value)> = Vec::new();
    for name in ["tools", "system"] {
        blocks.extend(list(&body[name]).iter().map(|block| (name.to_owned(), block)));
    }
    for (index, message) in list(&body["messages"]).iter().enumerate() {
        let place = format!("messages[{index}]");
        blocks.extend(list(&message["content"]).iter().map(|block| (place.clone(), block)));
    }
    for (place, block) in &blocks {
        let own = block["cache_control"].is_object();
        if own && matches!(block["type"].as_str(), Some("thinking" | "redacted_thinking")) {
            found.push(format!("{place}: a thinking block cannot carry cache_control"));
        }
        let inner =
            list(&block["content"]).iter().filter(|inner| inner["cache_control"].is_object());
        for marked in inner.chain(own.then_some(*block)) {
            markers.push((place, marked["cache_control"]["ttl"] == "1h"));
        }
    }
    let count = markers.len() + usize::from(body["cache_control"].is_object());
    if count > MOST_MARKERS {
        found.push(format!("{count} cache_control markers, and the API takes {MOST_MARKERS}"));
    }
    if let Some(pair) = markers.windows(2).find(|pair| !pair[0].1 && pair[1].1) {
        found.push(format!("{}: a cache_control of 1h stands behind one of 5m", pair[1].0));
    }
}
